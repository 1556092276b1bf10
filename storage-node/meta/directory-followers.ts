/**
 * The gateways that follow the directory of this node, as long as it leads the meta group.
 *
 * Each gets all rows, in messages of bounded size, and then what changes. Nothing is queued for it: while
 * its stream is full nothing is written, and afterwards it is sent what it lacks by then (`ChangeTable`). One
 * that takes nothing for long is cut off, so that marks of removed rows need not be kept for it.
 *
 * A message without a revision is a part of something larger: the gateway holds its rows back until the part
 * with one has come. So it never shows some rows of a change without the others.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type DirectoryRow,
  type FollowDirectoryRequest,
  FollowDirectoryRequestSchema,
  type FollowDirectoryResponse,
  FollowDirectoryResponseSchema,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { GrpcStatus, KvError } from "#shared/errors.ts";
import {
  DIRECTORY_DEMANDS_MAX,
  DIRECTORY_FOLLOWERS_MAX,
  DIRECTORY_HEARTBEAT_MS,
  DIRECTORY_HELLO_TIMEOUT_MS,
  DIRECTORY_MESSAGE_BYTES_SOFT_MAX,
  DIRECTORY_MESSAGE_ENTRIES_MAX,
  DIRECTORY_STALL_MS_MAX,
  REQUEST_ID_SIZE_BYTES,
  TICK_MS,
} from "#shared/limits.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import type { ChangeReader, ChangeTable } from "./change-table.ts";
import { type DirectoryValue, rowSizeBytes } from "./directory-rows.ts";
import type { DirectoryTable } from "./directory-table.ts";
import { failureMessage } from "./wire-failure.ts";

export type DirectoryFollowersOptions = {
  readonly table: DirectoryTable;
  /** @throws KvError when this node cannot serve that cluster, or does not lead its meta group */
  readonly check: (clusterId: string) => void;
  readonly leader: () => Parameters<typeof failureMessage>[1];
  readonly clock: Clock;
};

/** What a follower reads from, once the leader has read it. */
type Feed = {
  readonly table: ChangeTable<string, DirectoryValue>;
  readonly rows: ChangeReader<string, DirectoryValue>;
};

type Follower = {
  readonly stream: MessageStream;
  /** In hex; empty until it has said whom it means. */
  gatewayId: string;
  feed: Feed | undefined;
  /** Of the last message that had one. */
  sentRevision: number;
  sentAtMs: number;
  /** Since when its stream has been full. */
  blockedSinceMs: number | undefined;
  cancelHello: () => void;
};

export class DirectoryFollowers {
  readonly #options: DirectoryFollowersOptions;
  readonly #followers = new Set<Follower>();

  constructor(options: DirectoryFollowersOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#followers.size;
  }

  accept(stream: MessageStream): void {
    const { clock } = this.#options;
    const follower: Follower = {
      stream,
      gatewayId: "",
      feed: undefined,
      sentRevision: -1,
      sentAtMs: Number.NEGATIVE_INFINITY,
      blockedSinceMs: undefined,
      cancelHello: clock.after(DIRECTORY_HELLO_TIMEOUT_MS, () => {
        this.#refuse(follower, new KvError("INVALID_ARGUMENT", "no first message has come"));
      }),
    };
    this.#followers.add(follower);
    stream.listen({
      onMessage: (bytes) => this.#receive(follower, bytes),
      onDrain: () => {
        follower.blockedSinceMs = undefined;
        this.#send(follower, false);
      },
      onClosed: () => this.#forget(follower),
    });
    if (this.#followers.size > DIRECTORY_FOLLOWERS_MAX) {
      const detail = `at most ${DIRECTORY_FOLLOWERS_MAX} gateways follow the directory`;
      this.#refuse(follower, new KvError("OVERLOADED", detail));
    }
  }

  /** To be called whenever rows, or whether there are any, may have changed. */
  flush(): void {
    for (const follower of [...this.#followers]) this.#send(follower, false);
  }

  /** To be called every tick. */
  tick(): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const follower of [...this.#followers]) {
      const { blockedSinceMs, sentAtMs, stream } = follower;
      if (blockedSinceMs !== undefined && nowMs - blockedSinceMs > DIRECTORY_STALL_MS_MAX) {
        this.#forget(follower);
        stream.abort({ code: GrpcStatus.Aborted, details: "the gateway takes no messages" });
        // One tick early rather than late: "at least every …".
      } else this.#send(follower, nowMs - sentAtMs >= DIRECTORY_HEARTBEAT_MS - TICK_MS);
    }
    this.#options.table.rows?.tidy();
  }

  /** Ends all streams. */
  stop(): void {
    for (const follower of [...this.#followers]) {
      this.#refuse(follower, new KvError("UNAVAILABLE", "the storage node is stopping"));
    }
  }

  #receive(follower: Follower, bytes: Uint8Array): void {
    if (!this.#followers.has(follower)) return;
    try {
      const request = decoded(bytes);
      if (follower.gatewayId === "") this.#admit(follower, request);
    } catch (error) {
      this.#refuse(follower, error);
    }
  }

  #admit(follower: Follower, { clusterId, gatewayId }: FollowDirectoryRequest): void {
    if (gatewayId.length !== REQUEST_ID_SIZE_BYTES) {
      throw new KvError("INVALID_ARGUMENT", `a gateway's id has ${REQUEST_ID_SIZE_BYTES} bytes`);
    }
    this.#options.check(clusterId);
    follower.cancelHello();
    const id = gatewayId.toHex();
    for (const other of [...this.#followers]) {
      // Its stream broke, and that is not known here yet.
      if (other.gatewayId !== id) continue;
      this.#refuse(other, new KvError("UNAVAILABLE", "the gateway has opened another stream"));
    }
    follower.gatewayId = id;
    this.#options.table.look();
    this.#send(follower, false);
  }

  #refuse(follower: Follower, error: unknown): void {
    if (!this.#followers.has(follower)) return;
    this.#forget(follower);
    const failure = failureMessage(error, this.#options.leader());
    const message = create(FollowDirectoryResponseSchema, { failure });
    follower.stream.write(toBinary(FollowDirectoryResponseSchema, message));
    follower.stream.end();
  }

  #forget(follower: Follower): void {
    if (!this.#followers.delete(follower)) return;
    follower.cancelHello();
    follower.feed?.rows.close();
  }

  /** What it lacks, as far as its stream takes it. A heartbeat says at least that nothing has changed. */
  #send(follower: Follower, isHeartbeat: boolean): void {
    const { table, clock } = this.#options;
    if (follower.gatewayId === "" || !this.#holdsOn(follower)) return;
    const { feed } = follower;
    let isDue = isHeartbeat;
    while (feed !== undefined && follower.blockedSinceMs === undefined) {
      const message = nextRows(feed);
      // Without any change in the group the directory is known to be empty, and 0 would mean a part.
      if (feed.rows.isAtEnd) message.revision = BigInt(Math.max(1, table.revision));
      const isNews =
        message.rows.length + message.removed.length > 0 ||
        (feed.rows.isAtEnd && follower.sentRevision !== table.revision);
      if (!isNews && !isDue) return;
      isDue = false;
      if (feed.rows.isAtEnd) follower.sentRevision = table.revision;
      message.gateways = this.#gateways();
      follower.sentAtMs = clock.monotonicMs();
      const goesOn = follower.stream.write(toBinary(FollowDirectoryResponseSchema, message));
      if (!goesOn) follower.blockedSinceMs = follower.sentAtMs;
      if (feed.rows.isAtEnd) return;
    }
  }

  /** Whether this node still leads as it did when it began with this follower. */
  #holdsOn(follower: Follower): boolean {
    const rows = this.#options.table.rows;
    try {
      if (follower.feed !== undefined && follower.feed.table !== rows) {
        throw new KvError("NOT_LEADER", "this node has lost the lead of the meta group");
      }
      // It may yet be reading them. Whoever leads no more refuses here.
      if (rows === undefined) this.#options.check("");
    } catch (error) {
      this.#refuse(follower, error);
      return false;
    }
    if (rows !== undefined) follower.feed ??= { table: rows, rows: rows.reader() };
    return true;
  }

  #gateways(): number {
    return new Set([...this.#followers].map(({ gatewayId }) => gatewayId)).size;
  }
}

/** @throws KvError */
function decoded(bytes: Uint8Array): FollowDirectoryRequest {
  let request: FollowDirectoryRequest;
  try {
    request = fromBinary(FollowDirectoryRequestSchema, bytes);
  } catch (error) {
    throw new KvError("INVALID_ARGUMENT", "the message does not decode", { cause: error });
  }
  if (request.demands.length <= DIRECTORY_DEMANDS_MAX) return request;
  throw new KvError("INVALID_ARGUMENT", `it speaks of more than ${DIRECTORY_DEMANDS_MAX} tenants`);
}

function nextRows({ rows: reader }: Feed): FollowDirectoryResponse {
  const rows: DirectoryRow[] = [];
  const removed: string[] = [];
  let sizeBytes = 0;
  let count = 0;
  while (count < DIRECTORY_MESSAGE_ENTRIES_MAX && sizeBytes < DIRECTORY_MESSAGE_BYTES_SOFT_MAX) {
    const entry = reader.next();
    if (entry === undefined) break;
    count++;
    const { key: name, value: row } = entry;
    if (row === undefined) {
      removed.push(name);
      sizeBytes += name.length;
    } else {
      const { value, revision } = row;
      rows.push({ name, value, revision: BigInt(revision) } as DirectoryRow);
      sizeBytes += rowSizeBytes(name, value);
    }
  }
  return create(FollowDirectoryResponseSchema, { rows, removed });
}
