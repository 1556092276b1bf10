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
  DirectoryRowSchema,
  type FollowDirectoryRequest,
  FollowDirectoryRequestSchema,
  type FollowDirectoryResponse,
  FollowDirectoryResponseSchema,
  type TenantDemand,
  TenantShareSchema,
  TenantUsageSchema,
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
import type { Usage } from "./led-usage.ts";
import { RateShares, type TenantRates } from "./rate-shares.ts";
import type { UsageSums } from "./usage-sums.ts";
import { failureMessage } from "./wire-failure.ts";

export type DirectoryFollowersOptions = {
  readonly table: DirectoryTable;
  readonly usage: UsageSums;
  /** @throws KvError when this node cannot serve that cluster, or does not lead its meta group */
  readonly check: (clusterId: string) => void;
  readonly leader: () => Parameters<typeof failureMessage>[1];
  readonly clock: Clock;
};

/** What a follower reads from, once the leader has read it. */
type Feed = {
  readonly table: ChangeTable<string, DirectoryValue>;
  readonly rows: ChangeReader<string, DirectoryValue>;
  readonly usage: ChangeReader<number, Usage>;
};

type Follower = {
  readonly stream: MessageStream;
  /** In hex; empty until it has said whom it means. */
  gatewayId: string;
  feed: Feed | undefined;
  /** Of the last message that had one. */
  sentRevision: number;
  /** Of the last heartbeat. */
  beatAtMs: number;
  /** Since when its stream has been full. */
  blockedSinceMs: number | undefined;
  cancelHello: () => void;
};

export class DirectoryFollowers {
  readonly #options: DirectoryFollowersOptions;
  readonly #followers = new Set<Follower>();
  /** Of the time in which this node leads, which is told by its table of rows. */
  #shares: RateShares | undefined;
  #sharesOf: Feed["table"] | undefined;
  #nextRoundMs = 0;

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
      beatAtMs: Number.NEGATIVE_INFINITY,
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
        this.#send(follower);
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
    for (const follower of [...this.#followers]) this.#send(follower);
  }

  /** To be called every tick. */
  tick(): void {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs >= this.#nextRoundMs) {
      this.#nextRoundMs = nowMs + DIRECTORY_HEARTBEAT_MS;
      this.#shares?.rebalance(nowMs);
    }
    for (const follower of [...this.#followers]) {
      const { blockedSinceMs, stream } = follower;
      if (blockedSinceMs !== undefined && nowMs - blockedSinceMs > DIRECTORY_STALL_MS_MAX) {
        this.#forget(follower);
        stream.abort({ code: GrpcStatus.Aborted, details: "the gateway takes no messages" });
      } else this.#send(follower);
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
      const nowMs = this.#options.clock.monotonicMs();
      this.#shares?.demand(follower.gatewayId, request.demands.map(ratesOf), nowMs);
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
    this.#send(follower);
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
    const { feed, gatewayId } = follower;
    if (feed === undefined) return;
    feed.rows.close();
    feed.usage.close();
    if (feed.table !== this.#sharesOf) return;
    this.#shares?.leave(gatewayId, this.#options.clock.monotonicMs());
  }

  /** What it lacks, as far as its stream takes it, and a heartbeat when one is due. */
  #send(follower: Follower): void {
    const { table, clock } = this.#options;
    if (follower.gatewayId === "" || !this.#holdsOn(follower)) return;
    const { feed, stream } = follower;
    const nowMs = clock.monotonicMs();
    let isMore = false;
    while (feed !== undefined && follower.blockedSinceMs === undefined) {
      const message = nextRows(feed);
      const isWhole = feed.rows.isAtEnd;
      // A tick early rather than late: "at least every …".
      const isDue = isWhole && nowMs - follower.beatAtMs >= DIRECTORY_HEARTBEAT_MS - TICK_MS;
      const hasRows = message.rows.length + message.removed.length > 0;
      const isNewer = isWhole && follower.sentRevision !== table.revision;
      if (!hasRows && !isNewer && !isDue && !isMore) return;
      // Rows first: what else there is to say would only delay them.
      if (isWhole) {
        follower.sentRevision = table.revision;
        // Without any change in the group the directory is known to be empty, and 0 would mean a part.
        message.revision = BigInt(Math.max(1, table.revision));
        this.#addUsage(message, feed);
      }
      if (isDue) {
        follower.beatAtMs = nowMs;
        this.#addShares(message, follower);
      }
      if (!stream.write(toBinary(FollowDirectoryResponseSchema, message))) {
        follower.blockedSinceMs = nowMs;
      }
      if (isWhole && feed.usage.isAtEnd) return;
      isMore = true;
    }
  }

  #addShares(message: FollowDirectoryResponse, { gatewayId }: Follower): void {
    const nowMs = this.#options.clock.monotonicMs();
    const told = this.#shares?.take(gatewayId, nowMs) ?? { shares: [], gateways: 0 };
    message.gateways = told.gateways;
    message.shares = told.shares.map((share) => create(TenantShareSchema, share));
  }

  #addUsage(message: FollowDirectoryResponse, { usage: reader }: Feed): void {
    while (message.usage.length < DIRECTORY_MESSAGE_ENTRIES_MAX) {
      const entry = reader.next();
      if (entry === undefined) break;
      const { bytes, objects } = entry.value ?? { bytes: 0, objects: 0 };
      message.usage.push(
        create(TenantUsageSchema, {
          tenantId: entry.key,
          bytes: BigInt(bytes),
          objects: BigInt(objects),
        }),
      );
    }
    message.usageKnown = this.#options.usage.isComplete && reader.isAtEnd;
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
    if (rows === undefined) return true;
    if (follower.feed !== undefined) return true;
    const { usage, clock } = this.#options;
    follower.feed = { table: rows, rows: rows.reader(), usage: usage.totals.reader() };
    if (this.#sharesOf !== rows) {
      this.#sharesOf = rows;
      this.#shares = new RateShares(clock.monotonicMs());
    }
    this.#shares?.join(follower.gatewayId);
    return true;
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

const ratesOf = ({ tenantId, requestsPerSecond, bytesPerSecond }: TenantDemand): TenantRates => ({
  tenantId,
  requests: requestsPerSecond,
  bytes: bytesPerSecond,
});

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
      rows.push(create(DirectoryRowSchema, { name, value, revision: BigInt(revision) }));
      sizeBytes += rowSizeBytes(name, value);
    }
  }
  return create(FollowDirectoryResponseSchema, { rows, removed });
}
