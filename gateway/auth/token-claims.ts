/**
 * What a token of minikv says: the claims of RFC 9068, and of its own `tenant`, `role` and `prefixes`.
 *
 * A token never says more than the API key that it was made with: it is held against that key's row at each
 * use, so that what the key loses, its tokens lose.
 */
import { type TenantId, toTenantId } from "#shared/ids.ts";
import { TOKEN_PREFIXES_MAX } from "#shared/limits-tokens.ts";
import { isRoleWithin } from "./authorize.ts";
import { ROLES, type Role } from "./caller.ts";
import type { StoredKey } from "./key-records.ts";
import type { JsonObject } from "./strict-json.ts";

/** `typ` of the header (RFC 9068, 2.1). */
export const ACCESS_TOKEN_TYPE = "at+jwt";

/**
 * Of a ticket for one watch: a type and an audience of its own, so that it is never taken for a token, nor a
 * token for it.
 */
export const TICKET_TYPE = "watch-ticket+jwt";
export const TICKET_AUDIENCE = "minikv-watch";

/** With what a ticket was made: what it ends with follows from that. */
export const TICKET_ISSUED_BY = { key: "key", foreign: "foreign", open: "open" } as const;
export type TicketIssuedBy = (typeof TICKET_ISSUED_BY)[keyof typeof TICKET_ISSUED_BY];

/** What a token allows. */
export type Grant = {
  readonly tenant: TenantId;
  readonly role: Role;
  /** None for all keys. */
  readonly prefixes: readonly Uint8Array[];
};

/** As claims. Prefixes are any bytes, so they stand in base64url. */
export const claimsOfGrant = ({ tenant, role, prefixes }: Grant): JsonObject => ({
  tenant,
  role,
  ...(prefixes.length === 0 ? {} : { prefixes: prefixes.map(base64UrlOf) }),
});

/** Undefined when the claims are not those of a token that `claimsOfGrant` made. */
export function grantOfClaims({ tenant, role, prefixes = [] }: JsonObject): Grant | undefined {
  const known = ROLES.find((name) => name === role);
  if (known === undefined || typeof tenant !== "number" || !isTenantId(tenant)) return undefined;
  if (!Array.isArray(prefixes) || prefixes.length > TOKEN_PREFIXES_MAX) return undefined;
  const bytes: Uint8Array[] = [];
  for (const text of prefixes as readonly unknown[]) {
    if (typeof text !== "string" || text === "") return undefined;
    const prefix = Buffer.from(text, "base64url");
    if (base64UrlOf(prefix) !== text) return undefined;
    bytes.push(prefix);
  }
  return { tenant: toTenantId(tenant), role: known, prefixes: bytes };
}

const isTenantId = (value: number): boolean =>
  Number.isInteger(value) && value >= 1 && value <= 0xffff_ffff;

const base64UrlOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64url");

/** Whether a key allows all that `grant` does. */
export function isCovered(
  grant: Grant,
  key: Pick<StoredKey, "tenant" | "role" | "record">,
): boolean {
  const { prefixes } = key.record;
  return (
    isRoleWithin(grant.role, key.role) &&
    // An administrator of the cluster acts for any tenant.
    (grant.tenant === key.tenant || key.role === "ClusterAdmin") &&
    (prefixes.length === 0 ||
      (grant.prefixes.length > 0 &&
        grant.prefixes.every((inner) => prefixes.some((outer) => beginsWith(inner, outer)))))
  );
}

const beginsWith = (bytes: Uint8Array, prefix: Uint8Array): boolean =>
  bytes.length >= prefix.length && Buffer.compare(bytes.subarray(0, prefix.length), prefix) === 0;
