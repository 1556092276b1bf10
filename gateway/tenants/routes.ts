/**
 * `/admin/tenants` for administrators of the cluster, and `/v1/tenant` for those of a tenant.
 *
 * A change is durable when it is answered, and every gateway acts by it within a second.
 */
import { bodyOf, queryOf, refuseWebPages } from "#gateway/admin/requests.ts";
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
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { TENANTS_LISTED_DEFAULT, TENANTS_LISTED_MAX } from "#shared/limits.ts";
import type { Tenants } from "./registry.ts";
import { TenantChanges } from "./tenant-changes.ts";
import { quotasOf, tenantJson, tenantNameOf } from "./tenant-json.ts";

export type TenantRouteParts = {
  readonly directory: Directory;
  readonly tenants: Tenants;
  readonly clock: Clock;
};

type Run = (request: ManagedRequest) => Promise<Answer>;
type Change = (request: ManagedRequest, deadlineMs: number) => Promise<Answer>;

export function tenantRoutes(parts: TenantRouteParts): readonly ManagedRoute[] {
  const routes = new TenantRoutes(parts);
  const read = (run: Run): ManagedMethod => ({ access: "cluster.tenants", run });
  const change = (run: Change): ManagedMethod => read((request) => routes.change(request, run));
  const one = "/admin/tenants/:name";
  return [
    {
      path: "/admin/tenants",
      methods: new Map([
        ["GET", read(routes.list)],
        ["POST", change(routes.create)],
      ]),
    },
    {
      path: one,
      methods: new Map([
        ["GET", read(routes.read)],
        ["POST", change(routes.setQuotas)],
        ["DELETE", change(routes.delete)],
      ]),
    },
    { path: `${one}/suspend`, methods: new Map([["POST", change(routes.setState("suspended"))]]) },
    { path: `${one}/resume`, methods: new Map([["POST", change(routes.setState("active"))]]) },
    {
      path: "/v1/tenant",
      methods: new Map([["GET", { access: "tenant.read", run: routes.readOwn }]]),
    },
  ];
}

class TenantRoutes {
  readonly #parts: TenantRouteParts;
  readonly #changes: TenantChanges;

  constructor(parts: TenantRouteParts) {
    this.#parts = parts;
    this.#changes = new TenantChanges(parts);
  }

  async change(request: ManagedRequest, run: Change): Promise<Answer> {
    const { exchange } = request;
    refuseWebPages(exchange);
    queryOf(exchange, []);
    this.#refuseUnknown();
    return await run(request, this.#parts.clock.nowMs() + parseTimeoutMs(exchange));
  }

  readonly list: Run = async ({ exchange }) => {
    const { directory, tenants } = this.#parts;
    this.#refuseUnknown();
    const query = queryOf(exchange, ["limit", "after"]);
    const limit = limitOf(query.get("limit"));
    const after = query.get("after") ?? "";
    const behind = tenants
      .list()
      .filter(({ name }) => name > after)
      .sort((a, b) => (a.name < b.name ? -1 : 1));
    const page = behind.slice(0, limit).map((tenant) => tenantJson(tenant, directory));
    return jsonAnswer(exchange, { tenants: page, has_more: behind.length > limit });
  };

  readonly read: Run = async ({ exchange, parameter }) => {
    this.#refuseUnknown();
    queryOf(exchange, []);
    const tenant = this.#changes.find(parameter("name"));
    return jsonAnswer(exchange, tenantJson(tenant, this.#parts.directory));
  };

  readonly readOwn: Run = async ({ exchange, caller }) => {
    const { directory, tenants } = this.#parts;
    queryOf(exchange, []);
    const tenant = tenants.get(caller.tenant);
    if (tenant === undefined) throw new RequestRefused("FORBIDDEN", "the tenant was deleted");
    return jsonAnswer(exchange, tenantJson(tenant, directory));
  };

  readonly create: Change = async ({ exchange }, deadlineMs) => {
    const body = await bodyOf(exchange, ["name", "quotas"]);
    const name = tenantNameOf(body.name);
    const quotas = quotasOf(body.quotas);
    const tenant = await this.#changes.create(name, quotas, deadlineMs);
    return jsonAnswer(exchange, tenantJson(tenant, this.#parts.directory), 201);
  };

  readonly setQuotas: Change = async ({ exchange, parameter }, deadlineMs) => {
    const { quotas } = await bodyOf(exchange, ["quotas"]);
    if (quotas === undefined) throw malformed("name the quotas that are to change");
    const tenant = await this.#changes.setQuotas(parameter("name"), quotasOf(quotas), deadlineMs);
    return jsonAnswer(exchange, tenantJson(tenant, this.#parts.directory));
  };

  readonly setState =
    (state: "active" | "suspended"): Change =>
    async ({ exchange, parameter }, deadlineMs) => {
      await bodyOf(exchange, []);
      const tenant = await this.#changes.setState(parameter("name"), state, deadlineMs);
      return jsonAnswer(exchange, tenantJson(tenant, this.#parts.directory));
    };

  readonly delete: Change = async ({ exchange, parameter }, deadlineMs) => {
    await bodyOf(exchange, []);
    const tenant = await this.#changes.delete(parameter("name"), deadlineMs);
    return jsonAnswer(exchange, tenantJson(tenant, this.#parts.directory), 202);
  };

  /** Before the directory is known, "there is none" could be wrong. */
  #refuseUnknown(): void {
    if (this.#parts.directory.isKnown) return;
    throw new KvError("UNAVAILABLE", "the gateway has not heard of the cluster's tenants yet", {
      outcome: "not_applied",
    });
  }
}

function limitOf(text: string | undefined): number {
  if (text === undefined) return TENANTS_LISTED_DEFAULT;
  const limit = /^[0-9]{1,5}$/.test(text) ? Number(text) : 0;
  if (limit >= 1 && limit <= TENANTS_LISTED_MAX) return limit;
  throw malformed(`limit must be an integer from 1 to ${TENANTS_LISTED_MAX}`);
}
