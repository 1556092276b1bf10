/**
 * One stream on which a snapshot arrives: checks each chunk, stores it, and confirms it.
 *
 * What was stored outlives the stream. The next one of the same transfer, also after a restart of this
 * process, goes on behind the last chunk that is intact in the file; only the file says which that is.
 */
import { EMPTY_BYTES, equalBytes } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { GrpcStatus, KvError } from "#shared/errors.ts";
import {
  SNAPSHOT_CHUNKS_UNDER_WAY_MAX,
  SNAPSHOT_STALL_TIMEOUT_MS,
  SNAPSHOT_SYNC_EVERY_BYTES,
} from "#shared/limits.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import type { Message } from "#storage-node/raft/types.ts";
import { closeFile, datasync, openFile, writeFully } from "#storage-node/wal/file-promises.ts";
import type { WalFile } from "#storage-node/wal/file-system.ts";
import { decodeFrame, encodeFrame, type Frame, type Opening, Verdict } from "./frames.ts";
import { SnapshotCheck } from "./snapshot-check.ts";
import {
  deleteStaged,
  moveStaged,
  readPartial,
  type Stage,
  type StagedName,
  type Staging,
  stagedPath,
} from "./staged-file.ts";
import { Waiting } from "./waiting.ts";

export type SnapshotMessage = Message & { readonly kind: "snapshot" };

export type ReceiptOptions = {
  readonly stream: MessageStream;
  readonly staging: Staging;
  readonly clock: Clock;
  /** Whether it may come: undefined, or why not. Nobody else uses its file from then on. */
  readonly admit: (opening: Opening, receipt: Receipt) => Promise<Verdict | undefined>;
  readonly hasSpace: () => Promise<boolean>;
  /** It is complete, and durable under this name. */
  readonly deliver: (message: SnapshotMessage, name: StagedName) => Verdict;
  /** Something went wrong that costs no more than the transfer. */
  readonly onError: (error: unknown) => void;
};

type Stored = { readonly file: WalFile; readonly check: SnapshotCheck; position: number };

export class Receipt {
  /** Set once it has come. */
  opening: Opening | undefined;
  /** Answers what is left of the transfer: a file that another stream may go on with. */
  readonly ended: Promise<StagedName | undefined>;
  readonly #options: ReceiptOptions;
  readonly #waiting: Waiting;
  #arrived: Uint8Array[] = [];
  /** Nothing more comes; what has come is still stored. */
  #isClosed = false;
  /** Nothing more is wanted. */
  #isCut = false;
  /** Its files are its own. */
  #isAdmitted = false;
  #stored: Stored | undefined;
  #unsyncedBytes = 0;
  /** The frame that came last. */
  #lastBytes: Uint8Array = EMPTY_BYTES;

  constructor(options: ReceiptOptions) {
    this.#options = options;
    this.#waiting = new Waiting(options.clock);
    options.stream.listen({
      onMessage: (bytes) => this.#heard(bytes),
      onDrain: () => {},
      onClosed: () => {
        this.#isClosed = true;
        this.#waiting.poke();
      },
    });
    this.ended = this.#run();
  }

  /** Resolves when nothing is written any more. */
  async stop(): Promise<void> {
    this.#cut();
    await this.ended;
  }

  #cut(): void {
    this.#isCut = true;
    this.#arrived = [];
    this.#waiting.poke();
  }

  #heard(bytes: Uint8Array): void {
    if (this.#isCut) return;
    this.#arrived.push(bytes);
    // The sender stops for confirmations long before.
    if (this.#arrived.length > SNAPSHOT_CHUNKS_UNDER_WAY_MAX + 2) this.#cut();
    else this.#waiting.poke();
  }

  /** Never rejects. */
  async #run(): Promise<StagedName | undefined> {
    const { stream, onError } = this.#options;
    let verdict: Verdict | undefined;
    try {
      verdict = await this.#receive();
    } catch (error) {
      const isBroken = error instanceof RangeError || error instanceof KvError;
      verdict = isBroken ? Verdict.Refused : Verdict.Busy;
      onError(error);
      await this.#discard().catch(onError);
    }
    const left = this.#stored === undefined ? undefined : this.#name("part");
    await this.#close().catch(onError);
    if (verdict === undefined) {
      stream.abort({
        code: GrpcStatus.Cancelled,
        details: "the snapshot is not taken any further",
      });
    } else {
      stream.write(encodeFrame({ kind: "over", verdict }));
      stream.end();
    }
    this.#cut();
    return left;
  }

  /** Undefined when the stream ended, or nothing came on it. */
  async #receive(): Promise<Verdict | undefined> {
    const first = await this.#next();
    if (first === undefined) return undefined;
    if (first.kind !== "open") return Verdict.Refused;
    this.opening = first;
    const refusal = await this.#options.admit(first, this);
    if (refusal !== undefined || this.#isCut) return refusal;
    this.#isAdmitted = true;
    const stored = await this.#openFile(first);
    this.#confirm(stored);
    for (;;) {
      const frame = await this.#next();
      if (frame === undefined) return undefined;
      if (frame.kind === "end") return await this.#finish(stored, frame);
      if (frame.kind !== "rows") throw new RangeError(`a frame of kind ${frame.kind} came`);
      stored.check.rows(frame);
      await this.#store(stored);
      if (!(await this.#keepsSpace(stored))) return Verdict.Busy;
      this.#confirm(stored);
    }
  }

  async #next(): Promise<Frame | undefined> {
    const hasCome = () => this.#arrived.length > 0 || this.#isClosed || this.#isCut;
    await this.#waiting.until(hasCome, SNAPSHOT_STALL_TIMEOUT_MS);
    const bytes = this.#arrived.shift();
    if (bytes === undefined || this.#isCut) return undefined;
    this.#lastBytes = bytes;
    return decodeFrame(bytes);
  }

  #name(stage: Stage): StagedName {
    const { group, to, snapshotIndex, snapshotTerm } = this.opening!;
    return { group, replica: to, start: { index: snapshotIndex, term: snapshotTerm }, stage };
  }

  /** The file as far as an earlier stream has filled it, or a new one. */
  async #openFile(opening: Opening): Promise<Stored> {
    const { staging } = this.#options;
    const path = stagedPath(staging, this.#name("part"));
    const found = await openFile(staging.fs, path, "existing").catch(ifMissing);
    const partial = found && (await readPartial(found));
    if (found !== undefined && partial !== undefined) {
      const isSame = equalBytes(partial.check.opening.transfer, opening.transfer);
      if (isSame) return (this.#stored = { file: found, ...partial });
    }
    if (found !== undefined) await closeFile(found);
    const file = await openFile(staging.fs, path, "create");
    this.#stored = { file, check: new SnapshotCheck(opening), position: 0 };
    await this.#store(this.#stored);
    return this.#stored;
  }

  /** Adds the frame that came last to the file, as it came. */
  async #store(stored: Stored): Promise<void> {
    const bytes = this.#lastBytes;
    await writeFully(stored.file, bytes, stored.position);
    stored.position += bytes.length;
    this.#unsyncedBytes += bytes.length;
  }

  async #keepsSpace({ file }: Stored): Promise<boolean> {
    if (this.#unsyncedBytes < SNAPSHOT_SYNC_EVERY_BYTES) return true;
    this.#unsyncedBytes = 0;
    await datasync(file);
    return await this.#options.hasSpace();
  }

  #confirm({ check }: Stored): void {
    if (this.#isCut || this.#isClosed) return;
    const frame = encodeFrame({ kind: "next", sequence: check.nextSequence });
    this.#options.stream.write(frame);
  }

  /** What is synced here is what was sent, as a whole; then it gets its name, then the core hears of it. */
  async #finish(stored: Stored, end: Frame & { readonly kind: "end" }): Promise<Verdict> {
    const { staging, deliver } = this.#options;
    stored.check.end(end);
    await this.#store(stored);
    await datasync(stored.file);
    await this.#close();
    await moveStaged(staging, this.#name("part"), "snap");
    const { transfer: _, ...opening } = this.opening!;
    return deliver({ ...opening, kind: "snapshot", term: end.term }, this.#name("snap"));
  }

  /** Nothing of it may be gone on with: what the file holds is not known any more. */
  async #discard(): Promise<void> {
    if (!this.#isAdmitted) return;
    await this.#close();
    await deleteStaged(this.#options.staging, this.#name("part"));
    await deleteStaged(this.#options.staging, this.#name("snap"));
  }

  async #close(): Promise<void> {
    const stored = this.#stored;
    this.#stored = undefined;
    if (stored !== undefined) await closeFile(stored.file);
  }
}

function ifMissing(error: unknown): undefined {
  if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
  throw error;
}
