/** Which rule decides about an operation with a key, in the order in which a request meets them. Pure. */

import type { Tenants } from "#gateway/tenants/registry.ts";
import { type Decision, decide } from "./authorize.ts";
import type { Operation } from "./caller.ts";
import { principalOf, type StoredKey, whyNotValid } from "./key-records.ts";
import { isInside, networkList } from "./networks.ts";

const deny = (rule: string, detail: string): Decision => ({ allowed: false, rule, detail });

export function explain(
  key: StoredKey,
  operation: Operation,
  at: {
    readonly nowMs: number;
    readonly tenants: Pick<Tenants, "get">;
    /** From where the request would come; undefined to leave networks out. */
    readonly address: string | undefined;
  },
): Decision {
  const why = whyNotValid(key.record, at.nowMs);
  if (why !== undefined) return deny(`key:${why}`, `the key is ${why}`);
  const networks = networkList(key.record.networks);
  if (networks !== undefined && at.address !== undefined && !isInside(networks, at.address)) {
    return deny("network", "the address is outside of the networks of the key");
  }
  const principal = principalOf(key);
  const isClusterAdmin = principal.role === "ClusterAdmin";
  const asked = isClusterAdmin ? operation.tenant : principal.tenant;
  const state = at.tenants.get(asked)?.state ?? "missing";
  const meetsState = !isClusterAdmin || operation.action.startsWith("kv.");
  if (state !== "active" && meetsState) return deny(`tenant:${state}`, `the tenant is ${state}`);
  return decide(principal, operation);
}
