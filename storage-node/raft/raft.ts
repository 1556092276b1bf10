/**
 * One replica of one Raft group, as a pure state machine: no I/O, no clock, no waiting.
 *
 * The owner drives it (`tick`, `step`, `propose`, `readIndex`), does what `ready` says, and reports
 * back (`appended`, `applied`). The contract of `Ready` is in types.ts, the reasons are in README.md.
 */

import { AssertionError } from "#shared/assert.ts";
import type { LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import type {
  AppendTicket,
  LogStart,
  Message,
  ProposeResult,
  RaftOptions,
  RaftStatus,
  ReadIndexResult,
  ReadToken,
  Ready,
  Role,
} from "./types.ts";

const absent = (): never => {
  throw new AssertionError("the Raft core is being written");
};

export class Raft {
  readonly options: RaftOptions;

  /** @throws AssertionError when the recovered state contradicts itself. */
  constructor(options: RaftOptions) {
    this.options = options;
  }

  get role(): Role {
    return absent();
  }
  get term(): Term {
    return absent();
  }
  /** 0 when unknown. */
  get leader(): ReplicaId {
    return absent();
  }
  get commit(): LogIndex {
    return absent();
  }
  get lastIndex(): LogIndex {
    return absent();
  }
  get durableIndex(): LogIndex {
    return absent();
  }
  get logStart(): LogStart {
    return absent();
  }
  /** Term of the entry at `index`; undefined when compacted away or beyond the log. */
  termAt(_index: LogIndex): Term | undefined {
    return absent();
  }
  /** One unit of time has passed. */
  tick(): void {
    absent();
  }
  /** Takes in one message from another replica. */
  step(_message: Message): void {
    absent();
  }
  /** Stands for election now. False when it may not (already leader, no voter, …). */
  campaign(): boolean {
    return absent();
  }
  /** Appends `data` (kept, must not change any more) to the log if this replica leads. */
  propose(_data: Uint8Array): ProposeResult {
    return absent();
  }
  /** Asks for the index at which a read is linearizable. */
  readIndex(_token: ReadToken): ReadIndexResult {
    return absent();
  }
  /** Whether `ready` would hold anything. Cheap. */
  hasReady(): boolean {
    return absent();
  }
  /** Hands out each duty exactly once. */
  ready(): Ready {
    return absent();
  }
  /** The batch of this ticket, and with it every earlier one, is durable. */
  appended(_ticket: AppendTicket): void {
    absent();
  }
  /** The engine holds the effects of all entries up to and with `index`. */
  applied(_index: LogIndex): void {
    absent();
  }
  /** Drops log entries up to and with `index`, which must be applied and durable. */
  compact(_index: LogIndex): void {
    absent();
  }
  status(): RaftStatus {
    return absent();
  }
}
