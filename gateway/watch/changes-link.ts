/**
 * The way to the change logs of one storage node: a Changes stream, opened when something is wanted and closed when
 * nothing has been wanted for a while.
 *
 * What is asked within a turn leaves as one message. Reads in flight are bounded, and so is their line. When the
 * stream breaks, or the node falls silent while it owes something, reads fail and follows end; whoever wants more asks
 * again, and a new stream is opened, not sooner than a pause allows. A node that has nothing to tell answers a
 * probe: following a quiet vshard is not taken for being cut off, nor the other way round.
 */
import { SilenceWatch } from "#gateway/storage/silence.ts";
import type {
  ChangeBatch,
  FollowChanges,
  FollowEnded,
  ReadChanges,
  ReadChangesResult,
} from "#proto/codec/change-messages.ts";
import { decodeChangesResponse, encodeChangesRequest } from "#proto/codec/changes.ts";
import { failureOf } from "#proto/codec/failure.ts";
import type { Failure, Hello } from "#proto/codec/messages.ts";
import { oldProtocol, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN } from "#proto/codec/service.ts";
import type { Clock } from "#shared/clock.ts";
import { isClusterNamed } from "#shared/cluster-map.ts";
import { type ErrorCode, GrpcStatus, KvError } from "#shared/errors.ts";
import type { NodeId, Revision, VshardId } from "#shared/ids.ts";
import {
  CHANGES_LINK_IDLE_MS,
  CHANGES_READS_IN_FLIGHT_MAX,
  CHANGES_READS_WAITING_MAX,
  STREAM_RECONNECT_BACKOFF_MS_MAX,
  STREAM_RECONNECT_BACKOFF_MS_MIN,
  STREAM_WINDOW_BYTES_MAX,
  STREAM_WINDOW_OPERATIONS_MAX,
} from "#shared/limits.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import type { Random } from "#shared/random.ts";

/** Opens Changes streams to one storage node. */
export type ChangesConnector = {
  /** Who answers there, for people. */
  readonly peer: string;
  readonly open: () => MessageStream;
  readonly close: () => void;
};

export type LinkListener = {
  readonly onBatch: (link: ChangesLink, batch: ChangeBatch) => void;
  readonly onEnded: (link: ChangesLink, ended: FollowEnded) => void;
  /** No follow is left there. */
  readonly onBroken: (link: ChangesLink) => void;
  /** Nothing has been wanted for a while. The link is closed. */
  readonly onIdle: (link: ChangesLink) => void;
};

export type ChangesLinkOptions = {
  readonly connector: ChangesConnector;
  readonly clusterId: string;
  readonly nodeId: NodeId;
  readonly softwareVersion: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly listener: LinkListener;
};

export type ReadAnswer = ReadChangesResult | Failure;
type Read = { readonly request: ReadChanges; readonly reply: (answer: ReadAnswer) => void };

export const isFailure = (answer: ReadAnswer): answer is Failure => "kind" in answer;

export class ChangesLink {
  readonly nodeId: NodeId;
  readonly #options: ChangesLinkOptions;
  #stream: MessageStream | undefined;
  #heardAtMs = Number.NEGATIVE_INFINITY;
  readonly #inFlight = new Map<number, Read>();
  #waiting: Read[] = [];
  readonly #follows = new Set<VshardId>();
  #lastCallId = 0;
  // What leaves with the next message.
  #reads: ReadChanges[] = [];
  #follow: FollowChanges[] = [];
  #unfollow: VshardId[] = [];
  #flushScheduled = false;
  readonly #silence: SilenceWatch;
  #problem: string;
  #backoffMs = STREAM_RECONNECT_BACKOFF_MS_MIN;
  #notBeforeMs = Number.NEGATIVE_INFINITY;
  #cancelIdle: (() => void) | undefined;
  #closed = false;

  constructor(options: ChangesLinkOptions) {
    this.#options = options;
    this.nodeId = options.nodeId;
    this.#problem = `connecting to ${options.connector.peer}`;
    this.#silence = new SilenceWatch({
      clock: options.clock,
      owes: () => this.#stream !== undefined && this.#isWanted,
      // An empty message is answered by an empty one.
      probe: () => this.#stream!.write(encodeChangesRequest(NOTHING)),
      onSilent: () => this.#giveUp(this.#stream!, "it does not answer"),
    });
  }

  /** Monotonic, of anything at all. */
  get heardAtMs(): number {
    return this.#heardAtMs;
  }

  /** Answers exactly once, now or later. */
  read(request: Omit<ReadChanges, "callId">, reply: (answer: ReadAnswer) => void): void {
    if (!this.#open()) {
      reply(this.#failure("UNAVAILABLE", this.#problem));
      return;
    }
    const read = { request: { ...request, callId: ++this.#lastCallId }, reply };
    if (this.#inFlight.size < CHANGES_READS_IN_FLIGHT_MAX) this.#send(read);
    else if (this.#waiting.length < CHANGES_READS_WAITING_MAX) this.#waiting.push(read);
    else reply(this.#failure("OVERLOADED", "too many reads wait for the storage node"));
  }

  /** Returns whether the follow is asked for; how it goes, the listener hears. */
  follow(vshard: VshardId, afterRevision: Revision): boolean {
    if (!this.#open()) return false;
    this.#follows.add(vshard);
    this.#follow.push({ vshard, afterRevision, fromHead: false });
    this.#scheduleFlush();
    return true;
  }

  unfollow(vshard: VshardId): void {
    if (!this.#follows.delete(vshard)) return;
    // One that has not left yet is not to overtake its end.
    this.#follow = this.#follow.filter((follow) => follow.vshard !== vshard);
    this.#unfollow.push(vshard);
    this.#scheduleFlush();
    this.#noteIdle();
  }

  close(): void {
    this.#closed = true;
    this.#cancelIdle?.();
    if (this.#stream !== undefined) this.#giveUp(this.#stream, "the gateway closed it");
    this.#options.connector.close();
  }

  get #isWanted(): boolean {
    return this.#inFlight.size > 0 || this.#follows.size > 0;
  }

  #failure(code: ErrorCode, detail: string): Failure {
    return failureOf(code, detail, { notApplied: true });
  }

  #open(): boolean {
    const { connector, clock, clusterId, softwareVersion } = this.#options;
    if (this.#stream !== undefined) return true;
    if (this.#closed || clock.monotonicMs() < this.#notBeforeMs) return false;
    const stream = connector.open();
    this.#stream = stream;
    stream.listen({
      onMessage: (bytes) => this.#receive(stream, bytes),
      // What is written is small, and bounded by what may be in flight.
      onDrain: () => {},
      onClosed: ({ code, details }) =>
        this.#break(stream, code === GrpcStatus.Ok ? "it ended the stream" : details),
    });
    const hello: Hello = {
      protocolVersion: PROTOCOL_VERSION,
      clusterId,
      nodeId: 0,
      softwareVersion,
      windowOperations: STREAM_WINDOW_OPERATIONS_MAX,
      windowBytes: STREAM_WINDOW_BYTES_MAX,
    };
    stream.write(encodeChangesRequest({ ...NOTHING, hello }));
    return true;
  }

  #send(read: Read): void {
    this.#inFlight.set(read.request.callId, read);
    this.#reads.push(read.request);
    this.#scheduleFlush();
  }

  #scheduleFlush(): void {
    this.#cancelIdle?.();
    this.#cancelIdle = undefined;
    this.#silence.begin();
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    queueMicrotask(() => this.#flush());
  }

  #flush(): void {
    this.#flushScheduled = false;
    const reads = this.#reads;
    const follows = this.#follow;
    const unfollow = this.#unfollow;
    this.#reads = [];
    this.#follow = [];
    this.#unfollow = [];
    const isEmpty = reads.length + follows.length + unfollow.length === 0;
    if (this.#stream === undefined || isEmpty) return;
    // The node takes follows before the ends of follows: an end must not meet a later follow.
    const followed = new Set(follows.map(({ vshard }) => vshard));
    const ends = unfollow.filter((vshard) => !followed.has(vshard));
    const request = { hello: undefined, reads, follows, unfollow: ends };
    this.#stream.write(encodeChangesRequest(request));
  }

  #receive(stream: MessageStream, bytes: Uint8Array): void {
    if (this.#stream !== stream) return;
    this.#silence.heard();
    this.#heardAtMs = this.#options.clock.monotonicMs();
    const { listener } = this.#options;
    try {
      const { hello, results, batches, ended } = decodeChangesResponse(bytes);
      if (hello !== undefined) this.#greet(hello);
      for (const result of results) this.#settle(result);
      for (const batch of batches) listener.onBatch(this, batch);
      for (const end of ended) {
        if (!this.#follows.has(end.vshard)) continue;
        // It may be the end of an earlier one: this one is not to go on without anybody who takes it.
        this.unfollow(end.vshard);
        listener.onEnded(this, end);
      }
    } catch (error) {
      if (!(error instanceof KvError)) throw error;
      this.#giveUp(stream, error.message);
    }
    this.#noteIdle();
  }

  /** @throws KvError INVALID_ARGUMENT when the node is not the one that was asked for */
  #greet(theirs: Hello): void {
    const { connector, clusterId, nodeId } = this.#options;
    const { peer } = connector;
    const old = oldProtocol(peer, theirs, PROTOCOL_VERSION_MIN);
    if (old !== undefined) throw new KvError("INVALID_ARGUMENT", old);
    if (!isClusterNamed(theirs.clusterId, clusterId) || theirs.nodeId !== nodeId) {
      const said = `node ${theirs.nodeId} of cluster "${theirs.clusterId}"`;
      throw new KvError("INVALID_ARGUMENT", `${peer} is ${said}: not the one that was asked for`);
    }
    this.#backoffMs = STREAM_RECONNECT_BACKOFF_MS_MIN;
  }

  #settle(result: ReadChangesResult): void {
    const read = this.#inFlight.get(result.callId);
    if (read === undefined) return;
    this.#inFlight.delete(result.callId);
    const next = this.#waiting.shift();
    if (next !== undefined) this.#send(next);
    read.reply(result);
  }

  #giveUp(stream: MessageStream, details: string): void {
    this.#break(stream, details);
    stream.abort({ code: GrpcStatus.Cancelled, details });
  }

  #break(stream: MessageStream, details: string): void {
    if (this.#stream !== stream) return;
    const { connector, clock, random, listener } = this.#options;
    this.#stream = undefined;
    this.#silence.stop();
    this.#problem = `no stream to ${connector.peer}: ${details}`;
    const pauseMs = this.#backoffMs * (0.5 + random.float() / 2);
    this.#notBeforeMs = clock.monotonicMs() + pauseMs;
    this.#backoffMs = Math.min(this.#backoffMs * 2, STREAM_RECONNECT_BACKOFF_MS_MAX);
    const reads = [...this.#inFlight.values(), ...this.#waiting];
    this.#inFlight.clear();
    this.#waiting = [];
    this.#reads = [];
    this.#follow = [];
    this.#unfollow = [];
    this.#follows.clear();
    for (const { reply } of reads) reply(this.#failure("UNAVAILABLE", this.#problem));
    if (!this.#closed) listener.onBroken(this);
    this.#noteIdle();
  }

  #noteIdle(): void {
    if (this.#closed || this.#isWanted || this.#cancelIdle !== undefined) return;
    this.#cancelIdle = this.#options.clock.after(CHANGES_LINK_IDLE_MS, () => {
      this.#cancelIdle = undefined;
      if (this.#isWanted) return;
      this.close();
      this.#options.listener.onIdle(this);
    });
  }
}

const NOTHING = { hello: undefined, reads: [], follows: [], unfollow: [] } as const;
