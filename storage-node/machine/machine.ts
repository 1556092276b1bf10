/**
 * The state machine of one vshard: Raft entries in, row changes and answers out.
 *
 * Pure and synchronous. The owner reads the rows that a round of entries needs (`collectReads`,
 * `ApplyView`), applies the entries in log order, answers, and writes the view's batch in one piece.
 * Until that is done the machine is ahead of the engine. Everything that an entry does is in that one
 * batch, with the journal row that marks the entry as applied, so that a crash leaves an entry applied
 * as a whole or not at all.
 *
 * Replicas must agree byte for byte, therefore `apply` depends on nothing but the entries before it:
 * no clock (log time comes with the entry), no randomness, no order of a hash table, and no grouping:
 * it does not matter which entries are applied in one round.
 *
 * Invariants:
 * - entries are applied in order of their index, each once;
 * - a command is applied as a whole or not at all: all its conditions are evaluated against the
 *   state before it, and one that fails leaves everything as it was. If its mutations are independent,
 *   that holds for each of them instead, in their order;
 * - every changed key takes the next revision, and every revision has one change record;
 * - log time never decreases: an entry with an earlier one is applied at the time of the one before;
 * - a data row has an expiry row exactly if it expires.
 */
import {
  type Command,
  type EntryBody,
  type Failure,
  type Mutation,
  type MutationResult,
  MutationStatus,
  type PutAction,
  type ResealAction,
  type WriteResult,
} from "#proto/codec/messages.ts";
import { assert, unreachable } from "#shared/assert.ts";
import { type Change, ChangeKind } from "#shared/change.ts";
import type { GroupId, LogIndex, Revision, TenantId, Term } from "#shared/ids.ts";
import { dataRowKey, expiryRowKey, journalRowKey } from "#storage-node/engine/layout.ts";
import { conditionHolds, malformed, refusalOf } from "./command.ts";
import type { Counters, TenantCounters } from "./counters.ts";
import { encodeDataRow, isExpired, type StoredHead } from "./data-row.ts";
import { bucketOf, type DedupeWindow } from "./dedupe.ts";
import { type ChangesSink, encodeJournalRow, type RecordedResult } from "./journal.ts";
import { JournalExtent } from "./journal-extent.ts";
import { RoundReads } from "./round-reads.ts";
import type { ApplyView, ViewRow } from "./view.ts";

/**
 * Answer to one command. `applied` of a `WriteResult` says that no condition failed. A failure was
 * not applied and is not recorded: what became of other copies of the command it does not say.
 */
export type CommandOutcome = WriteResult | Failure;

export type CommittedEntry = {
  readonly index: LogIndex;
  readonly term: Term;
  /** Undefined for an entry without commands: the opening of a term, or a configuration. */
  readonly body: EntryBody | undefined;
};

/** A journal row without changes, and when it may go. */
export type BareRow = { readonly key: Uint8Array; readonly dedupeUntilMs: number };

/** What a machine is made of; built by `loadMachine`, then owned by the machine. */
export type MachineState = {
  group: GroupId;
  appliedIndex: LogIndex;
  appliedTerm: Term;
  logTimeMs: number;
  revision: Revision;
  /** See `JournalRow`. */
  dedupeUntilMs: number;
  dedupe: DedupeWindow;
  /** All journal rows without changes, oldest first. */
  bareRows: BareRow[];
  counters: Counters;
  nextExpiryAtMs: number;
};

/** A mutation with the row it meets. */
type Target = {
  readonly mutation: Mutation;
  readonly row: ViewRow;
  /** As stored, even if expired. */
  readonly stored: StoredHead | undefined;
  /** `stored`, unless it has expired. */
  readonly live: StoredHead | undefined;
};

/** Between two entries. Nothing is ever pushed: `apply` begins with lists of its own. */
const NO_CHANGES: Change[] = [];
const NO_RESULTS: RecordedResult[] = [];

let machinesMade = 0;

export class Machine {
  readonly group: GroupId;
  /** Of this replica's own. */
  readonly journal: JournalExtent;
  readonly #state: MachineState;
  /** Earliest expiry that apply has added since the last `expiryScanBegins`. */
  #earliestExpiryAddedMs = Number.POSITIVE_INFINITY;
  /** A number of its own, so that what is kept of the rows of one machine serves no other. */
  readonly #reads = new RoundReads(++machinesMade);
  // Of the entry being applied.
  #changes: Change[] = NO_CHANGES;
  #results: RecordedResult[] = NO_RESULTS;

  constructor(state: MachineState) {
    this.group = state.group;
    this.#state = state;
    this.journal = new JournalExtent({ revision: state.revision, index: state.appliedIndex });
  }

  /** 0 before the first entry. */
  get appliedIndex(): LogIndex {
    return this.#state.appliedIndex;
  }

  get appliedTerm(): Term {
    return this.#state.appliedTerm;
  }

  /** Log time of the last entry, milliseconds; a leader stamps no entry with less. */
  get logTimeMs(): number {
    return this.#state.logTimeMs;
  }

  /** Of the last change; 0 before the first. */
  get revision(): Revision {
    return this.#state.revision;
  }

  /** No key expires before this log time. Infinity when none expires at all. */
  get nextExpiryAtMs(): number {
    return this.#state.nextExpiryAtMs;
  }

  /** Every request id recorded so far has a deadline of at most this. Milliseconds. */
  get dedupeUntilMs(): number {
    return this.#state.dedupeUntilMs;
  }

  /** Results held for retries. */
  get dedupeSize(): number {
    return this.#state.dedupe.size;
  }

  countersOf(tenant: TenantId): TenantCounters {
    return this.#state.counters.of(tenant);
  }

  /** Of all tenants with data in this vshard. A live view. */
  counters(): ReadonlyMap<TenantId, TenantCounters> {
    return this.#state.counters.all();
  }

  /**
   * Registers the rows that applying `body` will read. Once for each body that is applied in the
   * round of `view`, in log order.
   */
  collectReads(body: EntryBody, view: ApplyView): void {
    for (const command of body.commands) {
      const wellFormed = malformed(command) === undefined;
      for (const mutation of command.mutations) {
        if (wellFormed) this.#reads.collect(mutation, dataRowKey(this.group, mutation), view);
        else this.#reads.collectNothing(mutation);
      }
    }
  }

  /**
   * Applies one entry; returns one outcome per command, in order. `view` must hold the rows that
   * `collectReads` asked for. Every committed entry comes here, also those without commands.
   */
  apply(entry: CommittedEntry, view: ApplyView, sink?: ChangesSink): readonly CommandOutcome[] {
    const state = this.#state;
    const { index, term, body } = entry;
    assert(index === state.appliedIndex + 1, "entries are applied in order, each once");
    assert(term >= state.appliedTerm, "terms do not decrease along the log");
    state.appliedIndex = index;
    state.appliedTerm = term;
    this.#changes = [];
    this.#results = [];
    const outcomes: CommandOutcome[] = [];
    if (body !== undefined) {
      this.#advanceLogTime(body.logTimeMs, view);
      for (const command of body.commands) outcomes.push(this.#applyCommand(command, view));
    }
    this.#writeJournalRow(view);
    if (sink !== undefined) {
      sink.changes = this.#changes;
      sink.logTimeMs = state.logTimeMs;
    }
    this.#reads.entryEnds();
    // A machine lives long and its entries do not: what it keeps of the last one would be copied by
    // every collection of the young generation, for each group of the node.
    this.#changes = NO_CHANGES;
    this.#results = NO_RESULTS;
    return outcomes;
  }

  /** See `expiredKeys`. From now on `nextExpiryAtMs` follows additions only. */
  expiryScanBegins(): void {
    this.#earliestExpiryAddedMs = Number.POSITIVE_INFINITY;
  }

  /** The scan found that no key expires before `earliestMs`, those added meanwhile aside. */
  expiryScanEnds(earliestMs: number): void {
    this.#state.nextExpiryAtMs = Math.min(earliestMs, this.#earliestExpiryAddedMs);
  }

  #advanceLogTime(logTimeMs: number, view: ApplyView): void {
    const state = this.#state;
    const before = bucketOf(state.logTimeMs);
    // A leader with a slow clock may stamp less than its predecessor did; all replicas see the same
    // two numbers, and take the larger.
    state.logTimeMs = Math.max(state.logTimeMs, logTimeMs);
    state.dedupeUntilMs = Math.max(state.dedupeUntilMs, state.logTimeMs);
    const now = bucketOf(state.logTimeMs);
    if (now === before) return;
    state.dedupe.advance(state.logTimeMs);
    // A journal row without changes is of no use to the change log, and once its results have left
    // the dedupe window of none at all. Trimming by revision would never reach such rows in a vshard
    // that only answers "condition failed", so they are dropped here, by every replica alike.
    const { bareRows } = state;
    let dropped = 0;
    while (dropped < bareRows.length && bucketOf(bareRows[dropped]!.dedupeUntilMs) < now) {
      view.deleteUnread(bareRows[dropped]!.key);
      dropped++;
    }
    if (dropped > 0) bareRows.splice(0, dropped);
  }

  #writeJournalRow(view: ApplyView): void {
    const state = this.#state;
    const key = journalRowKey(this.group, { revision: state.revision, index: state.appliedIndex });
    const row = encodeJournalRow({
      term: state.appliedTerm,
      logTimeMs: state.logTimeMs,
      dedupeUntilMs: state.dedupeUntilMs,
      changes: this.#changes,
      results: this.#results,
    });
    view.putUnread(key, row);
    if (this.#changes.length > 0) this.journal.rowAdded(key.length + row.length);
    else state.bareRows.push({ key, dedupeUntilMs: state.dedupeUntilMs });
  }

  #applyCommand(command: Command, view: ApplyView): CommandOutcome {
    const state = this.#state;
    const { requestId, deadlineMs } = command;
    const firstRead = this.#reads.take(command.mutations.length);
    const named = requestId.length !== 0;
    if (named) {
      const earlier = state.dedupe.get(requestId);
      if (earlier !== undefined) return earlier;
    }
    const refusal = refusalOf(command, state.logTimeMs);
    if (refusal !== undefined) return refusal;
    const result =
      command.independent === true
        ? this.#evaluateEach(command, firstRead, view)
        : this.#evaluate(command, firstRead, view);
    if (named) {
      state.dedupe.record(requestId, deadlineMs, result);
      state.dedupeUntilMs = Math.max(state.dedupeUntilMs, deadlineMs);
      this.#results.push({ requestId, deadlineMs, result });
    }
    return result;
  }

  #evaluate(command: Command, firstRead: number, view: ApplyView): WriteResult {
    const targets: Target[] = [];
    let holds = true;
    for (const mutation of command.mutations) {
      const target = this.#target(mutation, firstRead + targets.length, view);
      holds &&= conditionHolds(mutation.condition, target.live);
      targets.push(target);
    }
    const mutations: MutationResult[] = [];
    for (const target of targets) {
      mutations.push(holds ? this.#mutate(target, view) : notApplied(target));
    }
    return { kind: "write", applied: holds, mutations };
  }

  /** Each mutation meets what those before it left, and only its own condition can stop it. */
  #evaluateEach(command: Command, firstRead: number, view: ApplyView): WriteResult {
    const mutations: MutationResult[] = [];
    let applied = true;
    for (const mutation of command.mutations) {
      const target = this.#target(mutation, firstRead + mutations.length, view);
      const holds = conditionHolds(mutation.condition, target.live);
      applied &&= holds;
      mutations.push(holds ? this.#mutate(target, view) : notApplied(target));
    }
    return { kind: "write", applied, mutations };
  }

  #target(mutation: Mutation, read: number, view: ApplyView): Target {
    const row = this.#reads.rowAt(read, mutation);
    const stored = view.get(row);
    const live = stored && !isExpired(stored, this.#state.logTimeMs) ? stored : undefined;
    return { mutation, row, stored, live };
  }

  #mutate(target: Target, view: ApplyView): MutationResult {
    const { mutation, stored, live } = target;
    const { action } = mutation;
    switch (action.kind) {
      case "put":
        return this.#put(target, action, view);
      case "reseal":
        if (live === undefined) return notFound(0 as Revision);
        return this.#reseal(target, live, action, view);
      case "delete":
        // An expired row is left to the sweep: what the client does not see it does not change.
        if (live === undefined) return notFound(0 as Revision);
        return this.#remove(target, live, ChangeKind.Delete, view);
      case "expire":
        if (stored === undefined || live !== undefined) {
          return notFound(live === undefined ? (0 as Revision) : live.revision);
        }
        return this.#remove(target, stored, ChangeKind.Expire, view);
      default:
        return unreachable(action);
    }
  }

  #put(target: Target, action: PutAction, view: ApplyView): MutationResult {
    const { mutation, row, stored, live } = target;
    const { value, contentType, ttlMs } = action;
    const state = this.#state;
    if (stored !== undefined && live === undefined) {
      // The old value has expired and the sweep has not come by. Watchers are to see it end before
      // the new one begins, as if the sweep had.
      this.#remove(target, stored, ChangeKind.Expire, view);
    }
    const revision = this.#nextRevision();
    const expiresAtMs = ttlMs === 0 ? 0 : state.logTimeMs + ttlMs;
    const { logTimeMs: modifiedAtMs } = state;
    const { encoding = 0 } = action;
    const logicalSizeBytes = encoding === 0 ? value.length : (action.logicalSizeBytes ?? 0);
    const bytes = encodeDataRow({
      ...{ revision, modifiedAtMs, expiresAtMs, contentType, value, encoding, logicalSizeBytes },
    });
    view.put(row, bytes, { revision, expiresAtMs, valueSizeBytes: value.length });
    this.#moveExpiry(mutation, live === undefined ? 0 : live.expiresAtMs, expiresAtMs, view);
    if (live === undefined) {
      state.counters.add(mutation.tenant, 1, mutation.key.length + value.length, view);
    } else state.counters.add(mutation.tenant, 0, value.length - live.valueSizeBytes, view);
    this.#changes.push({
      kind: ChangeKind.Put,
      revision,
      previousRevision: live === undefined ? (0 as Revision) : live.revision,
      tenant: mutation.tenant,
      space: mutation.space,
      key: mutation.key,
      valueSizeBytes: logicalSizeBytes,
      expiresAtMs,
    });
    return { status: MutationStatus.Applied, revision, created: live === undefined };
  }

  /**
   * The value is the same, only its bytes are others: nobody who knows the revision has to hear of it.
   * Its condition names the revision, so content type and time of change are those of the stored row.
   */
  #reseal(
    target: Target,
    { revision, expiresAtMs, valueSizeBytes }: StoredHead,
    action: ResealAction,
    view: ApplyView,
  ): MutationResult {
    const { kind: _, ...content } = action;
    const { value } = content;
    const bytes = encodeDataRow({ ...content, revision, expiresAtMs });
    view.put(target.row, bytes, { revision, expiresAtMs, valueSizeBytes: value.length });
    this.#state.counters.add(target.mutation.tenant, 0, value.length - valueSizeBytes, view);
    return { status: MutationStatus.Applied, revision, created: false };
  }

  #remove(
    target: Target,
    row: StoredHead,
    kind: typeof ChangeKind.Delete | typeof ChangeKind.Expire,
    view: ApplyView,
  ): MutationResult {
    const { mutation } = target;
    const revision = this.#nextRevision();
    view.delete(target.row);
    this.#moveExpiry(mutation, row.expiresAtMs, 0, view);
    const sizeBytes = mutation.key.length + row.valueSizeBytes;
    this.#state.counters.add(mutation.tenant, -1, -sizeBytes, view);
    this.#changes.push({
      kind,
      revision,
      previousRevision: row.revision,
      tenant: mutation.tenant,
      space: mutation.space,
      key: mutation.key,
      valueSizeBytes: 0,
      expiresAtMs: 0,
    });
    return { status: MutationStatus.Applied, revision, created: false };
  }

  /** Keeps the expiry row of a key in step with its data row. 0 stands for "never". */
  #moveExpiry(mutation: Mutation, fromMs: number, toMs: number, view: ApplyView): void {
    if (fromMs === toMs) return;
    if (fromMs !== 0) view.deleteUnread(expiryRowKey(this.group, fromMs, mutation));
    if (toMs === 0) return;
    view.putUnread(expiryRowKey(this.group, toMs, mutation), NO_VALUE);
    this.#earliestExpiryAddedMs = Math.min(this.#earliestExpiryAddedMs, toMs);
    this.#state.nextExpiryAtMs = Math.min(this.#state.nextExpiryAtMs, toMs);
  }

  #nextRevision(): Revision {
    const next = (this.#state.revision + 1) as Revision;
    this.#state.revision = next;
    return next;
  }
}

const NO_VALUE = new Uint8Array(0);

function notFound(revision: Revision): MutationResult {
  return { status: MutationStatus.NotFound, revision, created: false };
}

/** Of a command one of whose conditions failed. */
function notApplied({ mutation, live }: Target): MutationResult {
  const status = conditionHolds(mutation.condition, live)
    ? MutationStatus.Skipped
    : MutationStatus.ConditionFailed;
  return { status, revision: live === undefined ? (0 as Revision) : live.revision, created: false };
}
