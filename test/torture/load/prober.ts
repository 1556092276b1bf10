/**
 * Writers that never rest, one for each probed vshard: how long a vshard took no write at a stretch.
 *
 * A probe waits for its answer as long as the gateway does, and the next one follows soon. The time
 * between two acknowledgements is then how long the vshard was not available, up to the pause between
 * probes.
 */
import { utf8 } from "#shared/bytes.ts";
import { DEFAULT_TENANT, Space, VSHARD_COUNT } from "#shared/ids.ts";
import { vshardOf } from "#shared/vshard.ts";
import { ClientConnection } from "./connection.ts";

const TIMEOUT_MS = 10_000;
const PATIENCE_MS = 2_000;
const ERROR_PAUSE_MS = 50;
const LONG_MS = 1_000;
/** Told of. */
const LONG_MAX = 100;

export const vshardOfKey = (key: string): number =>
  vshardOf({ tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8(key) });

/** One key of each vshard, by vshard. */
export function keyOfEachVshard(name: string): readonly string[] {
  const keys: string[] = [];
  let found = 0;
  for (let i = 0; found < VSHARD_COUNT; i++) {
    const key = `${name}/${i}`;
    const vshard = vshardOfKey(key);
    if (keys[vshard] !== undefined) continue;
    keys[vshard] = key;
    found++;
  }
  return keys;
}

export type Gap = { readonly vshard: number; readonly lengthMs: number; readonly fromMs: number };

export type Acknowledged = { readonly calledMs: number; readonly returnedMs: number };

export class Prober {
  readonly #urls: readonly string[];
  readonly #keys: ReadonlyMap<number, string>;
  readonly #pauseMs: number;
  readonly #connection: ClientConnection;
  /** Of each probed vshard. */
  readonly #lastMs = new Map<number, number>();
  readonly #worst = new Map<number, Gap>();
  #lastOfAnyMs: number | undefined;
  /** The longest time between acknowledgements of whichever vshard. */
  worstOfAll: Omit<Gap, "vshard"> = { fromMs: 0, lengthMs: 0 };
  /** Every time of more than a second between acknowledgements of whichever vshard. */
  readonly longOfAll: Omit<Gap, "vshard">[] = [];
  acknowledged = 0;
  failed = 0;
  #isOver = false;
  #running: Promise<unknown> = Promise.resolve();
  /** Told of each acknowledgement, while it is set. */
  onAcknowledged: ((vshard: number, acknowledged: Acknowledged) => void) | undefined;

  constructor(urls: readonly string[], keys: ReadonlyMap<number, string>, pauseMs: number) {
    this.#urls = urls;
    this.#keys = keys;
    this.#pauseMs = pauseMs;
    this.#connection = new ClientConnection(keys.size);
  }

  /** The longest stretch of each vshard. */
  get worst(): readonly Gap[] {
    return [...this.#worst.values()];
  }

  start(): void {
    this.#running = Promise.all([...this.#keys].map(([vshard, key]) => this.#probe(vshard, key)));
  }

  /** Also counts the stretches that have not ended. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#running;
    this.#connection.close();
    const nowMs = performance.now();
    for (const [vshard, lastMs] of this.#lastMs) this.#note(vshard, lastMs, nowMs);
  }

  async #probe(vshard: number, key: string): Promise<void> {
    // Spread over the pause, so that they do not come all at once.
    await pause((vshard % 16) * (this.#pauseMs / 16));
    this.#lastMs.set(vshard, performance.now());
    for (let turn = vshard; !this.#isOver; turn++) {
      const calledMs = performance.now();
      const reply = await this.#connection.send(this.#urls[turn % this.#urls.length]!, {
        method: "PUT",
        path: `/v1/kv/${encodeURIComponent(key)}`,
        headers: { "Minikv-Timeout": `${TIMEOUT_MS}ms` },
        body: `${turn}`,
        timeoutMs: TIMEOUT_MS + PATIENCE_MS,
      });
      const isDone = reply.kind === "answer" && reply.status < 300;
      if (isDone) this.#acknowledge(vshard, { calledMs, returnedMs: performance.now() });
      else this.failed++;
      await pause(isDone ? this.#pauseMs : ERROR_PAUSE_MS);
    }
  }

  #acknowledge(vshard: number, acknowledged: Acknowledged): void {
    const { returnedMs } = acknowledged;
    this.acknowledged++;
    this.#note(vshard, this.#lastMs.get(vshard)!, returnedMs);
    this.#lastMs.set(vshard, returnedMs);
    this.touch(returnedMs);
    this.onAcknowledged?.(vshard, acknowledged);
  }

  /** Something was acknowledged, by whomever. */
  touch(nowMs: number): void {
    const fromMs = this.#lastOfAnyMs ?? nowMs;
    const lengthMs = nowMs - fromMs;
    if (lengthMs > this.worstOfAll.lengthMs) this.worstOfAll = { fromMs, lengthMs };
    if (lengthMs > LONG_MS && this.longOfAll.length < LONG_MAX) {
      this.longOfAll.push({ fromMs, lengthMs });
    }
    this.#lastOfAnyMs = nowMs;
  }

  #note(vshard: number, fromMs: number, untilMs: number): void {
    const lengthMs = untilMs - fromMs;
    const worst = this.#worst.get(vshard);
    if (worst !== undefined && worst.lengthMs >= lengthMs) return;
    this.#worst.set(vshard, { vshard, lengthMs, fromMs });
  }
}

/**
 * Writes to every key until each was acknowledged once.
 *
 * @returns how long it took, and the vshards that took no write until `untilMs`.
 */
export async function writeEverywhere(
  urls: readonly string[],
  keys: readonly string[],
  untilMs: number,
): Promise<{ readonly tookMs: number; readonly missing: readonly number[] }> {
  const begunMs = performance.now();
  const missing = new Set(keys.keys());
  const waiting = [...keys.keys()];
  const connection = new ClientConnection(32);
  const write = async (): Promise<void> => {
    for (let vshard = waiting.shift(); vshard !== undefined; vshard = waiting.shift()) {
      for (let turn = vshard; missing.has(vshard) && performance.now() < untilMs; turn++) {
        const reply = await connection.send(urls[turn % urls.length]!, {
          method: "PUT",
          path: `/v1/kv/${encodeURIComponent(keys[vshard]!)}`,
          headers: { "Minikv-Timeout": "5s" },
          body: "alive",
          timeoutMs: 7_000,
        });
        if (reply.kind === "answer" && reply.status < 300) missing.delete(vshard);
        else await pause(ERROR_PAUSE_MS);
      }
    }
  };
  await Promise.all(Array.from({ length: 32 }, write));
  connection.close();
  return { tookMs: performance.now() - begunMs, missing: [...missing] };
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
