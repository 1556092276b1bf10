/**
 * `ClusterService` of the storage node in the same process, which runs in another thread.
 *
 * The gateway's thread asks over its control port, with a number for each request, because several can
 * be under way; what the storage node's thread answers is told by that number. Messages travel encoded:
 * so both threads need to agree on nothing but the protocol.
 */
import type { MessagePort } from "node:worker_threads";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type ChangeClusterRequest,
  ChangeClusterRequestSchema,
  type ChangeClusterResponse,
  ChangeClusterResponseSchema,
  type GetClusterStatusRequest,
  GetClusterStatusRequestSchema,
  type GetClusterStatusResponse,
  GetClusterStatusResponseSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import {
  type ChangeDirectoryRequest,
  ChangeDirectoryRequestSchema,
  type ChangeDirectoryResponse,
  ChangeDirectoryResponseSchema,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { type ClusterRpc, NoAnswer } from "./cluster-rpc.ts";

/** What the storage node's side of the all-in-one has to offer. Refusals are a `failure` inside. */
export type ClusterHandler = {
  readonly status: (request: GetClusterStatusRequest) => Promise<GetClusterStatusResponse>;
  readonly change: (request: ChangeClusterRequest) => Promise<ChangeClusterResponse>;
  readonly changeDirectory: (request: ChangeDirectoryRequest) => Promise<ChangeDirectoryResponse>;
  /** The port is the storage node's end of a stream (`PortStream`). */
  readonly followDirectory: (port: MessagePort) => void;
  /** Likewise, of a Changes stream. */
  readonly openChanges: (port: MessagePort) => void;
};

/** From the gateway's thread. */
export type ClusterAsk = {
  readonly kind: "askCluster";
  readonly id: number;
  readonly method: "status" | "change" | "changeDirectory";
  readonly request: Uint8Array;
};

/** To the gateway's thread. Without an answer the handler has failed, and `reason` says how. */
export type ClusterAnswer = {
  readonly kind: "clusterAnswers";
  readonly id: number;
  readonly answer: Uint8Array | undefined;
  readonly reason: string;
};

const answers: Record<
  ClusterAsk["method"],
  (handler: ClusterHandler, request: Uint8Array) => Promise<Uint8Array>
> = {
  status: async (handler, request) => {
    const answer = await handler.status(fromBinary(GetClusterStatusRequestSchema, request));
    return toBinary(GetClusterStatusResponseSchema, answer);
  },
  change: async (handler, request) => {
    const answer = await handler.change(fromBinary(ChangeClusterRequestSchema, request));
    return toBinary(ChangeClusterResponseSchema, answer);
  },
  changeDirectory: async (handler, request) => {
    const message = fromBinary(ChangeDirectoryRequestSchema, request);
    return toBinary(ChangeDirectoryResponseSchema, await handler.changeDirectory(message));
  },
};

/** Carries out what the gateway's thread asks. Never rejects. */
export async function answerAsk(handler: ClusterHandler, ask: ClusterAsk): Promise<ClusterAnswer> {
  const { id, method, request } = ask;
  try {
    const answer = await answers[method](handler, request);
    return { kind: "clusterAnswers", id, answer, reason: "" };
  } catch (error) {
    return { kind: "clusterAnswers", id, answer: undefined, reason: String(error) };
  }
}

/** One node, so the addresses that it is asked with do not matter. */
export class PortClusterRpc implements ClusterRpc {
  readonly #post: (ask: ClusterAsk) => void;
  readonly #clock: Clock;
  readonly #waiting = new Map<number, (answer: ClusterAnswer) => void>();
  #lastId = 0;

  constructor(options: { readonly post: (ask: ClusterAsk) => void; readonly clock: Clock }) {
    this.#post = options.post;
    this.#clock = options.clock;
  }

  async status(_: string, timeoutMs: number): Promise<GetClusterStatusResponse> {
    const request = toBinary(GetClusterStatusRequestSchema, create(GetClusterStatusRequestSchema));
    const answer = await this.ask("status", request, timeoutMs);
    return fromBinary(GetClusterStatusResponseSchema, answer);
  }

  async change(
    _: string,
    request: ChangeClusterRequest,
    timeoutMs: number,
  ): Promise<ChangeClusterResponse> {
    const bytes = toBinary(ChangeClusterRequestSchema, request);
    return fromBinary(ChangeClusterResponseSchema, await this.ask("change", bytes, timeoutMs));
  }

  /** @throws NoAnswer */
  ask(method: ClusterAsk["method"], request: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const fail = (reason: string): void => reject(new NoAnswer(reason, { mayHaveArrived: true }));
      const cancelTimer = this.#clock.after(timeoutMs, () => {
        this.#waiting.delete(id);
        fail("the storage node of this process does not answer");
      });
      this.#waiting.set(id, ({ answer, reason }) => {
        this.#waiting.delete(id);
        cancelTimer();
        if (answer !== undefined) resolve(answer);
        else fail(reason);
      });
      this.#post({ kind: "askCluster", id, method, request });
    });
  }

  /** To be called with each answer that comes; one that comes too late is dropped. */
  receive(answer: ClusterAnswer): void {
    this.#waiting.get(answer.id)?.(answer);
  }
}
