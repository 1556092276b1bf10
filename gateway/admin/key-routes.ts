/**
 * `/admin/keys` and `/admin/auth/explain`: API keys are made, shown, rotated, revoked and deleted.
 *
 * A tenant's administrator sees and changes the keys of the own tenant, and gives no role that it does not
 * have itself. About any other id it hears the same, whether there is such a key or not. Whoever comes with
 * credentials that end, or work from some networks only, gets no secret of a key that goes on or works elsewhere
 * (`key-bounds.ts`).
 */

import { isApiKeyId } from "#gateway/auth/api-key.ts";
import { isRoleWithin } from "#gateway/auth/authorize.ts";
import type { Principal } from "#gateway/auth/caller.ts";
import { explain } from "#gateway/auth/explain.ts";
import type { StoredKey } from "#gateway/auth/key-records.ts";
import type { KeyStore } from "#gateway/auth/key-store.ts";
import { directoryUnknown } from "#gateway/auth/verifier.ts";
import type { Directory } from "#gateway/directory/directory.ts";
import type { Answer } from "#gateway/http/exchange.ts";
import {
  jsonAnswer,
  type ManagedMethod,
  type ManagedRequest,
  type ManagedRoute,
} from "#gateway/http/managed-route.ts";
import { malformed, RequestRefused } from "#gateway/http/problem.ts";
import { parseTimeoutMs } from "#gateway/http/timeout.ts";
import type { Tenants } from "#gateway/tenants/registry.ts";
import type { Clock } from "#shared/clock.ts";
import { DEFAULT_TENANT, type TenantId } from "#shared/ids.ts";
import { EXPLAIN_PARAMETERS, parseOperation } from "./explain-request.ts";
import { boundsIn, boundsOf, refuseBeyond } from "./key-bounds.ts";
import { keyJson } from "./key-json.ts";
import { CREATE_MEMBERS, parseCreate, parseOverlapMs, parsePageLimit } from "./key-requests.ts";
import { bodyOf, queryOf, refuseWebPages } from "./requests.ts";

/** For the audit trail and whoever else has to know. */
export type KeyEvent = {
  readonly kind: "create" | "rotate" | "revoke" | "delete";
  readonly keyId: string;
  readonly tenant: TenantId;
  readonly by: Principal;
  readonly requestId: string;
};

export type KeyRoutesOptions = {
  readonly store: KeyStore;
  readonly tenants: Tenants;
  readonly directory: Directory;
  readonly clock: Clock;
  readonly onEvent: (event: KeyEvent) => void;
};

const LIST_PARAMETERS = ["tenant", "limit", "cursor"] as const;

export function keyRoutes(options: KeyRoutesOptions): readonly ManagedRoute[] {
  const keys = new KeyRoutes(options);
  const method = (run: (request: ManagedRequest) => Promise<Answer>): ManagedMethod => ({
    access: "tenant.keys",
    run: async (request) => {
      // A key that is to be revoked must not seem to be gone.
      if (!options.directory.isKnown) throw directoryUnknown();
      return await run(request);
    },
  });
  return [
    {
      path: "/admin/keys",
      methods: new Map([
        ["GET", method(keys.list)],
        ["POST", method(keys.create)],
      ]),
    },
    {
      path: "/admin/keys/:id",
      methods: new Map([
        ["GET", method(keys.show)],
        ["DELETE", method(keys.delete)],
      ]),
    },
    { path: "/admin/keys/:id/revoke", methods: new Map([["POST", method(keys.revoke)]]) },
    { path: "/admin/keys/:id/rotate", methods: new Map([["POST", method(keys.rotate)]]) },
    { path: "/admin/auth/explain", methods: new Map([["GET", method(keys.explain)]]) },
  ];
}

class KeyRoutes {
  readonly #options: KeyRoutesOptions;

  constructor(options: KeyRoutesOptions) {
    this.#options = options;
  }

  readonly list = async ({ exchange, caller }: ManagedRequest): Promise<Answer> => {
    const query = queryOf(exchange, LIST_PARAMETERS);
    const limit = parsePageLimit(query.get("limit"));
    const cursor = query.get("cursor") ?? "";
    if (cursor !== "" && !isApiKeyId(cursor)) throw malformed("cursor is none of this list");
    const named = query.get("tenant");
    // Without a name a cluster's administrator sees all, unless the request is about one tenant.
    const isAll =
      named === undefined &&
      caller.principal.role === "ClusterAdmin" &&
      exchange.header("minikv-tenant") === undefined;
    const tenant = named === undefined ? caller.tenant : this.#tenantNamed(named, caller.principal);
    const found = this.#options.store
      .all()
      .filter((key) => key.record.id > cursor && (isAll || key.tenant === tenant))
      .filter((key) => this.#isSeen(key, caller.principal));
    const items = found.slice(0, limit);
    const hasMore = found.length > limit;
    return jsonAnswer(exchange, {
      items: items.map((key) => this.#json(key)),
      has_more: hasMore,
      cursor: hasMore ? items.at(-1)!.record.id : null,
    });
  };

  readonly create = async ({ exchange, caller }: ManagedRequest): Promise<Answer> => {
    refuseWebPages(exchange);
    queryOf(exchange, []);
    const timeoutMs = parseTimeoutMs(exchange);
    const { principal } = caller;
    const asked = parseCreate(await bodyOf(exchange, CREATE_MEMBERS));
    const { role, name, prefixes, networks } = asked;
    const named =
      asked.tenant === undefined ? caller.tenant : this.#tenantNamed(asked.tenant, principal);
    // It is of all tenants; the default one is where it is when it names none.
    const tenant = role === "ClusterAdmin" ? DEFAULT_TENANT : named;
    if (!isRoleWithin(role, principal.role)) {
      throw new RequestRefused("FORBIDDEN", `${principal.role} cannot make keys of role ${role}`);
    }
    if (this.#options.tenants.get(tenant)?.state === "deleting") {
      throw new RequestRefused("FORBIDDEN", "the tenant is being deleted");
    }
    const nowMs = this.#options.clock.nowMs();
    const maker = boundsOf(principal, exchange, this.#options.store);
    const bounds = {
      // What the request does not say is as the maker has it.
      expiresAtMs: asked.lifetimeMs === 0 ? maker.expiresAtMs : nowMs + asked.lifetimeMs,
      networks: networks.length === 0 ? maker.networks : networks,
    };
    refuseBeyond(maker, bounds);
    const { text, stored } = await this.#options.store.create(
      { tenant, role, name, prefixes, ...bounds },
      { deadlineMs: nowMs + timeoutMs },
    );
    this.#tell("create", stored, { exchange, caller });
    return withKey(stored, jsonAnswer(exchange, { key: text, ...this.#json(stored) }, 201));
  };

  readonly show = async (request: ManagedRequest): Promise<Answer> => {
    queryOf(request.exchange, []);
    return jsonAnswer(request.exchange, this.#json(this.#keyOf(request)));
  };

  readonly rotate = async (request: ManagedRequest): Promise<Answer> => {
    const { exchange } = request;
    const { id, timing, body, stored: before } = await this.#changeOf(request, ["overlap"]);
    const overlapMs = parseOverlapMs(body);
    const maker = boundsOf(request.caller.principal, exchange, this.#options.store);
    refuseBeyond(maker, boundsIn(before));
    const { text, stored } = await this.#options.store.rotate(id, overlapMs, timing);
    this.#tell("rotate", stored, request);
    return withKey(stored, jsonAnswer(exchange, { key: text, ...this.#json(stored) }));
  };

  readonly revoke = async (request: ManagedRequest): Promise<Answer> => {
    const { id, timing } = await this.#changeOf(request, []);
    const stored = await this.#options.store.revoke(id, timing);
    this.#tell("revoke", stored, request);
    return jsonAnswer(request.exchange, this.#json(stored));
  };

  readonly delete = async (request: ManagedRequest): Promise<Answer> => {
    const { id, timing, stored } = await this.#changeOf(request, []);
    await this.#options.store.delete(id, timing);
    this.#tell("delete", stored, request);
    const { requestId } = request.exchange;
    return { status: 204, headers: ["X-Request-ID", requestId], body: undefined };
  };

  readonly explain = async ({ exchange, caller }: ManagedRequest): Promise<Answer> => {
    const query = queryOf(exchange, EXPLAIN_PARAMETERS);
    const id = query.get("key");
    if (id === undefined) throw malformed("key must be the id of an API key");
    const key = this.#visible(id, caller.principal);
    const named = query.get("tenant");
    const tenant = named === undefined ? key.tenant : this.#tenantNamed(named, caller.principal);
    const { tenants, clock } = this.#options;
    const operation = parseOperation(query, tenant);
    const decision = explain(key, operation, {
      nowMs: clock.nowMs(),
      tenants,
      address: query.get("address"),
    });
    return jsonAnswer(exchange, {
      ...decision,
      action: operation.action,
      tenant: tenants.get(tenant)?.name ?? String(tenant),
      key: { id: key.record.id, role: key.role, tenant: this.#json(key).tenant },
      ...(operation.action === "tenant.keys" && decision.allowed ? { gives: givenBy(key) } : {}),
    });
  };

  /** The key that a change is about, after all that can be refused before it has been. */
  async #changeOf(request: ManagedRequest, members: readonly string[]) {
    const { exchange } = request;
    refuseWebPages(exchange);
    queryOf(exchange, []);
    const timeoutMs = parseTimeoutMs(exchange);
    const stored = this.#keyOf(request);
    const body = await bodyOf(exchange, members);
    const timing = { deadlineMs: this.#options.clock.nowMs() + timeoutMs };
    return { id: stored.record.id, stored, timing, body };
  }

  #keyOf({ caller, parameter }: ManagedRequest): StoredKey {
    return this.#visible(parameter("id"), caller.principal);
  }

  /** @throws RequestRefused FORBIDDEN, and to a cluster's administrator RESOURCE_NOT_FOUND */
  #visible(id: string, principal: Principal): StoredKey {
    const key = isApiKeyId(id) ? this.#options.store.find(id) : undefined;
    if (key !== undefined && this.#isSeen(key, principal)) return key;
    if (principal.role === "ClusterAdmin") {
      throw new RequestRefused("RESOURCE_NOT_FOUND", "there is no key with this id");
    }
    throw new RequestRefused("FORBIDDEN", "the tenant has no key with this id");
  }

  #isSeen(key: StoredKey, { role, tenant }: Principal): boolean {
    return role === "ClusterAdmin" || (key.tenant === tenant && isRoleWithin(key.role, role));
  }

  /** @throws RequestRefused FORBIDDEN, and to a cluster's administrator RESOURCE_NOT_FOUND */
  #tenantNamed(name: string, { role, tenant }: Principal): TenantId {
    const found = this.#options.tenants.byName(name);
    if (role !== "ClusterAdmin") {
      if (found?.id === tenant) return tenant;
      throw new RequestRefused("FORBIDDEN", "this is not the tenant of the credentials");
    }
    if (found !== undefined) return found.id;
    throw new RequestRefused("RESOURCE_NOT_FOUND", "there is no tenant of this name");
  }

  #json(key: StoredKey) {
    const { tenants, directory, clock } = this.#options;
    return keyJson(key, { tenants, directory, nowMs: clock.nowMs() });
  }

  #tell(
    kind: KeyEvent["kind"],
    { record, tenant }: StoredKey,
    { exchange, caller }: Pick<ManagedRequest, "exchange" | "caller">,
  ): void {
    const { requestId } = exchange;
    this.#options.onEvent({ kind, keyId: record.id, tenant, by: caller.principal, requestId });
  }
}

/** For the audit log: which key somebody has had the secret of since then, and how long it works. */
const withKey = ({ record }: StoredKey, answer: Answer): Answer => ({
  ...answer,
  shown: { key: record.id, untilMs: Number(record.expiresAtMs) },
});

/** For people: how far the keys may reach that this one makes. */
function givenBy(key: StoredKey) {
  const { expiresAtMs, networks } = boundsIn(key);
  return { until: expiresAtMs === 0 ? null : new Date(expiresAtMs).toISOString(), networks };
}
