/** Who sends a request, and what may be asked: the words that all of authentication shares. */
import type { Exchange } from "#gateway/http/exchange.ts";
import type { TenantId } from "#shared/ids.ts";
import type { AuthFailure } from "./refusals.ts";

export const ROLES = ["ReadOnly", "ReadWrite", "Admin", "ClusterAdmin"] as const;
/** The first three are of one tenant, the last of the cluster and all tenants. */
export type Role = (typeof ROLES)[number];

/** Somebody who was authenticated. */
export type Principal = {
  readonly kind: "open" | "root" | "key" | "token";
  /** For logs and the audit trail: a key's id, a token's subject. Never a secret. */
  readonly id: string;
  /** Of a cluster's administrator: the default tenant. */
  readonly tenant: TenantId;
  readonly role: Role;
  /** Key prefixes that it is confined to; none for all keys. */
  readonly prefixes: readonly Uint8Array[];
  /** Absent where nothing can end it: without authentication, and for the root key of the settings. */
  readonly basis?: Basis;
};

/** Claims of a ticket. */
export type Origin =
  | { readonly secret: string }
  | { readonly token_iss: string; readonly token_kid: string };

/**
 * What somebody's being let in rests on. All that were let in by the same credentials share it, and it may be
 * looked at as often as one likes: it waits for nothing, counts nothing and tells nobody.
 */
export interface Basis {
  /** As the rows behind it say now: a key may have lost rights. */
  readonly principal: Principal;
  /** The API key with which it ends; undefined for a token of a foreign issuer. */
  readonly keyId: string | undefined;
  /** Wall clock, milliseconds; Infinity for never. */
  readonly endsAtMs: number;
  /**
   * What a ticket has to name beside that, so that its watch ends with it: of a key the secret, of a token
   * its signer.
   */
  readonly origin?: Origin | undefined;
  /** Why its credentials would be refused now; undefined while they would not. */
  whyNot(exchange: Exchange): AuthFailure["reason"] | undefined;
}

/**
 * What can be asked, by name. `kv.*` is about a tenant's data, `tenant.*` about one tenant, `cluster.*`
 * about the cluster and all tenants; `service.*` tells of the server itself.
 */
export const ACTIONS = [
  "kv.read",
  "kv.list",
  "kv.write",
  "kv.delete",
  "tenant.read",
  "tenant.keys",
  "cluster.read",
  "cluster.change",
  "cluster.tenants",
  "cluster.audit",
  "service.read",
] as const;
export type Action = (typeof ACTIONS)[number];

/** One thing that a request asks for. A request may ask for many: a batch, a scan. */
export type Operation = {
  readonly action: Action;
  /** Whose data or settings it is about. */
  readonly tenant: TenantId;
  /** Of `kv.read`, `kv.write` and `kv.delete`: the key. Of `kv.list`: the prefix of all it can list. */
  readonly key?: Uint8Array;
};

/** A request that was let in: by whom, and about whose data. */
export type Caller = {
  readonly principal: Principal;
  /** The principal's own, or the one that a cluster's administrator has named. */
  readonly tenant: TenantId;
  /** Names and values in turn, for each answer that the caller gets (its rate limit). */
  readonly answerHeaders: readonly string[];
};
