/**
 * For the tests of the machine: a driver that does what the owner of a machine does, a naive model
 * of what commands mean, and arbitrary entries. Used by tests only.
 *
 * The model shares no code with the machine: it keeps one plain map and never forgets a result.
 */
import fc from "fast-check";
import {
  type Command,
  type Condition,
  type EntryBody,
  type Mutation,
  type MutationAction,
  type MutationResult,
  MutationStatus,
} from "#proto/codec/messages.ts";
import { EMPTY_BYTES, latin1, utf8 } from "#shared/bytes.ts";
import { type Change, ChangeKind } from "#shared/change.ts";
import { ERRORS } from "#shared/errors.ts";
import {
  DEFAULT_TENANT,
  type GroupId,
  type LogIndex,
  type Revision,
  Space,
  type TenantId,
  type Term,
} from "#shared/ids.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { Engine, Row } from "#storage-node/engine/engine.ts";
import { type RowKind, rowsOf } from "#storage-node/engine/layout.ts";
import { openMemory } from "#storage-node/engine/memory.ts";
import type { ChangesSink } from "./journal.ts";
import { loadMachine } from "./load.ts";
import type { CommandOutcome, Machine } from "./machine.ts";
import { readRows } from "./read-rows.ts";
import type { RowHeads } from "./row-heads.ts";
import { ApplyView } from "./view.ts";

export const GROUP = 7 as GroupId;
export const START_MS = 1_700_000_000_000;

/** The value, from an engine that answers at once. */
export function atOnce<T>(value: MaybePromise<T>): T {
  if (isPromise(value)) throw new Error("this engine answers at once");
  return value;
}

/** One machine over a memory engine, driven in rounds. */
export class Driver {
  readonly engine: Engine;
  readonly group: GroupId;
  machine: Machine;
  /** Of the entries of the last round. */
  sinks: readonly ChangesSink[] = [];

  readonly #heads: RowHeads | undefined;

  /** With `heads`, as a node does, rows that were written are not read again. */
  constructor(engine: Engine = openMemory(), group: GroupId = GROUP, heads?: RowHeads) {
    this.engine = engine;
    this.group = group;
    this.#heads = heads;
    this.machine = atOnce(loadMachine(group, engine));
  }

  /** Applies entries as one round; returns the outcomes entry by entry. */
  round(bodies: readonly (EntryBody | undefined)[]): readonly (readonly CommandOutcome[])[] {
    const batch = this.engine.batch();
    const view = new ApplyView(batch, this.#heads);
    for (const body of bodies) if (body) this.machine.collectReads(body, view);
    view.fill(atOnce(this.engine.getMany(view.keys())));
    this.sinks = bodies.map(() => ({ changes: undefined, logTimeMs: 0 }));
    const outcomes = bodies.map((body, i) => {
      const index = (this.machine.appliedIndex + 1) as LogIndex;
      return this.machine.apply({ index, term: 1 as Term, body }, view, this.sinks[i]);
    });
    view.finish();
    view.reset();
    atOnce(this.engine.write(batch));
    return outcomes;
  }

  /** One entry with one command, in a round of its own. */
  one(logTimeMs: number, command: Command): CommandOutcome {
    return this.round([{ logTimeMs, commands: [command] }])[0]![0]!;
  }

  restart(): void {
    this.machine = atOnce(loadMachine(this.group, this.engine));
  }

  rows(kind: RowKind): readonly Row[] {
    const rows: Row[] = [];
    const range = rowsOf(kind, this.group);
    const read = readRows(this.engine, range, 100, (row) => {
      rows.push(row);
      return true;
    });
    atOnce(read);
    return rows;
  }

  /** All rows of the engine as text, for comparisons. */
  dump(): readonly string[] {
    const rows: string[] = [];
    const read = readRows(this.engine, {}, 100, ({ key, value }) => {
      rows.push(`${Buffer.from(key).toString("hex")} = ${Buffer.from(value).toString("hex")}`);
      return true;
    });
    atOnce(read);
    return rows;
  }
}

export function requestId(number: number): Uint8Array {
  const id = new Uint8Array(16);
  id[15] = number;
  id[14] = number >>> 8;
  return id;
}

export const put = (value: string, ttlMs = 0): MutationAction => ({
  kind: "put",
  value: utf8(value),
  contentType: "text/plain",
  ttlMs,
});

export function mutation(
  key: string,
  action: MutationAction,
  condition: Partial<Condition> | undefined = undefined,
  tenant: TenantId = DEFAULT_TENANT,
): Mutation {
  const none = { mustBeAbsent: false, mustExist: false, revisionIs: [], revisionIsNot: [] };
  const whole = condition === undefined ? undefined : { ...none, ...condition };
  return { tenant, space: Space.Kv, key: utf8(key), condition: whole, action };
}

/** A command of the system: neither request id nor deadline. */
export const system = (...mutations: Mutation[]): Command => ({
  requestId: EMPTY_BYTES,
  deadlineMs: 0,
  mutations,
});

// ── The model ────────────────────────────────────────────────────────────────────────────────

export type ModelRow = {
  revision: number;
  modifiedAtMs: number;
  expiresAtMs: number;
  contentType: string;
  value: Uint8Array;
  encoding: number;
  logicalSizeBytes: number;
  tenant: TenantId;
  space: Space;
  key: Uint8Array;
};

export type ModelOutcome =
  | { kind: "write"; applied: boolean; mutations: MutationResult[] }
  | { kind: "failure"; code: number };

const BUCKET_MS = 5_000;
const DEADLINE_AHEAD_MS_MAX = 60_000;

export class Model {
  readonly rows = new Map<string, ModelRow>();
  readonly changes: Change[] = [];
  logTimeMs = 0;
  #answers: { id: string; deadlineMs: number; outcome: ModelOutcome }[] = [];

  apply(body: EntryBody): ModelOutcome[] {
    this.logTimeMs = Math.max(this.logTimeMs, body.logTimeMs);
    return body.commands.map((command) => this.#command(command));
  }

  #command(command: Command): ModelOutcome {
    const id = latin1(command.requestId);
    const { deadlineMs } = command;
    const nowBucket = Math.floor(this.logTimeMs / BUCKET_MS);
    const earlier = this.#answers.find(
      (answer) => answer.id === id && Math.floor(answer.deadlineMs / BUCKET_MS) >= nowBucket,
    );
    if (earlier) return earlier.outcome;
    const names = command.mutations.map(nameOf);
    const repeated = new Set(names).size < names.length && !command.independent;
    if (repeated || names.length === 0) {
      return { kind: "failure", code: ERRORS.INVALID_ARGUMENT.wire };
    }
    if (deadlineMs < this.logTimeMs && (id !== "" || deadlineMs > 0)) {
      return { kind: "failure", code: ERRORS.DEADLINE_EXCEEDED.wire };
    }
    if (id !== "" && deadlineMs - this.logTimeMs > DEADLINE_AHEAD_MS_MAX) {
      return { kind: "failure", code: ERRORS.UNAVAILABLE.wire };
    }
    const outcome = command.independent ? this.#each(command) : this.#together(command);
    if (id !== "") this.#answers.push({ id, deadlineMs, outcome });
    return outcome;
  }

  #together({ mutations }: Command): ModelOutcome {
    const held = mutations.map((one) => this.#holds(one));
    const applied = held.every(Boolean);
    const results = mutations.map((one, i): MutationResult => {
      if (applied) return this.#mutate(one);
      const status = held[i] ? MutationStatus.Skipped : MutationStatus.ConditionFailed;
      return this.#unchanged(one, status);
    });
    return { kind: "write", applied, mutations: results };
  }

  #each({ mutations }: Command): ModelOutcome {
    const results = mutations.map((one) =>
      this.#holds(one) ? this.#mutate(one) : this.#unchanged(one, MutationStatus.ConditionFailed),
    );
    const applied = results.every(({ status }) => status !== MutationStatus.ConditionFailed);
    return { kind: "write", applied, mutations: results };
  }

  #holds(one: Mutation): boolean {
    return holds(one.condition, this.#live(one)?.revision);
  }

  #unchanged(one: Mutation, status: MutationStatus): MutationResult {
    return { status, revision: (this.#live(one)?.revision ?? 0) as Revision, created: false };
  }

  #live(one: Mutation): ModelRow | undefined {
    const row = this.rows.get(nameOf(one));
    if (!row || (row.expiresAtMs > 0 && row.expiresAtMs <= this.logTimeMs)) return undefined;
    return row;
  }

  #mutate(one: Mutation): MutationResult {
    const { action } = one;
    const name = nameOf(one);
    const live = this.#live(one);
    const stored = this.rows.get(name);
    const dead = stored !== undefined && live === undefined;
    if (action.kind === "put") {
      if (dead) this.#remove(name, ChangeKind.Expire);
      const revision = (this.changes.length + 1) as Revision;
      const expiresAtMs = action.ttlMs === 0 ? 0 : this.logTimeMs + action.ttlMs;
      const { contentType, value, encoding = 0 } = action;
      const valueSizeBytes = encoding > 0 ? (action.logicalSizeBytes ?? 0) : value.length;
      const encoded = { encoding, logicalSizeBytes: valueSizeBytes };
      const { tenant, space, key } = one;
      const modifiedAtMs = this.logTimeMs;
      this.rows.set(name, {
        ...{ revision, modifiedAtMs, expiresAtMs, contentType, value, tenant, space, key },
        ...encoded,
      });
      const previousRevision = (live?.revision ?? 0) as Revision;
      this.changes.push({
        ...{ kind: ChangeKind.Put, revision, previousRevision, tenant, space, key },
        ...{ valueSizeBytes, expiresAtMs },
      });
      return { status: MutationStatus.Applied, revision, created: !live };
    }
    if (action.kind === "reseal" && live) {
      const { kind: _, ...content } = action;
      this.rows.set(name, { ...live, ...content });
      if (action.encoding === 0) this.rows.get(name)!.logicalSizeBytes = action.value.length;
      return {
        status: MutationStatus.Applied,
        revision: live.revision as Revision,
        created: false,
      };
    }
    if (action.kind === "expire" ? dead : live !== undefined) {
      return this.#remove(name, action.kind === "expire" ? ChangeKind.Expire : ChangeKind.Delete);
    }
    const seen = action.kind === "expire" ? live?.revision : undefined;
    return {
      status: MutationStatus.NotFound,
      revision: (seen ?? 0) as Revision,
      created: false,
    };
  }

  #remove(name: string, kind: ChangeKind): MutationResult {
    const { tenant, space, key, revision: before } = this.rows.get(name)!;
    this.rows.delete(name);
    const revision = (this.changes.length + 1) as Revision;
    const previousRevision = before as Revision;
    this.changes.push({
      ...{ kind, revision, previousRevision, tenant, space, key },
      ...{ valueSizeBytes: 0, expiresAtMs: 0 },
    });
    return { status: MutationStatus.Applied, revision, created: false };
  }
}

export const nameOf = (one: { tenant: TenantId; space: Space; key: Uint8Array }): string =>
  `${one.tenant}/${one.space}/${latin1(one.key)}`;

function holds(condition: Condition | undefined, revision: number | undefined): boolean {
  if (!condition) return true;
  const exists = revision !== undefined;
  if (condition.mustBeAbsent && exists) return false;
  if (condition.mustExist && !exists) return false;
  const { revisionIs, revisionIsNot } = condition;
  if (revisionIs.length > 0 && !(exists && revisionIs.includes(revision))) return false;
  return !(exists && revisionIsNot.includes(revision));
}

// ── Arbitrary entries ────────────────────────────────────────────────────────────────────────

const anyRevisions = (): fc.Arbitrary<number[]> =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constant<number[]>([]) },
    { weight: 1, arbitrary: fc.array(fc.integer({ min: 0, max: 12 }), { maxLength: 4 }) },
  );

const anyCondition = (): fc.Arbitrary<Condition | undefined> =>
  fc.option(
    fc.record({
      mustBeAbsent: fc.constantFrom(false, false, false, true),
      mustExist: fc.constantFrom(false, false, false, true),
      revisionIs: anyRevisions(),
      revisionIsNot: anyRevisions(),
    }),
    { nil: undefined, freq: 2 },
  );

const anyAction = (): fc.Arbitrary<MutationAction> =>
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("put" as const),
        value: fc.uint8Array({ maxLength: 12 }),
        contentType: fc.constantFrom("", "text/plain", "äöü/€"),
        ttlMs: fc.constantFrom(0, 0, 1, 500, 5_000, 20_000),
        encoding: fc.constantFrom(0, 1),
        logicalSizeBytes: fc.constantFrom(0, 5, 1_000),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("reseal" as const),
        value: fc.uint8Array({ maxLength: 20 }),
        contentType: fc.constantFrom("", "text/plain"),
        modifiedAtMs: fc.constantFrom(0, START_MS),
        encoding: fc.constantFrom(0, 1),
        logicalSizeBytes: fc.constantFrom(0, 5, 1_000),
      }),
    },
    { weight: 2, arbitrary: fc.constant({ kind: "delete" as const }) },
    { weight: 1, arbitrary: fc.constant({ kind: "expire" as const }) },
  );

const anyMutation = (): fc.Arbitrary<Mutation> =>
  fc.record({
    tenant: fc.constantFrom(1 as TenantId, 1 as TenantId, 0xffff_ffff as TenantId),
    space: fc.constant(Space.Kv),
    key: fc.constantFrom("a", "b", "c", "ab").map(utf8),
    condition: anyCondition(),
    action: anyAction(),
  });

type Step = {
  readonly stepMs: number;
  readonly commands: readonly {
    readonly id: number;
    readonly aheadMs: number;
    readonly mutations: readonly Mutation[];
    readonly independent: boolean;
  }[];
};

const anyStep = (): fc.Arbitrary<Step> =>
  fc.record({
    stepMs: fc.constantFrom(0, 0, 1, 400, 1_000, 6_000, 61_000, -2_000),
    commands: fc.array(
      fc.record({
        // Few ids, so that many requests are copies of one another. 0: a command of the system.
        id: fc.integer({ min: 0, max: 8 }),
        aheadMs: fc.constantFrom(0, 10_000, 10_000, 4_999, 60_000, 60_001, -1),
        mutations: fc.array(anyMutation(), { minLength: 1, maxLength: 3 }),
        independent: fc.boolean(),
      }),
      { maxLength: 4 },
    ),
  });

/** A history of entries; undefined stands for an entry without commands. */
export const anyEntries = (): fc.Arbitrary<(EntryBody | undefined)[]> =>
  fc
    .array(fc.option(anyStep(), { nil: undefined, freq: 8 }), { minLength: 1, maxLength: 30 })
    .map((steps) => {
      let nowMs = START_MS;
      return steps.map((step) => {
        if (!step) return undefined;
        nowMs += step.stepMs;
        const commands = step.commands.map(({ id, aheadMs, mutations, independent }) => ({
          requestId: id === 0 ? EMPTY_BYTES : requestId(id),
          deadlineMs: id === 0 ? 0 : nowMs + aheadMs,
          mutations,
          independent,
        }));
        return { logTimeMs: nowMs, commands };
      });
    });
