/** The cluster as the HTTP side sees it, in a test's hands. Used by tests only. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { ClusterAdmin, ClusterAdminOptions } from "#gateway/cluster/cluster-admin.ts";
import type { ClusterView } from "#gateway/cluster/cluster-view.ts";
import {
  type ChangeClusterRequest,
  ChangeClusterResponseSchema,
  GetClusterStatusResponseSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { ClusterMap } from "#shared/cluster-map.ts";

export class FakeClusterView implements ClusterView, ClusterAdmin {
  readonly admin: ClusterAdmin = this;
  /** Every change that was asked for, with the deadline it was given. */
  readonly changes: { readonly request: ChangeClusterRequest; readonly deadlineMs: number }[] = [];
  /** Thrown by each call while set. */
  failure: unknown;
  /** Each call waits for this before it does anything. */
  gate: Promise<void> = Promise.resolve();
  statusAnswer: MessageInitShape<typeof GetClusterStatusResponseSchema> = {};
  changeAnswer: MessageInitShape<typeof ChangeClusterResponseSchema> = {
    detail: "done",
    mapVersion: 7n,
  };
  knownMap: ClusterMap | undefined;
  readonly reachable = new Set<number>();

  readonly map = () => this.knownMap;
  readonly isReachable = (node: number) => this.reachable.has(node);

  async status() {
    await this.#enter();
    return create(GetClusterStatusResponseSchema, this.statusAnswer);
  }

  async change(request: ChangeClusterRequest, { deadlineMs }: ClusterAdminOptions) {
    this.changes.push({ request, deadlineMs });
    await this.#enter();
    return create(ChangeClusterResponseSchema, this.changeAnswer);
  }

  async #enter(): Promise<void> {
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
  }
}
