/**
 * One snapshot on its way to one member, over as many streams as it takes.
 *
 *     sender                         receiver
 *     open ─────────────────────────▶ what is stored of this transfer?
 *     ◀───────────────────────────── next n
 *     rows n, n+1, … ───────────────▶ checked, stored
 *     ◀───────────────────────────── next n+1, …        (at most so many chunks are unconfirmed)
 *     end ──────────────────────────▶ count and hash checked, synced, handed to the core
 *     ◀───────────────────────────── over
 *
 * A stream that breaks, or on which nothing moves, is replaced by another one; the transfer is given up
 * when nothing was confirmed for SNAPSHOT_RESUME_WITHIN_MS.
 */
import type { Clock } from "#shared/clock.ts";
import { GrpcStatus } from "#shared/errors.ts";
import { nodeOfReplica, type Term } from "#shared/ids.ts";
import {
  SNAPSHOT_CHUNKS_UNDER_WAY_MAX,
  SNAPSHOT_FINISH_TIMEOUT_MS,
  SNAPSHOT_RESUME_WITHIN_MS,
  SNAPSHOT_RETRY_MS,
  SNAPSHOT_STALL_TIMEOUT_MS,
} from "#shared/limits.ts";
import type { MessageStream, StreamStatus } from "#shared/message-stream.ts";
import type { Transport } from "#storage-node/transport/transport.ts";
import { decodeFrame, encodeFrame, type Opening, Verdict } from "./frames.ts";
import type { OutgoingRows } from "./outgoing-rows.ts";
import type { Pace } from "./pace.ts";
import { Waiting } from "./waiting.ts";

export type TransferOptions = {
  readonly opening: Opening;
  /** Closed at the end. */
  readonly rows: OutgoingRows;
  readonly clock: Clock;
  readonly pace: Pace;
  readonly transport: Pick<Transport, "openSnapshotStream">;
  /** The sender's term while it leads; a snapshot counts only as a message of a leader. */
  readonly leadsInTerm: () => Term | undefined;
  /** The receiver has confirmed more. */
  readonly onProgress: () => void;
};

/** What has come of one stream. */
type Connection = {
  readonly stream: MessageStream;
  closed: boolean;
  writable: boolean;
  /** Undefined before the first answer. */
  confirmed: number | undefined;
  verdict: Verdict | undefined;
};

export class Transfer {
  readonly #options: TransferOptions;
  readonly #waiting: Waiting;
  #stopped = false;
  #progressMs: number;
  #confirmedMost = -1;

  constructor(options: TransferOptions) {
    this.#options = options;
    this.#waiting = new Waiting(options.clock);
    this.#progressMs = options.clock.monotonicMs();
  }

  stop(): void {
    this.#stopped = true;
    this.#waiting.poke();
  }

  /** Never longer than there is progress. */
  async run(): Promise<"received" | "failed"> {
    const { clock, rows } = this.#options;
    try {
      for (;;) {
        const outcome = await this.#attempt();
        if (outcome !== "interrupted") return outcome;
        const silentMs = clock.monotonicMs() - this.#progressMs;
        if (this.#isMoot || silentMs >= SNAPSHOT_RESUME_WITHIN_MS) return "failed";
        await this.#waiting.until(() => this.#stopped, SNAPSHOT_RETRY_MS);
      }
    } finally {
      await rows.close();
    }
  }

  get #isMoot(): boolean {
    return this.#stopped || this.#options.leadsInTerm() === undefined;
  }

  async #attempt(): Promise<"received" | "failed" | "interrupted"> {
    const { opening, transport } = this.#options;
    if (this.#isMoot) return "failed";
    const stream = transport.openSnapshotStream(nodeOfReplica(opening.to));
    if (stream === undefined) return "interrupted";
    const connection = this.#listenTo(stream);
    stream.write(encodeFrame({ ...opening, kind: "open" }));
    const isDone = await this.#feed(connection);
    if (isDone) {
      const answered = () => this.#isCut(connection);
      await this.#waiting.until(answered, SNAPSHOT_FINISH_TIMEOUT_MS);
    }
    const { verdict, closed } = connection;
    if (verdict !== undefined) {
      stream.end();
      return verdict === Verdict.Received || verdict === Verdict.Unneeded ? "received" : "failed";
    }
    if (!closed) stream.abort(this.#isMoot ? MOOT : STALLED);
    return "interrupted";
  }

  #listenTo(stream: MessageStream): Connection {
    const connection: Connection = {
      stream,
      closed: false,
      writable: true,
      confirmed: undefined,
      verdict: undefined,
    };
    stream.listen({
      onMessage: (bytes) => this.#heard(connection, bytes),
      onDrain: () => {
        connection.writable = true;
        this.#waiting.poke();
      },
      onClosed: () => {
        connection.closed = true;
        this.#waiting.poke();
      },
    });
    return connection;
  }

  #heard(connection: Connection, bytes: Uint8Array): void {
    try {
      const frame = decodeFrame(bytes);
      if (frame.kind === "over") connection.verdict = frame.verdict;
      if (frame.kind === "next") this.#confirmed(connection, frame.sequence);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      connection.verdict = Verdict.Refused;
    }
    this.#waiting.poke();
  }

  #confirmed(connection: Connection, sequence: number): void {
    if (sequence > this.#options.rows.made) {
      connection.verdict = Verdict.Refused;
      return;
    }
    connection.confirmed = sequence;
    if (sequence <= this.#confirmedMost) return;
    this.#confirmedMost = sequence;
    this.#progressMs = this.#options.clock.monotonicMs();
    this.#options.onProgress();
  }

  /** Nothing more can be done with the stream. */
  #isCut({ closed, verdict }: Connection): boolean {
    return closed || verdict !== undefined || this.#isMoot;
  }

  /** Sends all that is missing, and the end. False when the stream was cut, or nothing moved. */
  async #feed(connection: Connection): Promise<boolean> {
    const { rows, pace } = this.#options;
    const isAnswered = () => connection.confirmed !== undefined || this.#isCut(connection);
    if (!(await this.#waiting.until(isAnswered, SNAPSHOT_STALL_TIMEOUT_MS))) return false;
    let sequence = connection.confirmed ?? 0;
    const mayGoOn = (): boolean =>
      (connection.writable && sequence - connection.confirmed! < SNAPSHOT_CHUNKS_UNDER_WAY_MAX) ||
      this.#isCut(connection);
    for (;;) {
      if (!(await this.#waiting.until(mayGoOn, SNAPSHOT_STALL_TIMEOUT_MS))) return false;
      if (this.#isCut(connection)) return false;
      const chunk = await rows.chunk(sequence);
      if (chunk === undefined) break;
      const delayMs = pace.take(chunk.length);
      if (delayMs > 0) await this.#waiting.until(() => this.#isCut(connection), delayMs);
      if (this.#isCut(connection)) return false;
      connection.writable = connection.stream.write(chunk);
      sequence++;
    }
    // Asked again: the message counts as one of the term in which the sender leads at the end.
    const term = this.#options.leadsInTerm();
    if (term === undefined || this.#isCut(connection)) return false;
    connection.stream.write(encodeFrame({ ...rows.totals, kind: "end", term }));
    return true;
  }
}

const MOOT: StreamStatus = { code: GrpcStatus.Cancelled, details: "the snapshot is not needed" };
const STALLED: StreamStatus = {
  code: GrpcStatus.DeadlineExceeded,
  details: "nothing moved on the stream of a snapshot",
};
