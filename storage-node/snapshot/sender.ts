/**
 * Sends snapshots to members that need entries which their leader no longer has.
 *
 * Members that are due wait in line; few snapshots are sent at once, and all of them together at a
 * bounded rate. When it is a member's turn, the Raft core offers the applied index and in the same turn
 * a view of the engine is taken, between two rounds of the apply pump, so that both are the same state.
 * The core gets one report for each offer, in bounded time: a transfer goes on only while it makes
 * progress, and a failure is told after a pause, since the member is due again from then on.
 */
import type { Clock } from "#shared/clock.ts";
import type { ReplicaId } from "#shared/ids.ts";
import {
  LOG_RETAINED_BEHIND_SNAPSHOT_MS,
  SNAPSHOT_RETRY_MS,
  SNAPSHOTS_SENT_AT_ONCE_MAX,
} from "#shared/limits.ts";
import type { MaybePromise } from "#shared/maybe-promise.ts";
import type { Random } from "#shared/random.ts";
import type { Engine, EngineSnapshot } from "#storage-node/engine/engine.ts";
import type { Message } from "#storage-node/raft/types.ts";
import type { Replica } from "#storage-node/replica/replica.ts";
import type { Transport } from "#storage-node/transport/transport.ts";
import { TRANSFER_ID_SIZE_BYTES } from "./frames.ts";
import { OutgoingRows } from "./outgoing-rows.ts";
import { Pace } from "./pace.ts";
import { Transfer } from "./transfer.ts";

export type SenderOptions = {
  readonly engine: Engine;
  readonly clock: Clock;
  readonly random: Random;
  readonly transport: Pick<Transport, "openSnapshotStream">;
  /** Runs `work` when the engine holds exactly what the cores count as applied. */
  readonly between: <T>(work: () => MaybePromise<T>) => Promise<T>;
  /** The core of a replica was told something. */
  readonly onStepped: (replica: Replica) => void;
  /** Of all snapshots that the node sends together. */
  readonly bytesPerSecond: number;
  /** Bytes of rows in a chunk; default: SNAPSHOT_CHUNK_BYTES_SOFT_MAX. */
  readonly chunkBytes?: number | undefined;
  /** Something went wrong that costs no more than a transfer. */
  readonly onError: (error: unknown) => void;
};

type Due = { readonly replica: Replica; readonly to: ReplicaId };
type Offer = { readonly message: Message & { kind: "snapshot" }; readonly view: EngineSnapshot };

export class SnapshotSender {
  readonly #options: SenderOptions;
  readonly #pace: Pace;
  #waiting: Due[] = [];
  /** From the offer to the report. */
  readonly #running = new Map<Due, Transfer | undefined>();
  #sending = 0;
  #stopped = false;
  #onIdle: (() => void)[] = [];

  constructor(options: SenderOptions) {
    this.#options = options;
    this.#pace = new Pace(options.clock, options.bytesPerSecond);
  }

  /** That arrived, since the start. */
  sent = 0;

  /** Snapshots on their way. */
  get sending(): number {
    return this.#sending;
  }

  /** `to` needs a snapshot of the group that `replica` leads. */
  due(replica: Replica, to: ReplicaId): void {
    const isSame = (due: Due): boolean => due.replica === replica && due.to === to;
    // One that runs ends with a report; if the member needs another one then, it is due again.
    if (this.#stopped || this.#waiting.some(isSame) || [...this.#running.keys()].some(isSame)) {
      return;
    }
    this.#waiting.push({ replica, to });
    this.#startNext();
  }

  #startNext(): void {
    while (this.#sending < SNAPSHOTS_SENT_AT_ONCE_MAX && !this.#stopped) {
      const due = this.#waiting.shift();
      if (due === undefined) return;
      this.#sending++;
      this.#running.set(due, undefined);
      void this.#send(due).then(() => {
        this.#sending--;
        this.#startNext();
        if (this.#sending === 0) for (const idle of this.#onIdle.splice(0)) idle();
      });
    }
  }

  async #send(due: Due): Promise<void> {
    const { clock, onError } = this.#options;
    let outcome: "received" | "failed" | "unneeded" = "failed";
    try {
      outcome = await this.#transfer(due);
    } catch (error) {
      // A row that cannot be read costs this member its snapshot, not the node.
      onError(error);
    }
    if (outcome === "unneeded") this.#running.delete(due);
    else if (outcome === "received") {
      this.sent++;
      this.#report(due, outcome);
    } else clock.after(SNAPSHOT_RETRY_MS, () => this.#report(due, "failed"));
  }

  async #transfer(due: Due): Promise<"received" | "failed" | "unneeded"> {
    const { replica } = due;
    const offer = await this.#options.between(() => this.#offer(due));
    if (offer === undefined) return "unneeded";
    const { clock, random, transport, chunkBytes } = this.#options;
    const rows = new OutgoingRows(offer.view, replica.group, chunkBytes);
    const transfer = new Transfer({
      opening: { ...offer.message, transfer: random.fill(new Uint8Array(TRANSFER_ID_SIZE_BYTES)) },
      rows,
      clock,
      pace: this.#pace,
      transport,
      leadsInTerm: () => (replica.isLeader ? replica.raft.term : undefined),
      onProgress: () => this.#keepLog(replica),
    });
    this.#running.set(due, transfer);
    if (this.#stopped) transfer.stop();
    return await transfer.run();
  }

  /** In one turn, in which nothing is applied. */
  #offer({ replica, to }: Due): Offer | undefined {
    if (this.#stopped) return undefined;
    const message = replica.raft.offerSnapshot(to);
    if (message?.kind !== "snapshot") return undefined;
    this.#keepLog(replica);
    return { message, view: this.#options.engine.snapshot() };
  }

  /** Behind the snapshot the member goes on with the log. */
  #keepLog(replica: Replica): void {
    replica.keepLogUntilMs = this.#options.clock.monotonicMs() + LOG_RETAINED_BEHIND_SNAPSHOT_MS;
  }

  #report(due: Due, outcome: "received" | "failed"): void {
    this.#running.delete(due);
    if (this.#stopped) return;
    due.replica.raft.reportSnapshot(due.to, outcome);
    this.#options.onStepped(due.replica);
  }

  /** The replica leaves this node: nothing of it is sent any more. */
  forget(replica: Replica): void {
    this.#waiting = this.#waiting.filter((due) => due.replica !== replica);
    for (const [due, transfer] of this.#running) if (due.replica === replica) transfer?.stop();
  }

  /** Resolves when no view of the engine is held any more. */
  stop(): Promise<void> {
    this.#stopped = true;
    this.#waiting = [];
    for (const transfer of this.#running.values()) transfer?.stop();
    if (this.#sending === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onIdle.push(resolve));
  }
}
