/** What single commands mean, one claim at a time. Histories are in machine.property.test.ts. */
import { describe, expect, it } from "vitest";
import { type Command, type MutationAction, MutationStatus } from "#proto/codec/messages.ts";
import { utf8 } from "#shared/bytes.ts";
import { ChangeKind } from "#shared/change.ts";
import { ERRORS } from "#shared/errors.ts";
import {
  DEFAULT_TENANT,
  type GroupId,
  type LogIndex,
  type Space,
  type TenantId,
  type Term,
} from "#shared/ids.ts";
import { RowKind } from "#storage-node/engine/layout.ts";
import { openMemory } from "#storage-node/engine/memory.ts";
import { decodeDataRow } from "./data-row.ts";
import { decodeJournalRow } from "./journal.ts";
import { atOnce, Driver, mutation, put, requestId, START_MS, system } from "./testing.ts";
import { ApplyView } from "./view.ts";

const AWAY_MS = 10_000;

const named = (id: number, command: Command, deadlineMs = START_MS + AWAY_MS): Command => ({
  ...command,
  requestId: requestId(id),
  deadlineMs,
});

const changesOf = (driver: Driver) =>
  driver.rows(RowKind.Journal).flatMap(({ key, value }) => decodeJournalRow(key, value).changes);

const failureWith = (code: number) => ({ kind: "failure", code, notApplied: true });

const applied = (revision: number, created = false) => ({
  ...{ status: MutationStatus.Applied, revision, created },
});

describe("reseal", () => {
  const reseal = (value: string, modifiedAtMs = START_MS): MutationAction => ({
    ...{ kind: "reseal", value: utf8(value), encoding: 1, logicalSizeBytes: 3 },
    ...{ contentType: "text/plain", modifiedAtMs },
  });

  it("replaces the bytes alone: no revision, no change, the same expiry", () => {
    const driver = new Driver();
    driver.one(START_MS, system(mutation("key", put("one", 500))));
    const command = named(1, system(mutation("key", reseal("other"), { revisionIs: [1] })));
    expect(driver.one(START_MS + 1, command)).toMatchObject({ mutations: [applied(1)] });
    const row = decodeDataRow(driver.rows(RowKind.Data)[0]!.value);
    expect(row).toEqual({
      ...{ revision: 1, modifiedAtMs: START_MS, expiresAtMs: START_MS + 500 },
      ...{ contentType: "text/plain", encoding: 1, logicalSizeBytes: 3 },
      value: expect.objectContaining(utf8("other")),
    });
    expect(driver.rows(RowKind.Expiry)).toHaveLength(1);
    expect(driver.machine.revision).toBe(1);
    expect(changesOf(driver)).toHaveLength(1);
    expect(driver.machine.countersOf(DEFAULT_TENANT)).toEqual({ objects: 1, bytes: 8 });
    driver.restart();
    expect(driver.machine.revision).toBe(1);
    // A copy of the request gets its answer, and undoes nothing that came later.
    driver.one(START_MS + 2, system(mutation("key", reseal("third"), { revisionIs: [1] })));
    expect(driver.one(START_MS + 2, command)).toMatchObject({ mutations: [applied(1)] });
    expect(decodeDataRow(driver.rows(RowKind.Data)[0]!.value).value).toEqual(
      expect.objectContaining(utf8("third")),
    );
  });

  it("leaves a newer value, an expired one and none as they are", () => {
    const driver = new Driver();
    driver.one(START_MS, system(mutation("key", put("one", 500))));
    driver.one(START_MS, system(mutation("key", put("two", 500))));
    const late = system(mutation("key", reseal("x"), { revisionIs: [1] }));
    const failed = { status: MutationStatus.ConditionFailed, revision: 2 };
    expect(driver.one(START_MS, late)).toMatchObject({ mutations: [failed] });
    const absent = { status: MutationStatus.NotFound, revision: 0 };
    const onAny = (key: string) => system(mutation(key, reseal("x")));
    expect(driver.one(START_MS, onAny("none"))).toMatchObject({ mutations: [absent] });
    expect(driver.one(START_MS + 500, onAny("key"))).toMatchObject({ mutations: [absent] });
  });
});

describe("put", () => {
  it("stores value, content type and times, and says whether the key is new", () => {
    const driver = new Driver();
    const first = driver.one(START_MS, system(mutation("key", put("one", 500))));
    expect(first).toEqual({ kind: "write", applied: true, mutations: [applied(1, true)] });
    const stored = decodeDataRow(driver.rows(RowKind.Data)[0]!.value);
    expect(stored).toMatchObject({
      ...{ revision: 1, modifiedAtMs: START_MS, expiresAtMs: START_MS + 500 },
      contentType: "text/plain",
    });
    const second = driver.one(START_MS + 1, system(mutation("key", put("two"))));
    expect(second).toMatchObject({ mutations: [applied(2)] });
  });

  it("without a time to live removes an earlier one", () => {
    const driver = new Driver();
    driver.one(START_MS, system(mutation("key", put("one", 500))));
    driver.one(START_MS, system(mutation("key", put("two"))));
    expect(driver.rows(RowKind.Expiry)).toEqual([]);
    const late = driver.one(START_MS + 500, system(mutation("key", put("3"), { mustExist: true })));
    expect(late).toMatchObject({ applied: true });
  });

  it("over an expired key records the expiry first, and counts as a creation", () => {
    const driver = new Driver();
    driver.one(START_MS, system(mutation("key", put("old", 500))));
    const result = driver.one(START_MS + 500, system(mutation("key", put("new"))));
    expect(result).toMatchObject({ mutations: [applied(3, true)] });
    expect(changesOf(driver)).toMatchObject([
      { kind: ChangeKind.Put, revision: 1, previousRevision: 0 },
      { kind: ChangeKind.Expire, revision: 2, previousRevision: 1 },
      { kind: ChangeKind.Put, revision: 3, previousRevision: 0 },
    ]);
  });

  it("is refused with a time to live that no row can hold", () => {
    const driver = new Driver();
    const ttlMs = Number.MAX_SAFE_INTEGER;
    const command = system(mutation("other", put("v")), mutation("key", put("v", ttlMs)));
    expect(driver.one(START_MS, command)).toMatchObject(failureWith(ERRORS.INVALID_ARGUMENT.wire));
    expect(driver.rows(RowKind.Data)).toEqual([]);
  });
});

describe("delete", () => {
  it("of an absent or expired key finds nothing and takes no revision", () => {
    const driver = new Driver();
    const nothing = { status: MutationStatus.NotFound, revision: 0, created: false };
    const remove = system(mutation("key", { kind: "delete" }));
    expect(driver.one(START_MS, remove)).toMatchObject({ applied: true, mutations: [nothing] });
    driver.one(START_MS, system(mutation("key", put("v", 500))));
    expect(driver.one(START_MS + 500, remove)).toMatchObject({ mutations: [nothing] });
    expect(driver.machine.revision).toBe(1);
    expect(driver.machine.countersOf(DEFAULT_TENANT)).toEqual({ objects: 1, bytes: 4 });
  });

  it("removes the row, its expiry row and the tenant's counters", () => {
    const driver = new Driver();
    driver.one(START_MS, system(mutation("key", put("v", 500))));
    const result = driver.one(START_MS, system(mutation("key", { kind: "delete" })));
    expect(result).toMatchObject({ mutations: [applied(2)] });
    for (const kind of [RowKind.Data, RowKind.Expiry, RowKind.Counters]) {
      expect(driver.rows(kind)).toEqual([]);
    }
  });
});

describe("expire", () => {
  it("removes a key whose time has come, and leaves any other", () => {
    const driver = new Driver();
    const expire = system(mutation("key", { kind: "expire" }));
    driver.one(START_MS, system(mutation("key", put("v", 500))));
    expect(driver.one(START_MS + 499, expire)).toMatchObject({
      mutations: [{ status: MutationStatus.NotFound, revision: 1 }],
    });
    expect(driver.one(START_MS + 500, expire)).toMatchObject({ mutations: [applied(2)] });
    expect(driver.one(START_MS + 500, expire)).toMatchObject({
      mutations: [{ status: MutationStatus.NotFound, revision: 0 }],
    });
  });
});

describe("a command of several mutations", () => {
  it("changes nothing when one condition fails, and says which", () => {
    const driver = new Driver();
    driver.one(START_MS, system(mutation("b", put("v"))));
    const command = system(
      mutation("a", put("v")),
      mutation("b", put("v"), { mustBeAbsent: true }),
      mutation("c", { kind: "delete" }),
    );
    expect(driver.one(START_MS, command)).toEqual({
      kind: "write",
      applied: false,
      mutations: [
        { status: MutationStatus.Skipped, revision: 0, created: false },
        { status: MutationStatus.ConditionFailed, revision: 1, created: false },
        { status: MutationStatus.Skipped, revision: 0, created: false },
      ],
    });
    expect(driver.machine.revision).toBe(1);
  });

  it("is refused when it names a key twice, but not the same key of two tenants", () => {
    const driver = new Driver();
    const twice = system(mutation("a", put("1")), mutation("a", { kind: "delete" }));
    expect(driver.one(START_MS, twice)).toMatchObject(failureWith(ERRORS.INVALID_ARGUMENT.wire));
    const other = mutation("a", put("2"), undefined, 2 as TenantId);
    expect(driver.one(START_MS, system(mutation("a", put("1")), other))).toMatchObject({
      mutations: [applied(1, true), applied(2, true)],
    });
  });

  it("is refused without mutations, and with numbers that no key can hold", () => {
    const driver = new Driver();
    const refused = failureWith(ERRORS.INVALID_ARGUMENT.wire);
    expect(driver.one(START_MS, system())).toMatchObject(refused);
    const wrongSpace = { ...mutation("a", put("v")), space: 256 as Space };
    expect(driver.one(START_MS, system(wrongSpace))).toMatchObject(refused);
    const shortId = { ...system(mutation("a", put("v"))), requestId: utf8("short") };
    expect(driver.one(START_MS, shortId)).toMatchObject(refused);
  });
});

describe("a command of independent mutations", () => {
  const independent = (...mutations: Command["mutations"]): Command => ({
    ...system(...mutations),
    independent: true,
  });

  it("applies each whose own condition holds, and says of each what became of it", () => {
    const driver = new Driver();
    driver.one(START_MS, system(mutation("b", put("v"))));
    const command = independent(
      mutation("a", put("v")),
      mutation("b", put("w"), { mustBeAbsent: true }),
      mutation("c", { kind: "delete" }),
      mutation("b", put("w"), { revisionIs: [1] }),
    );
    expect(driver.one(START_MS, command)).toEqual({
      kind: "write",
      applied: false,
      mutations: [
        applied(2, true),
        { status: MutationStatus.ConditionFailed, revision: 1, created: false },
        { status: MutationStatus.NotFound, revision: 0, created: false },
        applied(3),
      ],
    });
  });

  it("may name a key several times; each mutation meets what the one before it left", () => {
    const driver = new Driver();
    const command = independent(
      mutation("key", put("1", 500)),
      mutation("key", put("2"), { mustBeAbsent: true }),
      mutation("key", { kind: "delete" }),
      mutation("key", put("3"), { mustBeAbsent: true }),
    );
    expect(driver.one(START_MS, command)).toMatchObject({
      mutations: [
        applied(1, true),
        { status: MutationStatus.ConditionFailed, revision: 1 },
        applied(2),
        applied(3, true),
      ],
    });
    expect(changesOf(driver).map(({ kind }) => kind)).toEqual([
      ...[ChangeKind.Put, ChangeKind.Delete, ChangeKind.Put],
    ]);
    expect(driver.rows(RowKind.Expiry)).toEqual([]);
    expect(driver.rows(RowKind.Data)).toHaveLength(1);
  });

  it("is applied once under its request id, also after a restart", () => {
    const driver = new Driver();
    const command = named(1, independent(mutation("a", put("1")), mutation("a", put("2"))));
    const first = driver.one(START_MS, command);
    expect(driver.one(START_MS, command)).toEqual(first);
    driver.restart();
    expect(driver.one(START_MS, command)).toEqual(first);
    expect(driver.machine.revision).toBe(2);
  });
});

describe("request ids", () => {
  it("a copy is answered with the first result and not applied", () => {
    const driver = new Driver();
    const command = named(1, system(mutation("key", put("v"))));
    const first = driver.one(START_MS, command);
    driver.one(START_MS, system(mutation("key", put("other"))));
    expect(driver.one(START_MS + 1, command)).toEqual(first);
    expect(driver.machine.revision).toBe(2);
  });

  it("two copies in one entry or one round are applied once", () => {
    const driver = new Driver();
    const command = named(1, system(mutation("key", put("v"))));
    const entry = { logTimeMs: START_MS, commands: [command, command] };
    const outcomes = driver.round([entry, entry]).flat();
    expect(new Set(outcomes.map((outcome) => JSON.stringify(outcome))).size).toBe(1);
    expect(driver.machine.revision).toBe(1);
  });

  it("a failed condition is recorded: a late copy is not applied though it would hold now", () => {
    const driver = new Driver();
    driver.one(START_MS, system(mutation("key", put("v"))));
    const create = named(1, system(mutation("key", put("w"), { mustBeAbsent: true })));
    const refused = driver.one(START_MS, create);
    expect(refused).toMatchObject({ applied: false });
    driver.one(START_MS, system(mutation("key", { kind: "delete" })));
    driver.restart();
    expect(driver.one(START_MS, create)).toEqual(refused);
    expect(driver.rows(RowKind.Data)).toEqual([]);
  });

  it("a delete that found nothing is recorded too", () => {
    const driver = new Driver();
    const remove = named(1, system(mutation("key", { kind: "delete" })));
    const first = driver.one(START_MS, remove);
    driver.one(START_MS, system(mutation("key", put("v"))));
    expect(driver.one(START_MS, remove)).toEqual(first);
    expect(driver.rows(RowKind.Data)).toHaveLength(1);
  });

  it("a copy with a later deadline is still a copy", () => {
    const driver = new Driver();
    const command = named(1, system(mutation("key", put("v"))));
    const first = driver.one(START_MS, command);
    const later = { ...command, deadlineMs: START_MS + 60_000 };
    expect(driver.one(START_MS + AWAY_MS, later)).toEqual(first);
  });
});

describe("deadlines", () => {
  it("a command is applied up to its deadline, and never after it", () => {
    const driver = new Driver();
    const command = (id: number) => named(id, system(mutation("key", put("v"))), START_MS);
    expect(driver.one(START_MS, command(1))).toMatchObject({ applied: true });
    expect(driver.one(START_MS + 1, command(2))).toMatchObject(
      failureWith(ERRORS.DEADLINE_EXCEEDED.wire),
    );
  });

  it("no copy is applied once its record has left the window", () => {
    const driver = new Driver();
    const command = named(1, system(mutation("key", put("v"))));
    driver.one(START_MS, command);
    const late = driver.one(START_MS + 3_600_000, command);
    expect(driver.machine.dedupeSize).toBe(0);
    expect(late).toMatchObject(failureWith(ERRORS.DEADLINE_EXCEEDED.wire));
    expect(driver.machine.revision).toBe(1);
  });

  it("a deadline further away than the window reaches is refused", () => {
    const driver = new Driver();
    const command = (id: number, deadlineMs: number) =>
      driver.one(START_MS, named(id, system(mutation("key", put("v"))), deadlineMs));
    expect(command(1, START_MS + 60_000)).toMatchObject({ applied: true });
    expect(command(2, START_MS + 60_001)).toMatchObject(failureWith(ERRORS.UNAVAILABLE.wire));
  });

  it("an id that is the beginning of another, or longer, is refused and no copy of it", () => {
    const driver = new Driver();
    const whole = named(0, system(mutation("key", put("v"))));
    expect(whole.requestId).toEqual(new Uint8Array(16));
    driver.one(START_MS, whole);
    for (const sizeBytes of [1, 15, 17]) {
      const other = { ...whole, requestId: new Uint8Array(sizeBytes) };
      expect(driver.one(START_MS, other)).toMatchObject(failureWith(ERRORS.INVALID_ARGUMENT.wire));
    }
  });

  it("commands of the system have none", () => {
    const driver = new Driver();
    expect(driver.one(START_MS, system(mutation("key", put("v"))))).toMatchObject({
      applied: true,
    });
  });
});

describe("log time", () => {
  it("does not go back: an entry with an earlier one is applied at that of the one before", () => {
    const driver = new Driver();
    driver.one(START_MS, system(mutation("a", put("v"))));
    driver.one(START_MS - 1_000, system(mutation("b", put("v", 500))));
    expect(driver.machine.logTimeMs).toBe(START_MS);
    const rows = driver.rows(RowKind.Data).map(({ value }) => decodeDataRow(value));
    expect(rows[1]).toMatchObject({ modifiedAtMs: START_MS, expiresAtMs: START_MS + 500 });
  });

  it("stays with an entry without commands, which still moves the applied index", () => {
    const driver = new Driver();
    driver.one(START_MS, system(mutation("a", put("v"))));
    driver.round([undefined]);
    driver.restart();
    const { logTimeMs, appliedIndex, appliedTerm, revision } = driver.machine;
    expect({ logTimeMs, appliedIndex, appliedTerm, revision }).toEqual({
      ...{ logTimeMs: START_MS, appliedIndex: 2, appliedTerm: 1, revision: 1 },
    });
  });
});

describe("Machine.apply()", () => {
  it("refuses an entry out of order, and one of an earlier term", () => {
    const driver = new Driver();
    const view = new ApplyView(driver.engine.batch());
    const entry = (index: number, term: number) => () =>
      driver.machine.apply({ index: index as LogIndex, term: term as Term, body: undefined }, view);
    expect(entry(2, 1)).toThrow("in order");
    entry(1, 5)();
    expect(entry(1, 5)).toThrow("in order");
    expect(entry(2, 4)).toThrow("terms do not decrease");
  });

  it("refuses to guess a row that was not needed for it, or not read", () => {
    const body = { logTimeMs: START_MS, commands: [system(mutation("key", put("v")))] };
    const entry = { index: 1 as LogIndex, term: 1 as Term, body };
    const one = new Driver();
    const view = new ApplyView(one.engine.batch());
    expect(() => one.machine.apply(entry, view)).toThrow("in the order of their reads");
    const other = new Driver();
    other.machine.collectReads(body, view);
    expect(() => other.machine.apply(entry, view)).toThrow("were filled");
  });

  it("writes few rows: data, journal and counters for a new key, two when its size stays", () => {
    const driver = new Driver();
    const rowsWritten = (value: string): number => {
      const batch = driver.engine.batch();
      const view = new ApplyView(batch);
      const command = system(mutation("key", put(value)));
      const body = { logTimeMs: START_MS, commands: [command] };
      driver.machine.collectReads(body, view);
      view.fill(atOnce(driver.engine.getMany(view.keys())));
      const index = (driver.machine.appliedIndex + 1) as LogIndex;
      driver.machine.apply({ index, term: 1 as Term, body }, view);
      view.finish();
      atOnce(driver.engine.write(batch));
      return batch.count;
    };
    expect([rowsWritten("one"), rowsWritten("two")]).toEqual([3, 2]);
  });

  it("keeps groups apart that share an engine", () => {
    const engine = openMemory();
    const one = new Driver(engine, 1 as GroupId);
    const other = new Driver(engine, 2 as GroupId);
    one.one(START_MS, system(mutation("key", put("v"))));
    const found = other.one(START_MS, system(mutation("key", put("w"), { mustBeAbsent: true })));
    expect(found).toMatchObject({ applied: true });
    one.restart();
    other.restart();
    expect([one.machine.revision, other.machine.revision]).toEqual([1, 1]);
    expect(one.rows(RowKind.Data)).toHaveLength(1);
  });
});
