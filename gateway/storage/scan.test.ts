/** Scans and counts of `StorageClient` over nodes in memory. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemoryNodes } from "#gateway/testing/memory-nodes.ts";
import { failureOf } from "#proto/codec/failure.ts";
import { compareBytes, EMPTY_BYTES, latin1, utf8, utf8Decode } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { DEFAULT_TENANT, Space, VSHARD_COUNT } from "#shared/ids.ts";
import {
  SCAN_CALLS_MAX,
  SCAN_ROUND_VALUE_BYTES_MAX,
  SCAN_STEP_ROWS_MAX,
  SCAN_STEP_VALUE_BYTES_MAX,
  SCAN_VALUES_AT_ONCE_MIN,
  SCANS_WAITING_MAX,
} from "#shared/limits.ts";
import { vshardOf } from "#shared/vshard.ts";
import { Cancellation } from "./cancellation.ts";
import type { BatchOperation, GetOptions, RowsQuery, ScanPage } from "./storage.ts";

const PAGE = { rowsMax: 100, bytesMax: 1_000_000 };

const queryOf = (change: Partial<RowsQuery> = {}): RowsQuery => ({
  ...{ tenant: DEFAULT_TENANT, start: EMPTY_BYTES, end: EMPTY_BYTES },
  ...{ reverse: false, keysOnly: false, isStream: false },
  ...change,
});

const within = (nodes: MemoryNodes, ms = 5_000): GetOptions => ({
  deadlineMs: nodes.clock.nowMs() + ms,
});

async function store(nodes: MemoryNodes, keys: readonly Uint8Array[], sizeBytes = 3) {
  const operations = keys.map((key): BatchOperation => {
    const value = new Uint8Array(sizeBytes).fill(key.length);
    return { kind: "put", key, value, contentType: "text/plain", ttlMs: 0 };
  });
  const outcomes = await nodes.client.batch(DEFAULT_TENANT, operations, {
    ...within(nodes),
    admitValue: () => undefined,
  });
  expect(outcomes.every(({ kind }) => kind === "stored")).toBe(true);
  nodes.asked.length = 0;
}

const numbered = (count: number, prefix = "key-"): Uint8Array[] =>
  Array.from({ length: count }, (_, i) => utf8(`${prefix}${String(i).padStart(5, "0")}`));

const page = (
  nodes: MemoryNodes,
  change: Partial<RowsQuery> = {},
  limits: Partial<typeof PAGE> = {},
): Promise<ScanPage> =>
  nodes.client.scan(queryOf(change)).nextPage({ ...PAGE, ...limits }, within(nodes));

const keysOf = ({ rows }: ScanPage): string[] => rows.map(({ key }) => utf8Decode(key));

const stepsOf = (nodes: MemoryNodes) =>
  nodes.asked.flatMap(({ operation: { body } }) => (body.kind === "scan" ? [body] : []));

describe("StorageClient.scan()", () => {
  it("merges all vshards of all nodes in byte order, in one round", async () => {
    const nodes = new MemoryNodes({ nodes: 3 });
    const keys = numbered(1_000);
    await store(nodes, keys);
    const first = await page(nodes);
    expect(keysOf(first)).toEqual(keys.slice(0, 100).map(utf8Decode));
    expect(first).toMatchObject({ hasMore: true, lastKey: keys[99] });
    expect(first.rows[0]).toMatchObject({
      ...{ contentType: "text/plain", valueSizeBytes: 3, expiresAtMs: 0 },
      value: new Uint8Array(3).fill(9),
    });
    expect(new Set(nodes.asked.map(({ node }) => node))).toEqual(new Set([1, 2, 3]));
    // Seldom a vshard has so many of the first keys that it has to be asked again.
    expect(stepsOf(nodes).length).toBeLessThan(VSHARD_COUNT + 10);
    const asked = stepsOf(nodes).reduce((sum, { rowsMax }) => sum + rowsMax, 0);
    expect(asked).toBeLessThan(100 + 5 * VSHARD_COUNT);
    const reversed = await page(nodes, { reverse: true }, { rowsMax: 3 });
    expect(keysOf(reversed)).toEqual(keys.slice(-3).reverse().map(utf8Decode));
  });

  it("gives the model's rows, whatever the range, the pages and the steps", async () => {
    const anyKey = fc.uint8Array({ minLength: 1, maxLength: 3, max: 4 });
    const anyBound = fc.option(anyKey, { nil: EMPTY_BYTES });
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(anyKey, { maxLength: 120, selector: latin1 }),
        fc.record({
          start: anyBound,
          end: anyBound,
          reverse: fc.boolean(),
          isStream: fc.boolean(),
        }),
        fc.record({ rowsMax: fc.integer({ min: 1, max: 50 }), bytesMax: fc.nat(60) }),
        fc.constantFrom(1, 2, Number.POSITIVE_INFINITY),
        fc.nat(),
        async (keys, range, limits, stepRowsMax, seed) => {
          const nodes = new MemoryNodes({ nodes: 2, seed });
          await store(nodes, keys);
          nodes.stepRowsMax = stepRowsMax;
          const expected = keys
            .filter((key) => compareBytes(key, range.start) >= 0)
            .filter((key) => range.end.length === 0 || compareBytes(key, range.end) < 0)
            .sort(compareBytes);
          expect(await nodes.client.count(queryOf(range), within(nodes))).toBe(expected.length);
          if (range.reverse) expected.reverse();
          const scan = nodes.client.scan(queryOf(range));
          const seen: Uint8Array[] = [];
          for (let hasMore = true; hasMore; ) {
            const next = await scan.nextPage(limits, within(nodes));
            seen.push(...next.rows.map(({ key }) => key));
            expect(next.rows.length).toBeLessThanOrEqual(limits.rowsMax);
            if (next.hasMore) expect(next.rows.length).toBeGreaterThan(0);
            expect(next.rows.every(({ value }) => value.length === 3)).toBe(true);
            hasMore = next.hasMore;
          }
          expect(seen.map(latin1)).toEqual(expected.map(latin1));
        },
      ),
      { numRuns: 60 },
    );
  });

  it("misses and repeats no key that is there all the time, while others come and go", async () => {
    const nodes = new MemoryNodes({ nodes: 2 });
    const steady = numbered(300);
    await store(nodes, steady);
    const scan = nodes.client.scan(queryOf());
    const seen: string[] = [];
    let round = 0;
    for (let hasMore = true; hasMore; round++) {
      const next = await scan.nextPage({ ...PAGE, rowsMax: 20 }, within(nodes));
      seen.push(...keysOf(next));
      hasMore = next.hasMore;
      const passing = numbered(20, `key-00${round % 3}`);
      await store(nodes, passing);
      const gone = passing.map((key): BatchOperation => ({ kind: "delete", key }));
      if (round % 2 === 0) {
        const options = { ...within(nodes), admitValue: () => undefined };
        await nodes.client.batch(DEFAULT_TENANT, gone, options);
      }
    }
    const names = new Set(steady.map(utf8Decode));
    expect(seen.filter((key) => names.has(key))).toEqual([...names]);
    expect(seen).toEqual([...seen].sort());
  });

  it("asks one vshard only where the query knows it", async () => {
    const nodes = new MemoryNodes({ nodes: 3 });
    const keys = numbered(300, "{t}");
    await store(nodes, [...keys, utf8("other")]);
    const vshard = vshardOf({ tenant: DEFAULT_TENANT, space: Space.Kv, key: keys[0]! });
    const result = await page(nodes, { vshard }, { rowsMax: 200 });
    expect(keysOf(result)).toEqual(keys.slice(0, 200).map(utf8Decode));
    expect(stepsOf(nodes)).toHaveLength(1);
    expect(await nodes.client.count(queryOf({ vshard }), within(nodes))).toBe(300);
    expect(stepsOf(nodes)).toHaveLength(2);
  });

  it("ends a page with its bytes, but not before its first row", async () => {
    const nodes = new MemoryNodes();
    await store(nodes, numbered(10), 1_000);
    expect((await page(nodes, {}, { bytesMax: 1 })).rows).toHaveLength(1);
    const three = await page(nodes, {}, { bytesMax: 3 * 1_009 });
    expect(three.rows).toHaveLength(3);
    expect(three.hasMore).toBe(true);
    const keysOnly = await page(nodes, { keysOnly: true }, { bytesMax: 10 * 9 });
    expect(keysOnly.rows).toHaveLength(10);
    expect(keysOnly.hasMore).toBe(false);
  });

  it("reads large values by themselves, only those in the page", async () => {
    const nodes = new MemoryNodes({ nodes: 2 });
    const sizeBytes = 2 * Math.floor(SCAN_ROUND_VALUE_BYTES_MAX / VSHARD_COUNT);
    const keys = numbered(50);
    await store(nodes, keys, sizeBytes);
    const result = await page(nodes, {}, { rowsMax: 7 });
    expect(keysOf(result)).toEqual(keys.slice(0, 7).map(utf8Decode));
    expect(result.rows.every(({ value }) => value.length === sizeBytes)).toBe(true);
    const gets = nodes.asked.filter(({ operation }) => operation.body.kind === "get");
    expect(gets).toHaveLength(7);
  });

  it("leaves out a key whose large value is gone when it is read", async () => {
    const nodes = new MemoryNodes();
    await store(nodes, numbered(3), SCAN_ROUND_VALUE_BYTES_MAX / 2);
    nodes.intercept = ({ body }) =>
      body.kind === "get" && utf8Decode(body.key) === "key-00002"
        ? { ...ABSENT, kind: "get", found: false }
        : undefined;
    const result = await page(nodes, {}, { bytesMax: 10_000_000 });
    expect(keysOf(result)).toEqual(["key-00000", "key-00001"]);
    expect(result).toMatchObject({ hasMore: false, lastKey: utf8("key-00002") });
  });

  it("asks for no more than a step may give", async () => {
    const nodes = new MemoryNodes();
    await store(nodes, numbered(10, "{t}"));
    const vshard = vshardOf({ tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8("{t}") });
    for (const isStream of [false, true]) {
      await page(nodes, { vshard, isStream }, { rowsMax: SCAN_STEP_ROWS_MAX * 2 });
    }
    for (const { rowsMax } of stepsOf(nodes)) expect(rowsMax).toBe(SCAN_STEP_ROWS_MAX);
  });

  it("a stream reads ahead, and asks again only for what it has not read", async () => {
    const nodes = new MemoryNodes();
    const keys = numbered(2_000);
    await store(nodes, keys);
    const scan = nodes.client.scan(queryOf({ isStream: true }));
    const seen: string[] = [];
    for (let hasMore = true; hasMore; ) {
      const next = await scan.nextPage({ ...PAGE, rowsMax: 200 }, within(nodes));
      seen.push(...keysOf(next));
      hasMore = next.hasMore;
    }
    expect(seen).toEqual(keys.map(utf8Decode));
    expect(stepsOf(nodes).length).toBeLessThan(2 * VSHARD_COUNT);
  });

  it("may be as stale as it is allowed to, in all that it reads", async () => {
    const nodes = new MemoryNodes();
    await store(nodes, numbered(3), SCAN_ROUND_VALUE_BYTES_MAX / 2);
    const options = { ...within(nodes), maxStalenessMs: 700 };
    await nodes.client.scan(queryOf()).nextPage(PAGE, options);
    await nodes.client.count(queryOf(), options);
    for (const { operation } of nodes.asked) {
      expect(operation.body).toMatchObject({ maxStalenessMs: 700 });
    }
  });
});

const ABSENT = {
  ...{ revision: 0 as never, value: EMPTY_BYTES, contentType: "" },
  ...{ expiresAtMs: 0, modifiedAtMs: 0, valueSizeBytes: 0 },
};

describe("a scan that fails", () => {
  it("gives nothing of its page, and cancels what is under way", async () => {
    const nodes = new MemoryNodes({ nodes: 2 });
    await store(nodes, numbered(100));
    nodes.intercept = ({ vshard }) => {
      if (vshard === 9) return failureOf("DATA_CORRUPT", "damaged", { notApplied: true });
      return vshard === 10 ? "never" : undefined;
    };
    await expect(page(nodes)).rejects.toMatchObject({ code: "DATA_CORRUPT", outcome: undefined });
    const counted = nodes.client.count(queryOf(), within(nodes));
    await expect(counted).rejects.toMatchObject({ code: "DATA_CORRUPT" });
    const silent = nodes.asked.filter(({ operation }) => operation.vshard === 10);
    for (const { operation } of silent) expect(nodes.cancelled).toContain(operation.callId);
    nodes.intercept = () => undefined;
    expect((await page(nodes)).rows).toHaveLength(100);
  });

  it("ends when its caller goes away", async () => {
    const nodes = new MemoryNodes();
    const cancellation = new Cancellation();
    nodes.intercept = () => "never";
    const options = { ...within(nodes), cancellation };
    const failed = expect(nodes.client.scan(queryOf()).nextPage(PAGE, options)).rejects;
    await new Promise((resolve) => setImmediate(resolve));
    cancellation.cancel();
    await failed.toMatchObject({ code: "CANCELLED" });
    expect(nodes.cancelled).toHaveLength(VSHARD_COUNT);
    const late = nodes.client.count(queryOf(), options);
    await expect(late).rejects.toMatchObject({ code: "CANCELLED" });
  });
});

describe("many scans at once", () => {
  const RUNNING = SCAN_CALLS_MAX / VSHARD_COUNT;

  it("wait in line, and all are served", async () => {
    const nodes = new MemoryNodes({ nodes: 2 });
    const keys = numbered(30);
    await store(nodes, keys);
    let open = 0;
    nodes.intercept = () => {
      open++;
      return undefined;
    };
    const pages = Array.from({ length: 3 * RUNNING }, () => page(nodes));
    await Promise.resolve();
    expect(open).toBe(SCAN_CALLS_MAX);
    for (const each of await Promise.all(pages)) expect(each.rows).toHaveLength(30);
  });

  it("of one vshard do not wait for those of all", async () => {
    const nodes = new MemoryNodes();
    await store(nodes, numbered(3, "{t}"));
    const vshard = vshardOf({ tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8("{t}") });
    nodes.intercept = (operation) => (operation.vshard === vshard + 1 ? "never" : undefined);
    const stuck = Array.from({ length: RUNNING + 1 }, () =>
      page(nodes).catch((error: { code: string }) => error.code),
    );
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect((await page(nodes, { vshard })).rows).toHaveLength(3);
    expect(await nodes.client.count(queryOf({ vshard }), within(nodes))).toBe(3);
    await nodes.client.close(0);
    expect(await Promise.all(stuck)).toEqual(stuck.map(() => "UNAVAILABLE"));
  });

  it("that count let others have their turn between two steps", async () => {
    const nodes = new MemoryNodes();
    // All in one vshard, in which counting takes many steps.
    await store(nodes, numbered(30, "{t}"));
    nodes.stepRowsMax = 1;
    const ended: string[] = [];
    const counts = Array.from({ length: RUNNING }, async () => {
      const count = await nodes.client.count(queryOf(), within(nodes, 60_000));
      ended.push("count");
      return count;
    });
    const first = page(nodes, {}, { rowsMax: 1 }).then(({ rows }) => {
      ended.push("page");
      return rows;
    });
    expect(await first).toHaveLength(1);
    expect(await Promise.all(counts)).toEqual(counts.map(() => 30));
    expect(ended[0]).toBe("page");
  });

  it("read few values by themselves at the same time, beyond the calls they were given", async () => {
    const nodes = new MemoryNodes();
    const rows = 3 * SCAN_VALUES_AT_ONCE_MIN;
    await store(nodes, numbered(rows, "{t}"), SCAN_STEP_VALUE_BYTES_MAX / 2 + 1);
    const vshard = vshardOf({ tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8("{t}") });
    const getsOpen = () =>
      nodes.asked.filter(({ operation }) => operation.body.kind === "get").length;
    const whole = await page(nodes, { vshard }, { bytesMax: 2 ** 30 });
    expect(whole.rows.map(({ value }) => value.length)).toEqual(
      whole.rows.map(() => SCAN_STEP_VALUE_BYTES_MAX / 2 + 1),
    );
    expect(getsOpen()).toBe(rows - 1);
    nodes.asked.length = 0;
    nodes.intercept = ({ body }) => (body.kind === "get" ? "never" : undefined);
    const stuck = page(nodes, { vshard }, { bytesMax: 2 ** 30 }).catch(() => "stopped");
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(getsOpen()).toBe(SCAN_VALUES_AT_ONCE_MIN);
    await nodes.client.close(0);
    expect(await stuck).toBe("stopped");
  });

  it("give up at their deadline, when their caller goes, and when too many wait", async () => {
    const clock = new ManualClock();
    const nodes = new MemoryNodes({ clock });
    nodes.intercept = () => "never";
    const codes: string[] = [];
    const ask = (ms: number, cancellation?: Cancellation): void => {
      const options = { ...within(nodes, ms), ...(cancellation && { cancellation }) };
      nodes.client
        .scan(queryOf())
        .nextPage(PAGE, options)
        .catch((error: { code: string }) => codes.push(error.code));
    };
    const turns = async () => {
      for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    };
    for (let i = 0; i < RUNNING; i++) ask(50_000);
    await turns();
    expect(nodes.asked).toHaveLength(SCAN_CALLS_MAX);
    const cancellation = new Cancellation();
    ask(50_000, cancellation);
    ask(1_000);
    for (let i = 2; i < SCANS_WAITING_MAX; i++) ask(50_000);
    ask(50_000);
    await turns();
    expect(codes).toEqual(["OVERLOADED"]);
    cancellation.cancel();
    clock.advance(1_000);
    await turns();
    expect(codes).toEqual(["OVERLOADED", "CANCELLED", "DEADLINE_EXCEEDED"]);
    const closed = nodes.client.close(0);
    clock.advance(60_000);
    await closed;
    await turns();
    expect(codes).toHaveLength(RUNNING + SCANS_WAITING_MAX + 1);
  });
});
