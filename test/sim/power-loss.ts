/**
 * A whole storage node over a simulated disk that loses power, again and again, at any operation.
 *
 * The real node (Raft, log, machine, ready loop) runs over a file system in memory that forgets
 * what was not synced, sector by sector, and an engine that forgets what was not flushed. Clients
 * write verifiable values, one request in flight per key. At a seeded file operation the disk stops
 * answering: that is the power loss. A new node starts on what is left, and everything that was ever
 * acknowledged must be there. Requests without an answer are looked at, or sent again under their
 * old request id, and must then have exactly one effect.
 */
import type { MutationAction, ResultBody } from "#proto/codec/messages.ts";
import { assert } from "#shared/assert.ts";
import { utf8, utf8Decode } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { DEFAULT_TENANT, Space, toNodeId } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { vshardOf } from "#shared/vshard.ts";
import { MemoryDisk, openMemory } from "#storage-node/engine/memory.ts";
import { StorageNode } from "#storage-node/node.ts";
import { DiskGuard } from "#storage-node/replica/disk-guard.ts";
import { replicaParts } from "#storage-node/replica/open-groups.ts";
import { openSoloGroups } from "#storage-node/replica/testing.ts";
import { soloTransport } from "#storage-node/transport/transport.ts";
import { MemoryFileSystem } from "#storage-node/wal/memory-file-system.ts";
import { openWal } from "#storage-node/wal/wal.ts";

const KEYS = 24;
const LIVES = 6;
const STEPS_PER_LIFE_MAX = 60;
const SEGMENT_SIZE_BYTES = 1024 * 1024;
/** Turns of the event loop after which an answer that is still missing will never come. */
const TURNS_MAX = 200;
const DEADLINE_MS = 30_000;

/** What may be stored under a key: the last acknowledged write, or one whose answer was lost. */
type Version = { readonly value: string | undefined; readonly revision: number };

type InDoubt = {
  readonly requestId: Uint8Array;
  readonly deadlineMs: number;
  readonly action: MutationAction;
  readonly value: string | undefined;
};

type KeyState = { acknowledged: Version; inDoubt: InDoubt | undefined };

export type PowerLossResult = {
  readonly acknowledged: number;
  readonly lost: number;
  readonly resent: number;
  readonly crashes: number;
  readonly tornTails: number;
  readonly compactions: number;
};

/** @throws Error naming the seed when something acknowledged is missing or anything is wrong. */
export async function runPowerLoss(seed: number): Promise<PowerLossResult> {
  const world = new World(seed);
  try {
    return await world.run();
  } catch (cause) {
    throw new Error(`seed ${seed}: ${(cause as Error).message}`, { cause });
  }
}

class World {
  readonly #random: SeededRandom;
  readonly #clock = new ManualClock();
  #engineDisk = new MemoryDisk();
  readonly #keys: KeyState[];
  #fs: MemoryFileSystem;
  /** File operations until the lights go out. */
  #operationsLeft = Number.POSITIVE_INFINITY;
  #value = 0;
  #acknowledged = 0;
  #lost = 0;
  #resent = 0;
  #crashes = 0;
  #tornTails = 0;
  #compactions = 0;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    this.#fs = new MemoryFileSystem(this.#fsOptions());
    this.#keys = Array.from({ length: KEYS }, () => ({
      acknowledged: { value: undefined, revision: 0 },
      inDoubt: undefined,
    }));
  }

  #fsOptions() {
    let over = false;
    return {
      intercept: () => {
        if (this.#operationsLeft-- <= 0) over = true;
        return over ? ({ kind: "lost" } as const) : undefined;
      },
      defer: (run: () => void) => void setImmediate(run),
    };
  }

  async run(): Promise<PowerLossResult> {
    for (let life = 0; life < LIVES; life++) {
      this.#operationsLeft = 5 + this.#random.below(400);
      const node = await this.#boot();
      if (node) await this.#live(node);
      this.#losePower();
    }
    this.#operationsLeft = Number.POSITIVE_INFINITY;
    const node = await this.#boot();
    assert(node !== undefined, "the node does not start on a healthy disk");
    await this.#check(node);
    await node.close(0);
    return {
      acknowledged: this.#acknowledged,
      lost: this.#lost,
      resent: this.#resent,
      crashes: this.#crashes,
      tornTails: this.#tornTails,
      compactions: this.#compactions,
    };
  }

  #losePower(): void {
    this.#crashes++;
    // A disk of its own for each life: the node that lost power still runs in this process, and what
    // it flushes from now on must not reach anybody.
    const left = new MemoryDisk();
    left.save(this.#engineDisk.saved);
    this.#engineDisk = left;
    const luck = this.#random.float();
    const names = this.#random.float();
    this.#fs = this.#fs.crash(
      {
        sector: () => this.#random.float() < luck,
        name: () => this.#random.float() < names,
      },
      this.#fsOptions(),
    );
  }

  /** Undefined when the power went during the start. */
  async #boot(): Promise<StorageNode | undefined> {
    const engine = openMemory(this.#engineDisk);
    const starting = (async () => {
      const wal = await openWal({
        directory: "/wal",
        nodeId: toNodeId(1),
        segmentSizeBytes: SEGMENT_SIZE_BYTES,
        fs: this.#fs,
        clock: this.#clock,
        random: this.#random,
        onFatal: fail,
      });
      if (wal.recovery.tornTail) this.#tornTails++;
      const parts = replicaParts({ wal, engine, random: this.#random });
      return StorageNode.start({
        nodeId: toNodeId(1),
        clusterId: "sim",
        engine,
        wal,
        replicas: await openSoloGroups(parts),
        replicaParts: parts,
        transport: soloTransport(),
        clock: this.#clock,
        mayCompactLog: true,
        diskGuard: new DiskGuard({
          path: "/",
          reserveBytes: 0,
          clock: this.#clock,
          probe: (_path, done) => done(null, 2 ** 40),
          onChange: () => {},
        }),
        onFatal: fail,
      });
    })();
    return await this.#orNever(starting);
  }

  /** The result of `work`, or undefined when the power has gone and it will never end. */
  async #orNever<T>(work: Promise<T>): Promise<T | undefined> {
    let done: { value: T } | undefined;
    let failed: { error: unknown } | undefined;
    work.then(
      (value) => {
        done = { value };
      },
      (error: unknown) => {
        failed = { error };
      },
    );
    let turnsInTheDark = 0;
    while (!done && !failed && turnsInTheDark < TURNS_MAX) {
      if (this.#operationsLeft <= 0) turnsInTheDark++;
      this.#clock.advance(1);
      await turn();
    }
    if (failed) throw failed.error;
    return done?.value;
  }

  async #live(node: StorageNode): Promise<void> {
    await this.#check(node);
    const steps = this.#random.below(STEPS_PER_LIFE_MAX);
    for (let step = 0; step < steps && this.#operationsLeft > 0; step++) {
      const writes: Promise<void>[] = [];
      const clients = 1 + this.#random.below(8);
      const first = this.#random.below(KEYS);
      for (let i = 0; i < clients; i++) writes.push(this.#write(node, (first + i) % KEYS));
      await this.#orNever(Promise.all(writes));
      // Time for maintenance: sweeps, and now and then a flush of the engine and a shorter log.
      if (this.#random.below(10) === 0) {
        this.#clock.advance(61_000);
        this.#compactions++;
        for (let i = 0; i < 20; i++) await turn();
      } else {
        this.#clock.advance(this.#random.below(400));
      }
    }
  }

  async #write(node: StorageNode, key: number): Promise<void> {
    const state = this.#keys[key]!;
    if (state.inDoubt) return;
    const big = this.#random.below(20) === 0;
    const value =
      this.#random.below(8) === 0
        ? undefined
        : `${key}:${++this.#value}:${"x".repeat(big ? 60_000 : this.#random.below(600))}`;
    const action: MutationAction =
      value === undefined
        ? { kind: "delete" }
        : { kind: "put", value: utf8(value), contentType: "text/plain", ttlMs: 0 };
    const requestId = this.#random.fill(new Uint8Array(16));
    const inDoubt = { requestId, deadlineMs: this.#clock.nowMs() + DEADLINE_MS, action, value };
    state.inDoubt = inDoubt;
    this.#settle(state, await this.#send(node, key, inDoubt));
  }

  #send(node: StorageNode, key: number, request: InDoubt): Promise<ResultBody> {
    const address = { tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8(`key ${key}`) };
    const { requestId, deadlineMs, action } = request;
    return new Promise((resolve) =>
      node.operate(
        {
          callId: 1,
          vshard: vshardOf(address),
          deadlineMs,
          traceContext: new Uint8Array(0),
          body: {
            kind: "write",
            command: {
              requestId,
              deadlineMs,
              mutations: [{ ...address, condition: undefined, action }],
            },
          },
        },
        resolve,
      ),
    );
  }

  #settle(state: KeyState, answer: ResultBody): void {
    const request = state.inDoubt!;
    assert(answer.kind === "write", `a write was answered ${JSON.stringify(answer)}`);
    assert(answer.applied, "an unconditional write failed a condition");
    const { revision } = answer.mutations[0]!;
    state.inDoubt = undefined;
    this.#acknowledged++;
    if (request.value === undefined && revision === 0) {
      state.acknowledged = { value: undefined, revision: state.acknowledged.revision };
      return;
    }
    assert(revision > state.acknowledged.revision, "a key's revision went back");
    state.acknowledged = { value: request.value, revision };
  }

  /** Everything acknowledged is there, and a request in doubt happened once or not at all. */
  async #check(node: StorageNode): Promise<void> {
    for (let key = 0; key < KEYS && this.#operationsLeft > 0; key++) {
      const state = this.#keys[key]!;
      const found = await this.#orNever(this.#read(node, key));
      if (found === undefined) return;
      const { inDoubt } = state;
      const isOld = found.value === state.acknowledged.value;
      const isNew = inDoubt !== undefined && found.value === inDoubt.value;
      assert(
        isOld || isNew,
        `key ${key}: found ${show(found.value)}, acknowledged ${show(state.acknowledged.value)}`,
      );
      if (!inDoubt) continue;
      this.#lost++;
      const retry = this.#random.below(2) === 0 && inDoubt.deadlineMs > this.#clock.nowMs() + 5_000;
      if (retry) {
        const answer = await this.#orNever(this.#send(node, key, inDoubt));
        if (answer === undefined) return;
        if (isNew && found.revision > 0 && answer.kind === "write") {
          const again = answer.mutations[0]!.revision;
          assert(again === found.revision, "a request sent again had a second effect");
        }
        this.#resent++;
        this.#settle(state, answer);
      } else {
        state.inDoubt = undefined;
        const revision = Math.max(found.revision, state.acknowledged.revision);
        state.acknowledged = { value: found.value, revision };
      }
    }
  }

  #read(node: StorageNode, key: number): Promise<Version> {
    const address = { tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8(`key ${key}`) };
    return new Promise((resolve, reject) =>
      node.operate(
        {
          callId: 1,
          vshard: vshardOf(address),
          deadlineMs: this.#clock.nowMs() + DEADLINE_MS,
          traceContext: new Uint8Array(0),
          body: { kind: "get", ...address, maxStalenessMs: 0, metadataOnly: false },
        },
        (body) => {
          if (body.kind !== "get") reject(new Error(`a read was answered ${JSON.stringify(body)}`));
          else if (!body.found) resolve({ value: undefined, revision: 0 });
          else resolve({ value: utf8Decode(body.value), revision: body.revision });
        },
      ),
    );
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const show = (value: string | undefined): string =>
  value === undefined ? "nothing" : value.slice(0, 20);

function fail(error: unknown): never {
  throw error;
}
