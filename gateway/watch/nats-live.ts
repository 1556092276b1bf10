/**
 * News of changes from the bus: `LiveChanges` over NATS.
 *
 * What comes may be lost, late, twice, out of order or, where somebody can publish who should not,
 * forged. The feed deals with all but the last by the revisions. A forged batch that fits in looks like a true
 * one, shows watchers what never happened and hides what did; nothing in it could tell. So who may
 * publish is decided by the bus's permissions and by the key that seals messages (`bus-seal.ts`). What is
 * malformed, too large or of another vshard than its subject is refused here, whoever sent it.
 */
import { decodeChangeBatch, decodeChangeHeads } from "#proto/codec/change-batch.ts";
import type { ChangeBatch } from "#proto/codec/change-messages.ts";
import { type BusSubjects, busSubjects } from "#shared/bus-subjects.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import type { VshardId } from "#shared/ids.ts";
import {
  BUS_CHANGES_PER_MESSAGE_MAX,
  BUS_CLUSTER_POLL_MS,
  BUS_MALFORMED_TOLD_INTERVAL_MS,
  BUS_MESSAGE_BYTES_MAX,
} from "#shared/limits.ts";
import type { Bus } from "#shared/runtime/bus.ts";
import type { LiveChanges, LiveListener } from "./change-source.ts";

export type NatsLiveOptions = {
  readonly bus: Bus;
  /** Begins to connect. */
  readonly open: () => void;
  readonly close: () => Promise<void>;
  /** Undefined until a storage node has told it. */
  readonly clusterId: () => string | undefined;
  readonly clock: Clock;
  /** A message is of no use, and why. Now and then, not for each one. */
  readonly onMalformed?: (detail: string) => void;
};

export type NatsLiveFigures = {
  readonly vshardsListened: number;
  readonly batchesReceived: number;
  readonly changesReceived: number;
  readonly headsReceived: number;
  readonly messagesMalformed: number;
};

type Listened = { lastHeardMs: number; end: () => void };

const NOTHING = (): void => {};

export class NatsLive implements LiveChanges {
  readonly #options: NatsLiveOptions;
  readonly #listened = new Map<VshardId, Listened>();
  #listener: LiveListener | undefined;
  #subjects: BusSubjects | undefined;
  #endHeads: () => void = NOTHING;
  #cancelTimer: () => void = NOTHING;
  #isWaiting = false;
  #toldMs = Number.NEGATIVE_INFINITY;
  #closed = false;
  #figures = { batchesReceived: 0, changesReceived: 0, headsReceived: 0, messagesMalformed: 0 };

  constructor(options: NatsLiveOptions) {
    this.#options = options;
  }

  start(listener: LiveListener): void {
    this.#listener = listener;
    this.#options.open();
  }

  /** The bus has no past: what was before comes from the log. */
  listen(vshard: VshardId): void {
    if (this.#closed || this.#listened.has(vshard)) return;
    const listened: Listened = { lastHeardMs: Number.NEGATIVE_INFINITY, end: NOTHING };
    this.#listened.set(vshard, listened);
    if (this.#knowsCluster()) this.#subscribe(vshard, listened);
  }

  unlisten(vshard: VshardId): void {
    this.#listened.get(vshard)?.end();
    this.#listened.delete(vshard);
    if (this.#listened.size > 0) return;
    this.#endHeads();
    this.#endHeads = NOTHING;
  }

  silenceMs(vshard: VshardId): number {
    const listened = this.#listened.get(vshard);
    if (listened === undefined) return Number.POSITIVE_INFINITY;
    return this.#options.clock.monotonicMs() - listened.lastHeardMs;
  }

  figures(): NatsLiveFigures {
    return { vshardsListened: this.#listened.size, ...this.#figures };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelTimer();
    for (const vshard of [...this.#listened.keys()]) this.unlisten(vshard);
    await this.#options.close();
  }

  /** Once known it stays: the gateway follows one cluster as long as it runs. */
  #knowsCluster(): boolean {
    if (this.#subjects !== undefined) return true;
    const clusterId = this.#options.clusterId();
    if (clusterId !== undefined) {
      this.#subjects = busSubjects(clusterId);
      return true;
    }
    this.#waitForCluster();
    return false;
  }

  #waitForCluster(): void {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    this.#cancelTimer = this.#options.clock.after(BUS_CLUSTER_POLL_MS, () => {
      this.#isWaiting = false;
      if (this.#listened.size === 0 || !this.#knowsCluster()) return;
      // Those that came when it was known already, and before this look, have what they need.
      for (const [vshard, listened] of this.#listened) {
        if (listened.end === NOTHING) this.#subscribe(vshard, listened);
      }
    });
  }

  #subscribe(vshard: VshardId, listened: Listened): void {
    const { bus } = this.#options;
    const { heads, changesOf } = this.#subjects!;
    if (this.#endHeads === NOTHING) {
      this.#endHeads = bus.subscribe(heads, (payload) => this.#onHeads(payload));
    }
    listened.end = bus.subscribe(changesOf(vshard), (payload) =>
      this.#onBatch(vshard, listened, payload),
    );
  }

  #onBatch(vshard: VshardId, listened: Listened, payload: Uint8Array): void {
    const batch = this.#decoded(payload, decodeBatch);
    if (batch === undefined || this.#listened.get(vshard) !== listened) return;
    if (batch.vshard !== vshard) {
      this.#refuse("a batch on the subject of another vshard");
      return;
    }
    listened.lastHeardMs = this.#options.clock.monotonicMs();
    this.#figures.batchesReceived++;
    this.#figures.changesReceived += batch.changes.length;
    this.#listener?.onBatch(batch);
  }

  #onHeads(payload: Uint8Array): void {
    const decoded = this.#decoded(payload, decodeChangeHeads);
    if (decoded === undefined) return;
    this.#figures.headsReceived++;
    const nowMs = this.#options.clock.monotonicMs();
    for (const { vshard, revision } of decoded.heads) {
      const listened = this.#listened.get(vshard);
      if (listened === undefined) continue;
      listened.lastHeardMs = nowMs;
      this.#listener?.onHead(vshard, revision);
    }
  }

  #decoded<T>(payload: Uint8Array, decode: (payload: Uint8Array) => T): T | undefined {
    if (payload.length > BUS_MESSAGE_BYTES_MAX) {
      this.#refuse("it is larger than any that a node sends");
      return undefined;
    }
    try {
      return decode(payload);
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      this.#refuse(error.message);
      return undefined;
    }
  }

  #refuse(detail: string): void {
    this.#figures.messagesMalformed++;
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#toldMs < BUS_MALFORMED_TOLD_INTERVAL_MS) return;
    this.#toldMs = nowMs;
    this.#options.onMalformed?.(detail);
  }
}

function decodeBatch(payload: Uint8Array): ChangeBatch {
  const batch = decodeChangeBatch(payload);
  if (batch.changes.length <= BUS_CHANGES_PER_MESSAGE_MAX) return batch;
  throw new KvError("INVALID_ARGUMENT", "a batch of more changes than any that a node sends");
}
