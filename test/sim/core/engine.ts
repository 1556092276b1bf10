/**
 * A model of the storage engine of one replica: the applied state, which survives a crash only as far
 * as it was flushed (or any later point), and snapshots that are staged, then taken over as a whole.
 *
 * The state itself is a digest over everything applied: two replicas at the same index agree in it
 * exactly if they applied the same entries.
 */
import type { LogIndex, Term } from "#shared/ids.ts";
import { decodeConfiguration } from "#storage-node/raft/configuration.ts";
import {
  type Configuration,
  type Entry,
  EntryKind,
  type LogStart,
} from "#storage-node/raft/types.ts";
import { violated } from "./violation.ts";

export type EngineState = {
  readonly index: LogIndex;
  readonly term: Term;
  readonly digest: number;
  readonly configuration: Configuration;
};

/** The digest after one more entry. */
export function digestAfter(digest: number, entry: Entry): number {
  let mixed = Math.imul(digest ^ entry.term, 0x85ebca6b) ^ (entry.data.length * 4 + entry.kind);
  // Values begin with a number of their own (values.ts), configurations differ further back.
  const end = entry.kind === EntryKind.Configuration ? entry.data.length : 4;
  for (let i = 0; i < end && i < entry.data.length; i++) {
    mixed = Math.imul(mixed ^ entry.data[i]!, 0xc2b2ae35);
  }
  return mixed ^ (mixed >>> 15);
}

export class SimEngine {
  #index: LogIndex;
  #term: Term;
  #digest: number;
  #configuration: Configuration;
  #flushed: EngineState;
  /** Received complete and on disk beside the engine; not its state yet. */
  #staged: EngineState[] = [];
  /** To be taken over, in this order. */
  #installing: EngineState[] = [];

  constructor(first: EngineState) {
    this.#index = first.index;
    this.#term = first.term;
    this.#digest = first.digest;
    this.#configuration = first.configuration;
    this.#flushed = first;
  }

  get index(): LogIndex {
    return this.#index;
  }
  get digest(): number {
    return this.#digest;
  }
  get state(): EngineState {
    return {
      index: this.#index,
      term: this.#term,
      digest: this.#digest,
      configuration: this.#configuration,
    };
  }
  /** What the next start finds at least. */
  get flushed(): EngineState {
    return this.#flushed;
  }
  get installing(): boolean {
    return this.#installing.length > 0;
  }

  apply(entry: Entry): void {
    if (entry.index !== this.#index + 1) {
      violated("state machine safety", `entry ${entry.index} is applied behind ${this.#index}`);
    }
    this.#digest = digestAfter(this.#digest, entry);
    this.#index = entry.index;
    this.#term = entry.term;
    if (entry.kind === EntryKind.Configuration) {
      this.#configuration = decodeConfiguration(entry.data);
    }
  }

  flush(): void {
    if (!this.installing) this.#flushed = this.state;
  }

  stage(state: EngineState): void {
    // What the core did not want is thrown away with the next one.
    this.#staged = this.#staged.filter(({ index }) => index > this.#index);
    this.#staged.push(state);
  }

  /** Begins to take over the staged snapshot of `start`. Nothing may be applied until it has. */
  install(start: LogStart): void {
    const found = this.#staged.find(
      ({ index, term }) => index === start.index && term === start.term,
    );
    if (found === undefined) {
      violated("snapshot", `${start.index}@${start.term} is to be installed, but was not received`);
    }
    if (start.index <= this.#index) {
      violated("snapshot", `${start.index} would replace the newer state ${this.#index}`);
    }
    this.#installing.push(found);
  }

  /** The staged snapshot is the engine's state from here on, durably. False when there was none. */
  finishInstall(): boolean {
    const next = this.#installing.shift();
    if (next === undefined) return false;
    this.#become(next);
    return true;
  }

  #become(state: EngineState): void {
    this.#index = state.index;
    this.#term = state.term;
    this.#digest = state.digest;
    this.#configuration = state.configuration;
    this.#flushed = state;
  }

  /**
   * Power is lost. `recovered` picks the state that is found, between the flushed index and the last
   * applied one; `swapped`: a snapshot was just being taken over, and that had reached the disk.
   */
  crash(recovered: (from: LogIndex, to: LogIndex) => EngineState, swapped: boolean): void {
    this.#staged = [];
    if (swapped) this.finishInstall();
    this.#installing = [];
    this.#become(recovered(this.#flushed.index, this.#index));
  }
}
