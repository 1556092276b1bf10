/**
 * The directory as this node serves it to gateways: rows of the meta group, followed and changed where that
 * group is led. Every method may be called on any node; on one that does not lead, it answers NOT_LEADER with
 * a hint.
 *
 * A leader that was cut off from the others notices when it has not heard from a quorum for an election's
 * time, 1 to 2 s, and ends all streams. So long its gateways may be without what another leader has
 * changed since, and believe that they are not.
 */
import { create } from "@bufbuild/protobuf";
import type { ResultBody } from "#proto/codec/messages.ts";
import {
  type ChangeDirectoryRequest,
  type ChangeDirectoryResponse,
  ChangeDirectoryResponseSchema,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { errorCodeFromWire, KvError } from "#shared/errors.ts";
import { DIRECTORY_BYTES_MAX, DIRECTORY_ROWS_MAX } from "#shared/limits.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import { DirectoryFollowers } from "./directory-followers.ts";
import { changeFault, directoryMutations, rowSizeBytes } from "./directory-rows.ts";
import { type DirectoryGroup, DirectoryTable } from "./directory-table.ts";
import type { MapHolder } from "./map-holder.ts";
import type { DirectoryHandler } from "./peers.ts";
import type { UsageSums } from "./usage-sums.ts";
import { failureMessage } from "./wire-failure.ts";

export type DirectoryServiceOptions = {
  readonly group: DirectoryGroup;
  readonly maps: MapHolder;
  readonly usage: UsageSums;
  readonly clock: Clock;
  /** The node's disk has room for more. */
  readonly isWritable: () => boolean;
  readonly onFatal: (error: unknown) => void;
};

/** Of changes that are under way: rows and bytes that the directory does not have yet. */
type Claim = { rows: number; bytes: number };

export class DirectoryService implements DirectoryHandler {
  readonly #options: DirectoryServiceOptions;
  readonly #table: DirectoryTable;
  readonly #followers: DirectoryFollowers;
  readonly #claimed: Claim = { rows: 0, bytes: 0 };

  constructor(options: DirectoryServiceOptions) {
    this.#options = options;
    const { group, usage, clock, onFatal } = options;
    this.#table = new DirectoryTable({ group, onChange: () => this.#followers.flush(), onFatal });
    this.#followers = new DirectoryFollowers({
      table: this.#table,
      usage,
      check: (clusterId) => this.#check(clusterId),
      leader: () => group.leader,
      clock,
    });
  }

  /** To be called every tick. */
  tick(): void {
    const { usage, maps } = this.#options;
    this.#table.look();
    usage.look(maps.current.nodes.map(({ id }) => id));
    this.#followers.tick();
  }

  /** Entries of the local replica of the meta group were applied. */
  metaApplied(): void {
    this.#table.look();
  }

  stop(): void {
    this.#table.stop();
    this.#followers.stop();
  }

  follow(stream: MessageStream): void {
    this.#followers.accept(stream);
  }

  async changeDirectory(request: ChangeDirectoryRequest): Promise<ChangeDirectoryResponse> {
    try {
      if (request.clusterId === "") {
        throw new KvError("INVALID_ARGUMENT", "the cluster that is meant is missing");
      }
      this.#check(request.clusterId);
      const fault = changeFault(request, this.#options.clock.nowMs());
      if (fault !== undefined) throw new KvError("INVALID_ARGUMENT", fault);
      // Before that the group has no revision that a gateway could wait for.
      if (this.#options.maps.current.version === 0) {
        const outcome = "not_applied";
        throw new KvError("UNAVAILABLE", "the cluster is being founded", { outcome });
      }
      const claim = this.#claim(request);
      const { body, revision } = await this.#propose(request, claim);
      if (body.kind === "failure") {
        const outcome = body.notApplied ? "not_applied" : "unknown";
        throw new KvError(errorCodeFromWire(body.code), body.detail, { outcome });
      }
      if (body.kind !== "write") throw new KvError("INTERNAL", "a write was answered with a read");
      return create(ChangeDirectoryResponseSchema, {
        applied: body.applied,
        revision: BigInt(revision),
      });
    } catch (error) {
      const failure = failureMessage(error, this.#options.group.leader);
      return create(ChangeDirectoryResponseSchema, { failure });
    }
  }

  /** It is answered by its deadline (`Replica.giveUp`), whatever becomes of it. */
  #propose(
    request: ChangeDirectoryRequest,
    claim: Claim,
  ): Promise<{ readonly body: ResultBody; readonly revision: number }> {
    const { requestId, deadlineMs } = request;
    const mutations = directoryMutations(request);
    this.#claimed.rows += claim.rows;
    this.#claimed.bytes += claim.bytes;
    return new Promise((resolve) => {
      const command = { requestId, deadlineMs: Number(deadlineMs), mutations };
      this.#table.change(command, (body, revision) => {
        this.#claimed.rows -= claim.rows;
        this.#claimed.bytes -= claim.bytes;
        resolve({ body, revision });
      });
    });
  }

  /** What the change may add. @throws KvError when there is no room for it */
  #claim({ mutations }: ChangeDirectoryRequest): Claim {
    const { rows, sizeBytes } = this.#table;
    if (rows === undefined) {
      const detail = "the leader of the meta group is reading its directory";
      throw new KvError("UNAVAILABLE", detail, { outcome: "not_applied" });
    }
    const claim: Claim = { rows: 0, bytes: 0 };
    for (const { name, value } of mutations) {
      if (value === undefined) continue;
      const before = rows.get(name);
      const beforeBytes = before === undefined ? 0 : rowSizeBytes(name, before.value);
      if (before === undefined) claim.rows++;
      claim.bytes += Math.max(0, rowSizeBytes(name, value) - beforeBytes);
    }
    // What frees space, or takes none, is always allowed.
    if (claim.rows + claim.bytes === 0) return claim;
    if (!this.#options.isWritable()) {
      const detail = "the leader of the meta group is low on disk space";
      throw new KvError("STORAGE_FULL", detail, { outcome: "not_applied" });
    }
    const isFull =
      rows.size + this.#claimed.rows + claim.rows > DIRECTORY_ROWS_MAX ||
      sizeBytes + this.#claimed.bytes + claim.bytes > DIRECTORY_BYTES_MAX;
    if (!isFull) return claim;
    throw new KvError(
      "CLUSTER_CONFLICT",
      `the directory is full: it has at most ${DIRECTORY_ROWS_MAX} rows (tenants, keys and what goes ` +
        `with them) and ${DIRECTORY_BYTES_MAX} bytes. Remove what is not needed any more.`,
    );
  }

  /** Empty for any cluster. @throws KvError */
  #check(clusterId: string): void {
    const { maps, group } = this.#options;
    const ours = maps.current.clusterId;
    if (clusterId !== "" && clusterId !== ours) {
      throw new KvError("CLUSTER_CONFLICT", `this is cluster "${ours}", not "${clusterId}"`);
    }
    if (group.leads) return;
    const outcome = "not_applied";
    throw new KvError("NOT_LEADER", "this node does not lead the meta group", { outcome });
  }
}
