/**
 * One stream at a time to the leader of the meta group, opened again for as long as it takes.
 *
 * Whoever is asked and does not lead says who does, if it knows. Silence is counted in looks and not in
 * time: a process that was itself held up takes one look, and then what has arrived meanwhile. But one
 * that stood still for longer than `DIRECTORY_HELD_UP_MS_MAX` begins a new stream: what lies in its buffers
 * may be from before all that has changed since, and would be taken for word from the leader.
 */
import { create } from "@bufbuild/protobuf";
import type { MetaLeaderOptions } from "#gateway/cluster/meta-leader.ts";
import {
  type FollowDirectoryRequest,
  FollowDirectoryRequestSchema,
  type FollowDirectoryResponse,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import {
  DIRECTORY_DEMANDS_MAX,
  DIRECTORY_HEARTBEAT_MS,
  DIRECTORY_HELD_UP_MS_MAX,
  DIRECTORY_SILENT_LOOKS_MAX,
  MAP_WATCH_BACKOFF_MS_MAX,
  MAP_WATCH_BACKOFF_MS_MIN,
} from "#shared/limits.ts";
import type { TenantDemand } from "./directory.ts";
import type { DirectoryRpc, FollowCall } from "./directory-rpc.ts";

export type FollowedStreamOptions = MetaLeaderOptions & {
  readonly rpc: DirectoryRpc;
  readonly gatewayId: Uint8Array;
  readonly demand: () => ReadonlyMap<number, TenantDemand>;
  /** A stream begins. */
  readonly onOpen: () => void;
  /** Answers why the stream is of no use; undefined when it goes on. */
  readonly onMessage: (message: FollowDirectoryResponse) => string | undefined;
  readonly onTrouble: (address: string, reason: string) => void;
};

type Current = { readonly address: string; call: FollowCall | undefined; silentLooks: number };

/** Hints that are followed at once; a wrong one costs the usual pause. */
const REDIRECTS_AT_ONCE_MAX = 2;
const HELD_UP = "this gateway has stood still";

export class FollowedStream {
  readonly #options: FollowedStreamOptions;
  #current: Current | undefined;
  #turn: number;
  #redirects = 0;
  #backoffMs = MAP_WATCH_BACKOFF_MS_MIN;
  #cancelRetry = (): void => {};
  #cancelLook = (): void => {};
  readonly #troubles = new Map<string, string>();
  #closed = false;
  /** Of the last look. A machine that was suspended shows by its wall clock only. */
  #lookedAt = { monotonicMs: 0, wallMs: 0 };

  constructor(options: FollowedStreamOptions) {
    this.#options = options;
    // Gateways that are started alike shall not all begin with the same node.
    this.#turn = options.random.below(1_000);
  }

  start(): void {
    this.#noteLook();
    this.#open(undefined);
    this.#lookLater();
  }

  close(): void {
    this.#closed = true;
    this.#current?.call?.cancel();
    this.#current = undefined;
    this.#cancelRetry();
    this.#cancelLook();
  }

  #open(hint: string | undefined): void {
    const { rpc, addresses, clusterId, gatewayId, onOpen } = this.#options;
    const known = addresses();
    const address = hint ?? known[this.#turn++ % Math.max(1, known.length)];
    const cluster = clusterId();
    if (this.#closed) return;
    if (address === undefined || cluster === undefined) {
      this.#retryLater();
      return;
    }
    const current: Current = { address, call: undefined, silentLooks: 0 };
    this.#current = current;
    onOpen();
    current.call = rpc.follow(address, {
      onMessage: (message) => this.#receive(current, message),
      onClosed: (reason) => this.#lost(current, reason, undefined),
    });
    current.call.send(this.#request({ clusterId: cluster, gatewayId }));
  }

  #request(first: Partial<Pick<FollowDirectoryRequest, "clusterId" | "gatewayId">>) {
    const demands = [...this.#options.demand()].slice(0, DIRECTORY_DEMANDS_MAX);
    return create(FollowDirectoryRequestSchema, {
      ...first,
      demands: demands.map(([tenantId, demand]) => ({ tenantId, ...demand })),
    });
  }

  #receive(current: Current, message: FollowDirectoryResponse): void {
    if (current !== this.#current) return;
    if (this.#wasHeldUp()) {
      this.#noteLook();
      this.#end(current, HELD_UP, undefined);
      return;
    }
    current.silentLooks = 0;
    const { failure } = message;
    if (failure !== undefined) {
      const { detail, leaderNodeId } = failure;
      this.#end(current, detail, this.#options.addressOf(leaderNodeId));
      return;
    }
    const problem = this.#options.onMessage(message);
    if (problem !== undefined) {
      this.#end(current, problem, undefined);
      return;
    }
    this.#backoffMs = MAP_WATCH_BACKOFF_MS_MIN;
    this.#redirects = 0;
    this.#troubles.clear();
  }

  #end(current: Current, reason: string, hint: string | undefined): void {
    current.call?.cancel();
    this.#lost(current, reason, hint);
  }

  #lost(current: Current, reason: string, hint: string | undefined): void {
    if (current !== this.#current || this.#closed) return;
    this.#current = undefined;
    const { address } = current;
    if (this.#troubles.get(address) !== reason) {
      this.#troubles.set(address, reason);
      this.#options.onTrouble(address, reason);
    }
    const isNew = hint !== undefined && hint !== address;
    if (isNew && this.#redirects++ < REDIRECTS_AT_ONCE_MAX) this.#open(hint);
    else this.#retryLater();
  }

  #retryLater(): void {
    const { clock, random } = this.#options;
    const delayMs = this.#backoffMs * (0.5 + random.float() / 2);
    this.#backoffMs = Math.min(this.#backoffMs * 2, MAP_WATCH_BACKOFF_MS_MAX);
    this.#redirects = 0;
    this.#cancelRetry();
    this.#cancelRetry = clock.after(delayMs, () => this.#open(undefined));
  }

  #noteLook(): void {
    const { clock } = this.#options;
    this.#lookedAt = { monotonicMs: clock.monotonicMs(), wallMs: clock.nowMs() };
  }

  #wasHeldUp(): boolean {
    const { clock } = this.#options;
    const { monotonicMs, wallMs } = this.#lookedAt;
    const sinceMs = Math.max(clock.monotonicMs() - monotonicMs, clock.nowMs() - wallMs);
    return sinceMs > DIRECTORY_HELD_UP_MS_MAX;
  }

  #lookLater(): void {
    this.#cancelLook = this.#options.clock.after(DIRECTORY_HEARTBEAT_MS, () => {
      const current = this.#current;
      const wasHeldUp = this.#wasHeldUp();
      this.#noteLook();
      if (current !== undefined && wasHeldUp) this.#end(current, HELD_UP, undefined);
      else if (current !== undefined && ++current.silentLooks > DIRECTORY_SILENT_LOOKS_MAX) {
        this.#end(current, "it has fallen silent", undefined);
      } else current?.call?.send(this.#request({}));
      this.#lookLater();
    });
  }
}
