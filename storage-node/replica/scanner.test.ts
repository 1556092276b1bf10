import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import type { ResultBody, Scan, ScanResult } from "#proto/codec/messages.ts";
import { compareBytes, EMPTY_BYTES, utf8, utf8Decode } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { ERRORS } from "#shared/errors.ts";
import { DEFAULT_TENANT, type Revision, Space, type TenantId } from "#shared/ids.ts";
import { SCAN_STEP_ROWS_READ_MAX, SCAN_STEPS_PENDING_MAX } from "#shared/limits.ts";
import { dataRowKey } from "#storage-node/engine/layout.ts";
import { type DataRow, encodeDataRow } from "#storage-node/machine/data-row.ts";
import { Scanner } from "./scanner.ts";
import { TestGroup } from "./testing.ts";

let group: TestGroup;

afterEach(() => {
  expect(group.fatal).toEqual([]);
});

async function leading(size = 1): Promise<TestGroup> {
  group = await TestGroup.create(size);
  await group.elect(1);
  return group;
}

type Stored = Partial<DataRow> & { readonly tenant?: TenantId; readonly space?: Space };

/** Rows as they would be after writes, put there directly. */
async function store(rows: readonly (readonly [key: string | Uint8Array, row?: Stored])[]) {
  const { engine, replica } = group.member(1);
  const batch = engine.batch();
  for (const [i, [key, row = {}]] of rows.entries()) {
    const { tenant = DEFAULT_TENANT, space = Space.Kv, ...rest } = row;
    const bytes = typeof key === "string" ? utf8(key) : key;
    batch.put(
      dataRowKey(replica.group, { tenant, space, key: bytes }),
      encodeDataRow({
        revision: (i + 1) as Revision,
        modifiedAtMs: 5,
        expiresAtMs: 0,
        contentType: "text/plain",
        value: utf8(`value ${i}`),
        encoding: 0,
        logicalSizeBytes: 0,
        ...rest,
      }),
    );
  }
  await engine.write(batch);
}

async function scan(change: Partial<Scan> = {}): Promise<ResultBody> {
  const answers = group.scan(1, change);
  await group.stabilize();
  expect(answers).toHaveLength(1);
  return answers[0]!;
}

async function found(change: Partial<Scan> = {}): Promise<ScanResult> {
  const result = await scan(change);
  if (result.kind !== "scan") throw new Error(`unexpected ${JSON.stringify(result)}`);
  return result;
}

const keysOf = ({ rows }: ScanResult): string[] => rows.map(({ key }) => utf8Decode(key));
const nextOf = ({ next }: ScanResult): string => utf8Decode(next);

describe("Scanner", () => {
  it("gives the rows of a range in byte order, with all that a read gives", async () => {
    await leading();
    await store([["b", { expiresAtMs: 2 ** 45 }], ["a"], ["c"], ["d"]]);
    const result = await found({ start: utf8("a"), end: utf8("d") });
    expect(keysOf(result)).toEqual(["a", "b", "c"]);
    expect(result).toMatchObject({ kind: "scan", count: 0, next: EMPTY_BYTES });
    expect(result.rows[1]).toEqual({
      key: Buffer.from("b"),
      revision: 1,
      value: Buffer.from("value 0"),
      valueOmitted: false,
      contentType: "text/plain",
      expiresAtMs: 2 ** 45,
      modifiedAtMs: 5,
      encoding: 0,
      valueSizeBytes: 7,
    });
    const reversed = await found({ start: utf8("a"), end: utf8("d"), reverse: true });
    expect(keysOf(reversed)).toEqual(["c", "b", "a"]);
  });

  it("keeps to its tenant and space, also without bounds", async () => {
    await leading();
    const last = new Uint8Array([0xff, 0xff]);
    await store([
      ["a"],
      [last],
      ["other", { tenant: 2 as TenantId }],
      ["other", { space: Space.Meta }],
    ]);
    expect((await found()).rows.map(({ key }) => [...key])).toEqual([[0x61], [...last]]);
    expect((await found({ reverse: true })).rows).toHaveLength(2);
    expect((await found({ countOnly: true })).count).toBe(2);
    expect(keysOf(await found({ tenant: 2 as TenantId }))).toEqual(["other"]);
    expect((await found({ tenant: 3 as TenantId })).rows).toEqual([]);
  });

  it("ends after the rows asked for, and says from where to go on", async () => {
    await leading();
    await store([["a"], ["b"], ["c"]]);
    const two = await found({ rowsMax: 2 });
    expect([keysOf(two), nextOf(two)]).toEqual([["a", "b"], "b\0"]);
    const last = await found({ rowsMax: 2, start: two.next });
    expect([keysOf(last), nextOf(last)]).toEqual([["c"], ""]);
    const down = await found({ rowsMax: 2, reverse: true });
    expect([keysOf(down), nextOf(down)]).toEqual([["c", "b"], "b"]);
    const first = await found({ rowsMax: 2, reverse: true, end: down.next });
    expect([keysOf(first), nextOf(first)]).toEqual([["a"], ""]);
    expect(nextOf(await found({ rowsMax: 3 }))).toBe("");
  });

  it("leaves out values that do not fit, and says so", async () => {
    await leading();
    const sized = (size: number): Stored => ({ value: new Uint8Array(size).fill(1) });
    await store([
      ["a", sized(60)],
      ["b", sized(50)],
      ["c", sized(40)],
      ["d", sized(0)],
    ]);
    const { rows } = await found({ valueBytesMax: 100 });
    expect(
      rows.map(({ valueOmitted, value, valueSizeBytes }) => [
        ...[valueOmitted, value.length, valueSizeBytes],
      ]),
    ).toEqual([
      [false, 60, 60],
      [true, 0, 50],
      [false, 40, 40],
      [false, 0, 0],
    ]);
    const keys = await found({ keysOnly: true });
    expect(keys.rows.every(({ valueOmitted, value }) => valueOmitted && value.length === 0)).toBe(
      true,
    );
  });

  it("says whatever its steps are what one step over everything says", async () => {
    const anyKey = fc.uint8Array({ minLength: 1, maxLength: 3, max: 3 });
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(anyKey, { maxLength: 40, selector: (key) => [...key].join() }),
        fc.option(anyKey, { nil: EMPTY_BYTES }),
        fc.option(anyKey, { nil: EMPTY_BYTES }),
        fc.boolean(),
        fc.integer({ min: 1, max: 7 }),
        async (keys, start, end, reverse, rowsMax) => {
          await leading();
          await store(keys.map((key) => [key]));
          const expected = keys
            .filter((key) => compareBytes(key, start) >= 0)
            .filter((key) => end.length === 0 || compareBytes(key, end) < 0)
            .sort(compareBytes);
          if (reverse) expected.reverse();
          const seen: Uint8Array[] = [];
          let range = { start, end } as Pick<Scan, "start" | "end">;
          for (let steps = 0; ; steps++) {
            expect(steps).toBeLessThanOrEqual(keys.length);
            const { rows, next } = await found({ ...range, reverse, rowsMax });
            seen.push(...rows.map(({ key }) => key));
            if (next.length === 0) break;
            range = reverse ? { ...range, end: next } : { ...range, start: next };
          }
          expect(seen.map((key) => [...key])).toEqual(expected.map((key) => [...key]));
          expect((await found({ start, end, countOnly: true })).count).toBe(expected.length);
        },
      ),
      { numRuns: 40 },
    );
  });

  it("cuts a step short that reads much and finds nothing, and goes on to the end", async () => {
    await leading();
    const count = SCAN_STEP_ROWS_READ_MAX + 10;
    const keys = Array.from({ length: count }, (_, i) => `k${String(i).padStart(6, "0")}`);
    await store(keys.map((key) => [key, { expiresAtMs: 1 }]));
    await store([["z"]]);
    // Stale, because these rows have not come through the log, which could expire them.
    const step = (change: Partial<Scan>) => found({ ...change, maxStalenessMs: 1_000 });
    const first = await step({ rowsMax: 1 });
    expect(first.rows).toEqual([]);
    expect(nextOf(first)).toBe(`${keys[SCAN_STEP_ROWS_READ_MAX - 1]}\0`);
    expect(keysOf(await step({ rowsMax: 1, start: first.next }))).toEqual(["z"]);
    const counted = await step({ countOnly: true });
    expect(counted.count).toBe(0);
    expect((await step({ countOnly: true, start: counted.next })).count).toBe(1);
  });

  it("answers a damaged row with an error, and goes on with the next scan", async () => {
    await leading();
    await store([["a"], ["b"]]);
    const { engine, replica } = group.member(1);
    const batch = engine.batch();
    const address = { tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8("b") };
    batch.put(dataRowKey(replica.group, address), new Uint8Array([99]));
    await engine.write(batch);
    const code = ERRORS.DATA_CORRUPT.wire;
    expect(await scan()).toMatchObject({ kind: "failure", code });
    expect(keysOf(await found({ end: utf8("b") }))).toEqual(["a"]);
  });
});

describe("expired keys", () => {
  it("are left out for good, also by a new leader whose clock is behind", async () => {
    await leading(3);
    group.put(1, "short", 1, 500);
    group.put(1, "long", 2);
    await group.stabilize();
    group.clock.advance(500);
    expect(keysOf(await found())).toEqual(["long"]);
    group.clock.jumpWall(-60_000);
    // As long as they may have heard from the leader they refuse to vote.
    for (const id of [2, 3]) {
      for (let tick = 0; tick < 10; tick++) group.member(id).replica.raft.tick();
    }
    await group.elect(2);
    expect(group.member(2).replica.isLeader).toBe(true);
    const gets = [group.get(2, "short"), group.get(2, "long")];
    await group.stabilize();
    expect(gets.flat()).toMatchObject([{ found: false }, { found: true }]);
  });

  it("cost no entry when the log knows already that they have expired", async () => {
    await leading();
    group.put(1, "short", 1, 500);
    await group.stabilize();
    group.clock.advance(500);
    group.put(1, "other", 2);
    await group.stabilize();
    const { raft } = group.member(1).replica;
    const { lastIndex } = raft;
    expect(keysOf(await found())).toEqual(["other"]);
    expect(raft.lastIndex).toBe(lastIndex);
  });

  it("cost none for a scan that may be stale", async () => {
    await leading();
    group.put(1, "short", 1, 500);
    await group.stabilize();
    group.clock.advance(500);
    const { raft } = group.member(1).replica;
    const { lastIndex } = raft;
    expect((await found({ maxStalenessMs: 1_000 })).rows).toEqual([]);
    expect(raft.lastIndex).toBe(lastIndex);
    // What was answered holds for the next reads of this replica, whatever the clock does.
    group.clock.jumpWall(-60_000);
    expect((await found({ maxStalenessMs: 1_000 })).rows).toEqual([]);
  });
});

describe("the line of steps", () => {
  /** A millisecond passes each time somebody looks. */
  const fastClock = (): Clock => {
    let ms = 0;
    return { nowMs: () => ms, monotonicMs: () => ms++, after: () => () => {} };
  };

  it("lets other work go first after each slice, and comes to its end", async () => {
    await leading();
    const { engine, replica } = group.member(1);
    const scanner = new Scanner({ engine, clock: fastClock(), expire: () => {} });
    const answers: ResultBody[] = [];
    for (let i = 0; i < 20; i++) {
      scanner.serve(replica, group.scanOf(), (body) => answers.push(body));
    }
    expect(scanner.idle).toBe(false);
    let turns = 0;
    while (!scanner.idle && turns < 100) {
      await new Promise((resolve) => setImmediate(resolve));
      turns++;
      // Others may come at any time.
      if (turns === 3) scanner.serve(replica, group.scanOf(), (body) => answers.push(body));
    }
    expect(answers).toHaveLength(21);
    expect(turns).toBeGreaterThan(3);
  });

  it("leaves out steps for whose answers nobody waits any more", async () => {
    await leading();
    const { engine, replica } = group.member(1);
    let reads = 0;
    const iterate = engine.iterate.bind(engine);
    engine.iterate = (options) => {
      reads++;
      return iterate(options);
    };
    const scanner = new Scanner({ engine, clock: group.clock, expire: () => {} });
    const answers: ResultBody[] = [];
    let isWanted = true;
    for (let i = 0; i < 20; i++) {
      const reply = (body: ResultBody): void => void answers.push(body);
      // As operate-stream.ts does it: the caller of all but the first goes away.
      scanner.serve(
        replica,
        group.scanOf(),
        Object.assign(reply, { isWanted: () => i === 0 || isWanted }),
      );
    }
    isWanted = false;
    while (!scanner.idle) await new Promise((resolve) => setImmediate(resolve));
    expect(reads).toBe(1);
    expect(answers.map(({ kind }) => kind)).toEqual(["scan", ...new Array(19).fill("failure")]);
  });

  it("is bounded", async () => {
    await leading();
    const { engine, replica } = group.member(1);
    const scanner = new Scanner({ engine, clock: group.clock, expire: () => {} });
    const refused: ResultBody[] = [];
    for (let i = 0; i < SCAN_STEPS_PENDING_MAX; i++) {
      scanner.serve(replica, group.scanOf({ rowsMax: 1 }), () => {});
    }
    scanner.serve(replica, group.scanOf(), (body) => refused.push(body));
    expect(refused).toMatchObject([{ code: ERRORS.OVERLOADED.wire, notApplied: true }]);
    while (!scanner.idle) await new Promise((resolve) => setImmediate(resolve));
  });
});
