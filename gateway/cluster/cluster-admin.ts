/**
 * What operators ask of the cluster as a whole. Only the leader of the meta group can answer; this
 * finds it, and tries again until the deadline.
 *
 * A change whose answer was lost is asked for again. That is safe, because changes say what is to be
 * ("node 3 is draining") and not what to do next; but what a later attempt is refused with then says
 * nothing of the first one, so the failure's outcome is `unknown`.
 */
import type {
  ChangeClusterRequest,
  ChangeClusterResponse,
  GetClusterStatusResponse,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { type ClusterRpc, NoAnswer } from "./cluster-rpc.ts";
import { MetaLeader, type MetaLeaderOptions } from "./meta-leader.ts";

export type ClusterAdminOptions = {
  /** Wall clock, milliseconds since the Unix epoch, after which the caller gives up. */
  readonly deadlineMs: number;
};

/** Answers never hold a `failure`: that is thrown as a KvError. */
export interface ClusterAdmin {
  /** @throws KvError */
  status(options: ClusterAdminOptions): Promise<GetClusterStatusResponse>;
  /** @throws KvError with its outcome */
  /** `clusterId` of the request is set here. */
  change(
    request: ChangeClusterRequest,
    options: ClusterAdminOptions,
  ): Promise<ChangeClusterResponse>;
}

export class MetaLeaderAdmin implements ClusterAdmin {
  readonly #rpc: ClusterRpc;
  readonly #leader: MetaLeader;

  constructor({ rpc, ...options }: MetaLeaderOptions & { readonly rpc: ClusterRpc }) {
    this.#rpc = rpc;
    this.#leader = new MetaLeader(options);
  }

  status({ deadlineMs }: ClusterAdminOptions): Promise<GetClusterStatusResponse> {
    return this.#leader.ask(deadlineMs, async ({ address, clusterId }, timeoutMs) => {
      const answer = await this.#rpc.status(address, timeoutMs);
      const found = answer.map?.clusterId ?? clusterId;
      if (found === clusterId) return answer;
      // Another cluster has got the address since.
      const detail = `${address} belongs to cluster "${found}"`;
      throw new NoAnswer(detail, { mayHaveArrived: false });
    });
  }

  change(
    request: ChangeClusterRequest,
    { deadlineMs }: ClusterAdminOptions,
  ): Promise<ChangeClusterResponse> {
    return this.#leader.ask(deadlineMs, ({ address, clusterId }, timeoutMs) =>
      this.#rpc.change(address, { ...request, clusterId }, timeoutMs),
    );
  }
}
