/**
 * Who may do what: the one table, and the one function that reads it. Pure; denies what no rule allows.
 *
 * An operation is allowed when all of these hold, and the first that does not is the rule that decides:
 * it is about the principal's own tenant (or the principal is a cluster's administrator), the role has the
 * action, and a principal that is confined to prefixes asks for keys that lie in one of them, or for what
 * tells of no keys at all.
 */
import type { Action, Operation, Principal, Role } from "./caller.ts";

export type Decision = {
  readonly allowed: boolean;
  /** Stable name of the rule that decided. */
  readonly rule: string;
  /** For a person: what is allowed by it, or what is missing. */
  readonly detail: string;
};

const READ: readonly Action[] = ["service.read", "kv.read", "kv.list"];
const WRITE: readonly Action[] = [...READ, "kv.write", "kv.delete"];
const ADMIN: readonly Action[] = [...WRITE, "tenant.read", "tenant.keys"];

const ACTIONS_OF: Readonly<Record<Role, ReadonlySet<Action>>> = {
  ReadOnly: new Set(READ),
  ReadWrite: new Set(WRITE),
  Admin: new Set(ADMIN),
  ClusterAdmin: new Set<Action>([
    ...ADMIN,
    ...(["cluster.read", "cluster.change", "cluster.tenants", "cluster.audit"] as const),
  ]),
};

const KEY_ACTIONS: ReadonlySet<Action> = new Set<Action>([
  "kv.read",
  "kv.list",
  "kv.write",
  "kv.delete",
]);

const allow = (rule: string, detail: string): Decision => ({ allowed: true, rule, detail });
const deny = (rule: string, detail: string): Decision => ({ allowed: false, rule, detail });

const ALLOWED: Readonly<Record<Role, Decision>> = {
  ReadOnly: allow("role:ReadOnly", "ReadOnly reads the keys of its tenant"),
  ReadWrite: allow("role:ReadWrite", "ReadWrite reads and writes the keys of its tenant"),
  Admin: allow("role:Admin", "Admin also manages the API keys of its tenant"),
  ClusterAdmin: allow("role:ClusterAdmin", "ClusterAdmin may do everything, for all tenants"),
};
const ALLOWED_BY_PREFIX = allow("prefix", "the key lies in one of the prefixes of the credentials");
const OTHER_TENANT = deny("tenant", "these credentials are of another tenant");
const NO_KEY = deny("prefix", "the credentials are confined to prefixes of keys, and this is more");
const OUTSIDE = deny("prefix", "the key is outside of the prefixes of the credentials");
const LIST_OUTSIDE = deny(
  "prefix",
  "lists and watches need a prefix within the prefixes of the credentials",
);

/** Least role that has an action, for the person who is refused. */
function leastRoleOf(action: Action): Role {
  const roles: readonly Role[] = ["ReadOnly", "ReadWrite", "Admin"];
  return roles.find((role) => ACTIONS_OF[role].has(action)) ?? "ClusterAdmin";
}

/** Allocates nothing where the answer is yes. */
export function decide(principal: Principal, operation: Operation): Decision {
  const { role, prefixes } = principal;
  const { action, key } = operation;
  if (operation.tenant !== principal.tenant && role !== "ClusterAdmin") return OTHER_TENANT;
  if (!ACTIONS_OF[role].has(action)) {
    return deny(`role:${role}`, `${role} does not have ${action}: ${leastRoleOf(action)} does`);
  }
  if (prefixes.length === 0) return ALLOWED[role];
  if (!KEY_ACTIONS.has(action)) return action === "service.read" ? ALLOWED[role] : NO_KEY;
  // Of a list the key is its prefix: all that it can list begins with it.
  if (key === undefined) return NO_KEY;
  for (const prefix of prefixes) {
    if (beginsWith(key, prefix)) return ALLOWED_BY_PREFIX;
  }
  return action === "kv.list" ? LIST_OUTSIDE : OUTSIDE;
}

function beginsWith(key: Uint8Array, prefix: Uint8Array): boolean {
  if (key.length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) {
    if (key[i] !== prefix[i]) return false;
  }
  return true;
}

/** Whether everything that `lower` may do, `higher` may do too. */
export const isRoleWithin = (lower: Role, higher: Role): boolean =>
  ACTIONS_OF[lower].isSubsetOf(ACTIONS_OF[higher]);
