/**
 * What the whole group has agreed on so far: the one sequence of committed entries, and every entry
 * that was ever in a log. Checked as it grows, at a cost of what is new.
 *
 * Log matching carries the rest: each pair of index and term is known with its content and its
 * predecessor's term, so a log that holds the last committed entry holds all before it.
 */
import type { LogIndex, Term } from "#shared/ids.ts";
import { decodeConfiguration } from "#storage-node/raft/configuration.ts";
import {
  type Configuration,
  type Entry,
  EntryKind,
  type LogStart,
} from "#storage-node/raft/types.ts";
import { checkSuccession } from "./configurations.ts";
import { digestAfter, type EngineState } from "./engine.ts";
import { numberOf } from "./values.ts";
import { violated } from "./violation.ts";

type Known = { readonly entry: Entry; readonly previousTerm: Term };

export type ConfigurationAt = { readonly index: LogIndex; readonly configuration: Configuration };

export class History {
  /** All entries ever seen at an index: mostly one. */
  readonly #known: Known[][] = [[]];
  readonly #terms: Term[] = [0 as Term];
  readonly #digests: number[] = [0];
  /** In the order of their indexes; the first is that of the start. */
  readonly #configurations: ConfigurationAt[];
  /** Proposed, and neither committed nor ruled out. */
  #proposed: (ConfigurationAt & { readonly term: Term })[] = [];
  /** Where the value with this number was accepted, as index and term. */
  readonly #accepted = new Map<number, LogStart>();

  constructor(first: Configuration) {
    this.#configurations = [{ index: 0 as LogIndex, configuration: first }];
  }

  get committed(): LogIndex {
    return (this.#terms.length - 1) as LogIndex;
  }
  get committedTerm(): Term {
    return this.#terms.at(-1)!;
  }
  /** The last one committed. */
  get configuration(): Configuration {
    return this.#configurations.at(-1)!.configuration;
  }
  get configurationCount(): number {
    return this.#configurations.length;
  }
  get jointCount(): number {
    return this.#configurations.filter(({ configuration }) => configuration.outgoing.length > 0)
      .length;
  }

  termOf(index: LogIndex): Term | undefined {
    return this.#terms[index];
  }

  /** What an engine holds that has applied everything up to `index`. */
  stateAt(index: LogIndex): EngineState {
    return {
      index,
      term: this.#terms[index]!,
      digest: this.#digests[index]!,
      configuration: this.configurationAt(index),
    };
  }

  configurationAt(index: LogIndex): Configuration {
    let at = this.#configurations.length - 1;
    while (this.#configurations[at]!.index > index) at--;
    return this.#configurations[at]!.configuration;
  }

  /** Every configuration that may still come into force somewhere, `from` being applied everywhere. */
  configurationsSince(from: LogIndex): readonly Configuration[] {
    const later = this.#configurations.filter(({ index }) => index > from);
    const open = this.#proposed.filter(({ index }) => index > this.committed);
    const all = [...later, ...open].map(({ configuration }) => configuration);
    return [this.configurationAt(from), ...all];
  }

  accepted(value: number, at: LogStart): void {
    this.#accepted.set(value, at);
  }

  /**
   * An entry is in a log behind one of `previousTerm`. True for one that was never seen before.
   * `previousTerm` is undefined when that log does not hold the predecessor any more.
   */
  entryInLog(entry: Entry, previousTerm: Term | undefined): boolean {
    const known = (this.#known[entry.index] ??= []);
    for (const each of known) {
      if (each.entry.term !== entry.term) continue;
      if (each.entry !== entry && !sameContent(each.entry, entry)) {
        violated("log matching", `two entries ${name(entry)} with different contents`);
      }
      if (previousTerm !== undefined && previousTerm !== each.previousTerm) {
        const terms = `${each.previousTerm} and ${previousTerm}`;
        violated("log matching", `entry ${name(entry)} follows one of terms ${terms}`);
      }
      return false;
    }
    if (previousTerm === undefined) return false;
    known.push({ entry, previousTerm });
    if (entry.kind === EntryKind.Configuration) {
      const configuration = decodeConfiguration(entry.data);
      this.#proposed.push({ index: entry.index, term: entry.term, configuration });
    }
    return true;
  }

  kindOf(index: LogIndex, term: Term | undefined): EntryKind | undefined {
    return this.#known[index]?.find(({ entry }) => entry.term === term)?.entry.kind;
  }

  /** The entry at the next index is committed, in `term`. */
  commit(term: Term): void {
    const index = this.#terms.length as LogIndex;
    const known = this.#known[index]?.find(({ entry }) => entry.term === term);
    if (known === undefined) {
      violated("state machine safety", `${index}@${term} is committed but was in no log`);
    }
    const { entry, previousTerm } = known;
    if (previousTerm !== this.committedTerm) {
      violated(
        "state machine safety",
        `${name(entry)} is committed behind term ${this.committedTerm}, its log has ${previousTerm}`,
      );
    }
    this.#terms.push(term);
    this.#digests.push(digestAfter(this.#digests.at(-1)!, entry));
    if (entry.kind === EntryKind.Configuration) this.#commitConfiguration(entry);
    else this.#commitValue(entry);
  }

  #commitConfiguration(entry: Entry): void {
    const configuration = decodeConfiguration(entry.data);
    checkSuccession(this.configuration, configuration);
    this.#configurations.push({ index: entry.index, configuration });
    this.#proposed = this.#proposed.filter(({ index }) => index > entry.index);
  }

  #commitValue(entry: Entry): void {
    const number = numberOf(entry.data);
    if (number === 0) return;
    const at = this.#accepted.get(number);
    if (at === undefined || at.index !== entry.index || at.term !== entry.term) {
      const where = at === undefined ? "nowhere" : `at ${at.index}@${at.term}`;
      violated(
        "answered is committed",
        `value ${number} is committed at ${name(entry)}, accepted ${where}`,
      );
    }
  }

  /** A replica holds, or claims, that the entry at `index` is committed with `term`. */
  checkCommitted(index: LogIndex, term: Term | undefined, who: number): void {
    if (this.#terms[index] === term) return;
    const committed = `committed was ${index}@${this.#terms[index]}`;
    violated("state machine safety", `${who} has committed ${index}@${term}, ${committed}`);
  }

  checkState(state: EngineState, who: number): void {
    if (this.#digests[state.index] === state.digest) return;
    violated("state machine safety", `${who} has another state than committed at ${state.index}`);
  }
}

const name = (entry: Entry): string => `${entry.index}@${entry.term}`;

function sameContent(a: Entry, b: Entry): boolean {
  if (a.kind !== b.kind || a.data.length !== b.data.length) return false;
  for (let i = 0; i < a.data.length; i++) if (a.data[i] !== b.data[i]) return false;
  return true;
}
