/**
 * Watches as the routes see them: a query and a client that takes bytes.
 *
 * Implemented by the hub (`hub.ts`). A route turns its request into a `WatchQuery`, gives the hub a
 * `WatchClient` over its connection, and passes on what happens to it.
 */
import type { Cancellation } from "#gateway/storage/cancellation.ts";
import type { TenantId } from "#shared/ids.ts";
import type { ResumeToken } from "./resume-token.ts";

/** What a client can ask for. `revoke`, `progress`, `compacted`, `resync` and `drain` always come. */
export const WATCH_OPS = ["put", "delete", "expire"] as const;
export type WatchOp = (typeof WATCH_OPS)[number];

export type WatchFilter =
  | { readonly kind: "key"; readonly key: Uint8Array }
  /** An empty prefix is every key of the tenant. */
  | { readonly kind: "prefix"; readonly prefix: Uint8Array };

export type WatchQuery = {
  readonly tenant: TenantId;
  readonly filter: WatchFilter;
  /** In the order of `WATCH_OPS`, at least one. */
  readonly ops: readonly WatchOp[];
  /** Events have the value where it can be had. */
  readonly values: boolean;
  /** `sse`: text/event-stream. `ws`: whole unmasked frames (RFC 6455 section 5.2), a text message per event. */
  readonly format: "sse" | "ws";
};

/** Why a watch ends, in the words of its last event. */
export type WatchEnding =
  | { readonly kind: "drain" }
  /** Key or token revoked or expired, tenant suspended: `reason` is for the client. */
  | { readonly kind: "revoke"; readonly reason: string };

/** A connection. Called by the hub only; never while `open` runs. */
export type WatchClient = {
  /**
   * Takes bytes that are not changed afterwards and are shared with other clients. False asks for a pause until
   * `Watch.drained`; the hub goes on writing within its bound, and resyncs the client beyond it.
   */
  write(bytes: Uint8Array): boolean;
  /** Behind the last bytes, when the hub ends the watch by itself. */
  end(): void;
};

export interface Watch {
  /** The connection takes more. */
  drained(): void;
  /** Writes the last event, with the token to go on from; nothing is written afterwards. */
  finish(ending: WatchEnding): void;
  /** The client has gone. Idempotent; also after `finish`. */
  close(): void;
}

export interface Watches {
  /**
   * Begins a watch; resolves when its position is known: each write that is begun later will be seen. With
   * `since` it goes on there.
   *
   * @param isReconnect `since` is what a client's own machinery brought along (Last-Event-ID): then a position that
   * is not in the log any more is told by the event `compacted`, and the watch goes on from what there is
   * @throws RequestRefused INVALID_ARGUMENT (a token of another filter or cluster), COMPACTED,
   * OVERLOADED (too many watches), UNAVAILABLE, DEADLINE_EXCEEDED,
   * CANCELLED
   */
  open(
    query: WatchQuery,
    from: { readonly since: ResumeToken | undefined; readonly isReconnect: boolean },
    client: WatchClient,
    deadlineMs: number,
    cancellation?: Cancellation,
  ): Promise<Watch>;
  /** Ends all watches with `drain`, and refuses new ones. */
  drain(): void;
  close(): Promise<void>;
}
