import { describe, expect, it } from "vitest";
import type { OperationBody, ResultBody } from "#proto/codec/messages.ts";
import { utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { DEFAULT_TENANT, Space, toNodeId } from "#shared/ids.ts";
import { START_TIMEOUT_MS } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { vshardOf } from "#shared/vshard.ts";
import type { Engine, EngineBatch } from "./engine/engine.ts";
import { openMemory } from "./engine/memory.ts";
import { ForwardingEngine } from "./engine/testing.ts";
import { StorageNode } from "./node.ts";
import { DiskGuard } from "./replica/disk-guard.ts";
import { replicaParts } from "./replica/open-groups.ts";
import { openSoloGroups } from "./replica/testing.ts";
import { soloTransport } from "./transport/transport.ts";
import { MemoryFileSystem } from "./wal/memory-file-system.ts";
import { openWal } from "./wal/wal.ts";

const VALUE_SIZE_BYTES = 1_000_000;
const KEYS = 24;

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

async function start(
  fs: MemoryFileSystem,
  engine: Engine,
  clock: ManualClock,
): Promise<StorageNode> {
  const random = new SeededRandom(1);
  const onFatal = (error: unknown) => {
    throw error;
  };
  const wal = await openWal({
    directory: "/wal",
    nodeId: toNodeId(1),
    segmentSizeBytes: 4 * 1024 * 1024,
    fs,
    clock,
    random,
    onFatal,
  });
  const parts = replicaParts({ wal, engine, random });
  return StorageNode.start({
    nodeId: toNodeId(1),
    clusterId: "test",
    engine,
    wal,
    replicas: await openSoloGroups(parts),
    replicaParts: parts,
    transport: soloTransport(),
    clock,
    mayCompactLog: false,
    diskGuard: new DiskGuard({
      path: "/",
      reserveBytes: 0,
      clock,
      probe: (_path, done) => done(null, 2 ** 40),
      onChange: () => {},
    }),
    onFatal,
  });
}

/** Lets virtual time pass until `work` has ended. */
async function ended<T>(work: Promise<T>, clock: ManualClock): Promise<T> {
  let running = true;
  const done = (): void => {
    running = false;
  };
  work.then(done, done);
  while (running) {
    clock.advance(1);
    await turn();
  }
  return work;
}

function operate(node: StorageNode, name: string, clock: ManualClock, body: OperationBody) {
  const address = { tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8(name) };
  const deadlineMs = clock.nowMs() + 30_000;
  const traceContext = new Uint8Array(0);
  return new Promise<ResultBody>((resolve) =>
    node.operate({ callId: 1, vshard: vshardOf(address), deadlineMs, traceContext, body }, resolve),
  );
}

describe("StorageNode.start()", () => {
  it("takes as long as applying the log again takes, if that goes on", async () => {
    const clock = new ManualClock();
    const fs = new MemoryFileSystem({ defer: (run) => void setImmediate(run) });
    const first = await ended(start(fs, openMemory(), clock), clock);
    for (let i = 0; i < KEYS; i++) {
      const key = utf8(`key ${i}`);
      const value = new Uint8Array(VALUE_SIZE_BYTES).fill(i);
      const action = { kind: "put", value, contentType: "", ttlMs: 0 } as const;
      const requestId = new Uint8Array(16).fill(i + 1);
      const command = {
        requestId,
        deadlineMs: clock.nowMs() + 30_000,
        mutations: [{ tenant: DEFAULT_TENANT, space: Space.Kv, key, condition: undefined, action }],
      };
      const write = operate(first, `key ${i}`, clock, { kind: "write", command });
      expect(await ended(write, clock)).toMatchObject({ applied: true });
    }
    await ended(first.close(1_000), clock);

    // An engine that takes most of the allowed time for each round of the replay.
    let writes = 0;
    class Slow extends ForwardingEngine {
      override async write(batch: EngineBatch): Promise<void> {
        writes++;
        await this.inner.write(batch);
        await turn();
        clock.advance(START_TIMEOUT_MS * 0.7);
        await turn();
      }
    }
    const again = await ended(start(fs.restarted(), new Slow(openMemory()), clock), clock);
    expect(writes).toBeGreaterThan(2);
    for (let i = 0; i < KEYS; i++) {
      const get: OperationBody = {
        kind: "get",
        tenant: DEFAULT_TENANT,
        space: Space.Kv,
        key: utf8(`key ${i}`),
        maxStalenessMs: 0,
        metadataOnly: true,
      };
      const found = await ended(operate(again, `key ${i}`, clock, get), clock);
      expect(found).toMatchObject({ found: true, valueSizeBytes: VALUE_SIZE_BYTES });
    }
    await ended(again.close(1_000), clock);
  });
});
