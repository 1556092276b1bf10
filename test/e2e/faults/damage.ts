/**
 * Data directories of killed servers, damaged copies of them, and what a whole storage node makes of
 * a copy when it is opened in this process (some 20 ms each, so hundreds can be tried).
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import type { OperationBody, ResultBody } from "#proto/codec/messages.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { systemClock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT, Space, toNodeId } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";
import type { EngineKind } from "#storage-node/engine/open.ts";
import type { StorageNode } from "#storage-node/node.ts";
import { openSoloNode } from "#storage-node/open-solo.ts";
import type { Deployment } from "#test/e2e/harness.ts";
import { KvClient } from "./kv-client.ts";
import { shardOf } from "./ledger.ts";
import { framesOf, segmentPaths } from "./log-files.ts";
import { makePayload, verifyPayload } from "./payload.ts";

const OPERATION_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 1_000;
const SEAL_TIMEOUT_MS = 10_000;
const SEGMENT_SIZE_BYTES = 1024 * 1024;

/** Undefined for a key that does not exist. */
export type Contents = ReadonlyMap<string, number | undefined>;

/** Writes small values, overwrites some and deletes some; answers what is there in the end. */
export async function fill(server: Deployment, keyCount: number): Promise<Contents> {
  const client = new KvClient(server.url);
  const contents = new Map<string, number | undefined>();
  const put = async (key: string, sequence: number): Promise<void> => {
    const body = makePayload({ key, sequence }, 60 + ((sequence * 37) % 200));
    const { status } = await client.answer("PUT", key, { body });
    if (status !== 200 && status !== 201) throw new Error(`PUT ${key}: ${status}`);
    contents.set(key, sequence);
  };
  for (let i = 0; i < keyCount; i++) await put(`key-${i}`, i + 1);
  for (let i = 0; i < keyCount; i += 3) await put(`key-${i}`, keyCount + i);
  for (let i = 1; i < keyCount; i += 4) {
    await client.answer("DELETE", `key-${i}`);
    contents.set(`key-${i}`, undefined);
  }
  client.close();
  return contents;
}

/** Waits until the newest segment ends with a frame that calls everything before it durable. */
export async function waitForSeal(dataDir: string): Promise<void> {
  const untilMs = performance.now() + SEAL_TIMEOUT_MS;
  let before = -1;
  while (performance.now() < untilMs) {
    const last = framesOf(readFileSync(segmentPaths(dataDir).at(-1)!)).at(-1)!;
    // Twice the same: not a batch under load, which also speaks of the one before it.
    if (last.crc === before) return;
    before = last.crc;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("the log was never idle");
}

/** A copy that may be damaged; remove it when done. */
export class Copy {
  readonly dataDir = mkdtempSync(join(tmpdir(), "minikv-copy-"));

  constructor(dataDir: string) {
    // What is only prepared is thrown away at every start.
    cpSync(dataDir, this.dataDir, {
      recursive: true,
      filter: (path) => basename(path) !== "prepared.tmp",
    });
  }

  get newestSegment(): string {
    return segmentPaths(this.dataDir).at(-1)!;
  }

  writeNewest(bytes: Uint8Array): void {
    writeFileSync(this.newestSegment, bytes);
  }

  remove(): void {
    rmSync(this.dataDir, { recursive: true, force: true });
  }
}

export type Opening =
  | { readonly kind: "opened"; readonly contents: Contents; readonly tornTail: boolean }
  | { readonly kind: "refused"; readonly error: KvError };

/**
 * Opens the directory, reads `keys`, writes and reads one more key, and closes.
 *
 * @throws Error for whatever is neither an answer nor a refusal.
 */
export async function tryOpening(
  dataDir: string,
  engine: EngineKind,
  keys: Iterable<string>,
): Promise<Opening> {
  const fatal: unknown[] = [];
  try {
    const opened = await openSoloNode({
      dataDirectory: dataDir,
      nodeId: toNodeId(1),
      clusterId: undefined,
      engine,
      walSegmentSizeBytes: SEGMENT_SIZE_BYTES,
      diskReserveBytes: 0,
      clock: systemClock(),
      random: systemRandom(),
      softwareVersion: "test",
      freeSpace: (_path, done) => done(null, 2 ** 40),
      onFatal: (error) => fatal.push(error),
      onWritable: () => {},
    });
    try {
      const contents = new Map<string, number | undefined>();
      for (const key of keys) contents.set(key, await read(opened.node, key));
      await write(opened.node, "written-after", 1);
      if ((await read(opened.node, "written-after")) !== 1) throw new Error("not written");
      if (fatal.length > 0) throw fatal[0];
      return { kind: "opened", contents, tornTail: opened.node.status().recoveredTornTail };
    } finally {
      await opened.close(CLOSE_TIMEOUT_MS);
    }
  } catch (error) {
    if (error instanceof KvError && fatal.length === 0) return { kind: "refused", error };
    throw error;
  }
}

async function read(node: StorageNode, key: string): Promise<number | undefined> {
  const result = await operate(node, key, {
    kind: "get",
    tenant: DEFAULT_TENANT,
    space: Space.Kv,
    key: utf8(key),
    maxStalenessMs: 0,
    metadataOnly: false,
  });
  if (result.kind !== "get") throw new Error(`GET ${key}: ${JSON.stringify(result)}`);
  return result.found ? verifyPayload(key, Buffer.from(result.value)) : undefined;
}

async function write(node: StorageNode, key: string, sequence: number): Promise<void> {
  const result = await operate(node, key, {
    kind: "write",
    command: {
      requestId: systemRandom().fill(new Uint8Array(16)),
      deadlineMs: Date.now() + OPERATION_TIMEOUT_MS,
      mutations: [
        {
          tenant: DEFAULT_TENANT,
          space: Space.Kv,
          key: utf8(key),
          condition: undefined,
          action: {
            kind: "put",
            value: makePayload({ key, sequence }, 100),
            contentType: "text/plain",
            ttlMs: 0,
          },
        },
      ],
    },
  });
  if (result.kind !== "write") throw new Error(`PUT ${key}: ${JSON.stringify(result)}`);
}

function operate(node: StorageNode, key: string, body: OperationBody): Promise<ResultBody> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(reject, OPERATION_TIMEOUT_MS, new Error(`${key}: no answer`));
    const deadlineMs = Date.now() + OPERATION_TIMEOUT_MS;
    const operation = { callId: 1, vshard: shardOf(key), deadlineMs, traceContext: EMPTY_BYTES };
    node.operate({ ...operation, body }, (result) => {
      clearTimeout(timer);
      resolve(result);
    });
  });
}
