import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type {
  Condition,
  Get,
  MutationAction,
  OperationBody,
  ResultBody,
  Scan,
  ScanResult,
  ScanRow,
} from "#proto/codec/messages.ts";
import { EMPTY_BYTES, utf8, utf8Decode } from "#shared/bytes.ts";
import { systemClock } from "#shared/clock.ts";
import { ERRORS } from "#shared/errors.ts";
import { FEATURE_VERSION } from "#shared/features.ts";
import { DEFAULT_TENANT, Space, toNodeId } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";
import { vshardOf } from "#shared/vshard.ts";
import { readMapFile, writeMapFile } from "./cluster-files.ts";
import { dataRowKey } from "./engine/layout.ts";
import type { StorageNode } from "./node.ts";
import type { OpenNode } from "./open-node.ts";
import { type OpenSoloOptions, openSoloNode } from "./open-solo.ts";
import { TestGroup } from "./replica/testing.ts";

const clock = systemClock();
const random = systemRandom();
let directory: string;
let fatal: unknown[];
let freeBytes: number;
let opened: OpenNode[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "minikv-node-"));
  fatal = [];
  opened = [];
  freeBytes = 2 ** 40;
});

afterEach(async () => {
  for (const each of opened) await each.close(1_000);
  await rm(directory, { recursive: true, force: true });
  expect(fatal).toEqual([]);
});

/** The map in the data directory becomes that of a newer build. */
async function useNewerFeatures(): Promise<void> {
  const path = join(directory, "cluster-map");
  const map = (await readMapFile(path))!;
  await writeMapFile(path, { ...map, featureVersion: FEATURE_VERSION + 1 });
}

async function open(overrides: Partial<OpenSoloOptions> = {}): Promise<StorageNode> {
  const next = await openSoloNode({
    dataDirectory: directory,
    nodeId: toNodeId(1),
    clusterId: "test",
    engine: "rocksdb",
    walSegmentSizeBytes: 1024 * 1024,
    diskReserveBytes: 1024 * 1024,
    clock,
    random,
    softwareVersion: "test",
    freeSpace: (_path, done) => done(null, freeBytes),
    onFatal: (error) => fatal.push(error),
    onWritable: () => {},
    ...overrides,
  });
  opened.push(next);
  return next.node;
}

function operate(on: StorageNode, key: string, body: OperationBody): Promise<ResultBody> {
  const vshard = vshardOf({ tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8(key) });
  return new Promise((resolve) =>
    on.operate(
      {
        callId: 1,
        vshard,
        deadlineMs: clock.nowMs() + 5_000,
        traceContext: new Uint8Array(0),
        body,
      },
      resolve,
    ),
  );
}

function write(
  on: StorageNode,
  key: string,
  action: MutationAction,
  options: { condition?: Condition; requestId?: Uint8Array; deadlineMs?: number } = {},
): Promise<ResultBody> {
  return operate(on, key, {
    kind: "write",
    command: {
      requestId: options.requestId ?? random.fill(new Uint8Array(16)),
      deadlineMs: options.deadlineMs ?? clock.nowMs() + 5_000,
      mutations: [
        {
          tenant: DEFAULT_TENANT,
          space: Space.Kv,
          key: utf8(key),
          condition: options.condition,
          action,
        },
      ],
    },
  });
}

const put = (on: StorageNode, key: string, value: string, ttlMs = 0, options = {}) =>
  write(on, key, { kind: "put", value: utf8(value), contentType: "text/plain", ttlMs }, options);

const get = (on: StorageNode, key: string) =>
  operate(on, key, {
    kind: "get",
    tenant: DEFAULT_TENANT,
    space: Space.Kv,
    key: utf8(key),
    maxStalenessMs: 0,
    metadataOnly: false,
  });

async function scan(on: StorageNode, change: Partial<Scan>): Promise<ScanResult> {
  const result = await operate(on, "{t}", {
    ...{ kind: "scan", tenant: DEFAULT_TENANT, space: Space.Kv, start: EMPTY_BYTES },
    ...{ end: EMPTY_BYTES, reverse: false, rowsMax: 10, valueBytesMax: 10_000 },
    ...{ keysOnly: false, countOnly: false, maxStalenessMs: 0 },
    ...change,
  });
  if (result.kind !== "scan") throw new Error(`unexpected ${JSON.stringify(result)}`);
  return result;
}

/** Step by step to the end of the range. */
async function scanAll(on: StorageNode, change: Partial<Scan>): Promise<readonly ScanRow[]> {
  const rows: ScanRow[] = [];
  let range = change;
  for (let steps = 0; steps < 100; steps++) {
    const { rows: found, next } = await scan(on, range);
    rows.push(...found);
    if (next.length === 0) return rows;
    range = change.reverse ? { ...range, end: next } : { ...range, start: next };
  }
  throw new Error("the scan does not end");
}

async function valueAt(on: StorageNode, key: string): Promise<string | undefined> {
  const result = await get(on, key);
  if (result.kind !== "get") throw new Error(`unexpected ${JSON.stringify(result)}`);
  return result.found ? utf8Decode(result.value) : undefined;
}

const damagedGet = (): Get => ({
  kind: "get",
  tenant: DEFAULT_TENANT,
  space: Space.Kv,
  key: utf8("bad"),
  maxStalenessMs: 0,
  metadataOnly: false,
});

/** Reads a row that does not decode through the reader alone. */
async function readDamaged(get: Get): Promise<ResultBody> {
  const group = await TestGroup.create(1);
  await group.elect(1);
  const { replica, engine, reader } = group.member(1);
  const batch = engine.batch();
  batch.put(dataRowKey(replica.group, get), new Uint8Array([99, 1, 2, 3]));
  await engine.write(batch);
  return new Promise((resolve) => reader.serveOne(replica, get, resolve));
}

describe("StorageNode", () => {
  it("leads all groups at once and reads back what it wrote", async () => {
    const on = await open();
    expect(await put(on, "a", "one")).toMatchObject({
      kind: "write",
      applied: true,
      mutations: [{ revision: 1, created: true }],
    });
    expect(await get(on, "a")).toMatchObject({
      found: true,
      revision: 1,
      contentType: "text/plain",
    });
    expect(await valueAt(on, "a")).toBe("one");
    expect(await valueAt(on, "b")).toBeUndefined();
    expect(on.serving).toBe(true);
    expect(on.status()).toMatchObject({ groups: 257, groupsLed: 257, writable: true });
  });

  for (const engine of ["rocksdb", "classic-level", "memory"] as const) {
    it(`finds everything again after a restart (${engine})`, async () => {
      const first = await open({ engine });
      const keys = Array.from({ length: 300 }, (_, i) => `key-${i}`);
      await Promise.all(keys.map((key) => put(first, key, `value of ${key}`)));
      await opened[0]!.close(1_000);
      const second = await open({ engine });
      for (const key of keys) expect(await valueAt(second, key)).toBe(`value of ${key}`);
      expect(await put(second, keys[0]!, "again")).toMatchObject({ applied: true });
    });
  }

  for (const engine of ["rocksdb", "classic-level", "memory"] as const) {
    it(`scans what was written, in both directions (${engine})`, async () => {
      const on = await open({ engine });
      const keys = Array.from({ length: 60 }, (_, i) => `key-${String(i).padStart(2, "0")}{t}`);
      await Promise.all(keys.map((key) => put(on, key, `value of ${key}`)));
      await write(on, keys[7]!, { kind: "delete" });
      const expected = keys.filter((_, i) => i !== 7 && i >= 5);
      for (const reverse of [false, true]) {
        const rows = await scanAll(on, { start: utf8("key-05"), reverse, rowsMax: 9 });
        expect(rows.map(({ key }) => utf8Decode(key))).toEqual(
          reverse ? expected.toReversed() : expected,
        );
        for (const { key, value, valueOmitted } of rows) {
          expect(valueOmitted ? "" : utf8Decode(value)).toBe(`value of ${utf8Decode(key)}`);
        }
      }
      const counted = await scan(on, { countOnly: true, rowsMax: 0 });
      expect(counted).toMatchObject({ count: 59, next: EMPTY_BYTES });
      const stale = await scan(on, { maxStalenessMs: 1_000, rowsMax: 1 });
      expect(stale.rows).toHaveLength(1);
    });
  }

  it("applies a retried request once, also across a restart", async () => {
    const requestId = random.fill(new Uint8Array(16));
    const deadlineMs = clock.nowMs() + 30_000;
    const first = await open();
    const answer = await put(first, "k", "v", 0, { requestId, deadlineMs });
    expect(await put(first, "k", "v", 0, { requestId, deadlineMs })).toEqual(answer);
    await opened[0]!.close(1_000);
    const second = await open();
    expect(await put(second, "k", "v", 0, { requestId, deadlineMs })).toEqual(answer);
    expect(await put(second, "k", "w")).toMatchObject({ mutations: [{ revision: 2 }] });
  });

  it("never returns an expired key, and sweeps it", async () => {
    const on = await open();
    await put(on, "short", "lived", 150);
    expect(await valueAt(on, "short")).toBe("lived");
    await new Promise((resolve) => setTimeout(resolve, 160));
    expect(await valueAt(on, "short")).toBeUndefined();
    expect(await put(on, "short", "new")).toMatchObject({ mutations: [{ created: true }] });
    expect(await valueAt(on, "short")).toBe("new");
  });

  it("answers a read of a damaged row with an error, and goes on", async () => {
    const on = await open({ engine: "memory" });
    await put(on, "good", "value");
    expect(await readDamaged(damagedGet())).toMatchObject({
      kind: "failure",
      code: ERRORS.DATA_CORRUPT.wire,
    });
    expect(await valueAt(on, "good")).toBe("value");
  });

  it("refuses writes on a full disk, answers reads, lets deletes pass, and recovers", async () => {
    freeBytes = 3 * 1024 * 1024;
    const on = await open();
    expect(await put(on, "a", "1")).toMatchObject({ applied: true });
    const big = "x".repeat(900_000);
    expect(await put(on, "a", big)).toMatchObject({
      kind: "failure",
      code: ERRORS.STORAGE_FULL.wire,
      notApplied: true,
    });
    expect(on.status().writable).toBe(false);
    expect(await valueAt(on, "a")).toBe("1");
    expect(await write(on, "a", { kind: "delete" })).toMatchObject({ applied: true });
    freeBytes = 2 ** 40;
    await expect.poll(() => put(on, "a", "2"), { timeout: 5_000 }).toMatchObject({ applied: true });
  });

  it("refuses a write whose deadline has passed", async () => {
    const on = await open();
    expect(await put(on, "a", "1", 0, { deadlineMs: clock.nowMs() - 1 })).toMatchObject({
      kind: "failure",
      code: ERRORS.DEADLINE_EXCEEDED.wire,
      notApplied: true,
    });
  });

  it("refuses a second node on its directory", async () => {
    await open();
    await expect(open()).rejects.toThrow(/another process is using/);
  });

  it("answers what runs when it closes, and refuses what comes later", async () => {
    const on = await open();
    const running = Promise.all(Array.from({ length: 50 }, (_, i) => put(on, `k${i}`, "v")));
    await on.close(5_000);
    for (const answer of await running) expect(answer).toMatchObject({ applied: true });
    expect(await put(on, "late", "v")).toMatchObject({
      kind: "failure",
      code: ERRORS.UNAVAILABLE.wire,
      notApplied: true,
    });
  });
});

describe("a build that is older than what its cluster uses", () => {
  it("does not start, says what to update, and leaves the data as it was", async () => {
    await open();
    await opened.pop()!.close(1_000);
    const log = (await readdir(join(directory, "wal"))).sort();
    await useNewerFeatures();
    await expect(open()).rejects.toMatchObject({
      code: "CLUSTER_CONFLICT",
      message: expect.stringMatching(/^this storage node is of an older build .* Update it/),
    });
    expect((await readdir(join(directory, "wal"))).sort()).toEqual(log);
  });
});
