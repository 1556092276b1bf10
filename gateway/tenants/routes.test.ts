import { describe, expect, it } from "vitest";
import type { Caller } from "#gateway/auth/caller.ts";
import { openGate } from "#gateway/auth/gate.ts";
import { problemOf, testGateway } from "#gateway/testing/gateway.ts";
import { callerOf } from "#gateway/testing/limits.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { ManualClock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { TenantRegistry, tenantRowName } from "./registry.ts";
import { tenantRoutes } from "./routes.ts";
import { NEXT_TENANT_ROW } from "./tenant-changes.ts";

/** Takes no longer than the pauses between attempts. */
class EagerClock extends ManualClock {
  override after(delayMs: number, callback: () => void): () => void {
    const cancel = super.after(delayMs, callback);
    queueMicrotask(() => this.advance(delayMs));
    return cancel;
  }
}

function setUp(caller?: Caller) {
  const clock = new EagerClock();
  const directory = new MemoryDirectory();
  const tenants = new TenantRegistry(directory);
  const gate = caller === undefined ? openGate : { ...openGate, enter: () => caller };
  const { app } = testGateway({ gate, routes: tenantRoutes({ directory, tenants, clock }) });
  const send = (method: string, path: string, body?: unknown, headers = {}) =>
    app.request(path, {
      method,
      headers: { "Content-Type": "application/json", ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  const create = (name: string, quotas?: unknown) =>
    send("POST", "/admin/tenants", { name, quotas });
  return { clock, directory, tenants, send, create };
}

const bodyOf = async (response: Response | Promise<Response>) =>
  (await (await response).json()) as Record<string, unknown>;

describe("POST /admin/tenants", () => {
  it.each([
    ["does not decode", Uint8Array.of(0xff)],
    ["has lost its id", new Uint8Array(0)],
  ])("makes no tenant when the row of the next id %s, and says so", async (_, value) => {
    const { directory, create } = setUp();
    await directory.change([{ name: NEXT_TENANT_ROW, value }]);
    const before = directory.list("");
    expect(await problemOf(await create("shop"))).toMatchObject({
      ...{ code: "DATA_CORRUPT", outcome: "not_applied" },
    });
    expect(directory.list("")).toEqual(before);
  });

  it("makes a tenant with quotas, which is then there", async () => {
    const { directory, send, create } = setUp();
    const response = await create("shop-1", { bytes: 1000, requests_per_second: 5, objects: null });
    expect(response.status).toBe(201);
    const tenant = {
      ...{ name: "shop-1", id: 2, state: "active", created_at: "2023-11-14T22:13:20.000Z" },
      quotas: {
        ...{ bytes: 1000, objects: null, requests_per_second: 5 },
        request_bytes_per_second: null,
      },
      usage: { bytes: 0, objects: 0 },
    };
    expect(await response.json()).toEqual(tenant);
    directory.usage.set(2, { bytes: 7, objects: 1 });
    expect(await bodyOf(send("GET", "/admin/tenants/shop-1"))).toEqual({
      ...tenant,
      usage: { bytes: 7, objects: 1 },
    });
  });

  it("refuses a name that is taken", async () => {
    const { create } = setUp();
    await create("shop");
    for (const name of ["shop", "default"]) {
      const response = await create(name);
      const { code, outcome } = await problemOf(response);
      expect([response.status, code, outcome]).toEqual([409, "ALREADY_EXISTS", "not_applied"]);
    }
  });

  it.each([undefined, 5, "", "-a", "A", "a_b", "ä", "a/b", "a".repeat(64)])(
    "refuses the name %j",
    async (name) => {
      const { create, directory } = setUp();
      const response = await create(name as string);
      expect([response.status, (await problemOf(response)).code]).toEqual([
        400,
        "INVALID_ARGUMENT",
      ]);
      expect(directory.list("")).toEqual([]);
    },
  );

  it.each([
    [],
    "all",
    { bytes: 0 },
    { bytes: -1 },
    { bytes: 1.5 },
    { bytes: "5" },
    { bytes: 2 ** 53 },
    { requests_per_second: 2 ** 32 },
    { byte: 5 },
    { __proto__x: 5 },
  ])("refuses the quotas %j", async (quotas) => {
    const { create, directory } = setUp();
    expect((await create("shop", quotas)).status).toBe(400);
    expect(directory.list("")).toEqual([]);
  });

  it("gives each name to one, and each id once, when gateways create at the same time", async () => {
    const { clock, directory, tenants, create } = setUp();
    const other = testGateway({ routes: tenantRoutes({ directory, tenants, clock }) }).app;
    const same = Array.from({ length: 4 }, (_, at) =>
      at % 2 === 0
        ? create("shop")
        : other.request("/admin/tenants", {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: '{"name":"shop"}',
          }),
    );
    const different = ["a", "b", "c", "d"].map((name) => create(name));
    const statuses = (await Promise.all([...same, ...different])).map(({ status }) => status);
    expect(statuses.filter((status) => status === 201)).toHaveLength(5);
    expect(statuses.filter((status) => status === 409)).toHaveLength(3);
    const ids = tenants.list().map(({ id }) => id);
    expect([...ids].sort()).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("never gives an id again", async () => {
    const { directory, create } = setUp();
    expect((await bodyOf(create("a"))).id).toBe(2);
    await directory.change([{ name: "tenant/00000002", value: undefined }]);
    expect((await bodyOf(create("a"))).id).toBe(3);
  });

  it("says what became of it when the directory cannot be changed", async () => {
    const { directory, create, send } = setUp();
    directory.failure = new KvError("NOT_LEADER", "no leader", { outcome: "unknown" });
    const response = await create("shop");
    expect([response.status, (await problemOf(response)).outcome]).toEqual([503, "unknown"]);
    directory.failure = undefined;
    directory.isKnown = false;
    const early = await create("shop");
    expect([early.status, (await problemOf(early)).outcome]).toEqual([503, "not_applied"]);
    // A tenant that is there, and of which nothing has been heard yet, is not "not found".
    for (const [method, path] of [
      ["DELETE", "/admin/tenants/unheard"],
      ["POST", "/admin/tenants/unheard/suspend"],
    ] as const) {
      const answer = await send(method, path);
      expect([answer.status, (await problemOf(answer)).outcome]).toEqual([503, "not_applied"]);
    }
  });

  it("says of no tenant that there is none before the directory is known", async () => {
    const { directory, send } = setUp();
    directory.isKnown = false;
    for (const [method, path, body] of [
      ["POST", "/admin/tenants/shop", { quotas: { bytes: 1 } }],
      ["POST", "/admin/tenants/shop/suspend"],
      ["POST", "/admin/tenants/shop/resume"],
      ["DELETE", "/admin/tenants/shop"],
    ] as const) {
      const response = await send(method, path, body);
      expect([path, response.status]).toEqual([path, 503]);
      expect((await problemOf(response)).outcome).toBe("not_applied");
    }
  });

  it("gives up when others are always quicker", async () => {
    const { directory, create } = setUp();
    directory.change = () => Promise.resolve(false);
    const response = await create("shop");
    const { code, outcome } = await problemOf(response);
    expect([code, outcome]).toEqual(["UNAVAILABLE", "not_applied"]);
  });

  it("takes no requests of web pages", async () => {
    const { send } = setUp();
    const response = await send("POST", "/admin/tenants", { name: "a" }, { Origin: "http://evil" });
    expect(response.status).toBe(400);
  });
});

describe("GET /admin/tenants", () => {
  it("lists them by name, in pages", async () => {
    const { create, send } = setUp();
    for (const name of ["b", "c", "a"]) await create(name);
    const names = async (query: string) => {
      const { tenants, has_more } = await bodyOf(send("GET", `/admin/tenants${query}`));
      return [(tenants as { name: string }[]).map(({ name }) => name), has_more];
    };
    expect(await names("")).toEqual([["a", "b", "c", "default"], false]);
    expect(await names("?limit=2")).toEqual([["a", "b"], true]);
    expect(await names("?limit=2&after=b")).toEqual([["c", "default"], false]);
    for (const query of ["?limit=0", "?limit=1001", "?limit=x", "?nope=1"]) {
      expect((await send("GET", `/admin/tenants${query}`)).status).toBe(400);
    }
  });
});

describe("POST /admin/tenants/{name}", () => {
  it("changes the quotas that it names", async () => {
    const { create, send } = setUp();
    await create("shop", { bytes: 1000, objects: 10 });
    const changed = await bodyOf(
      send("POST", "/admin/tenants/shop", { quotas: { objects: null, requests_per_second: 3 } }),
    );
    expect(changed.quotas).toEqual({
      ...{ bytes: 1000, objects: null, requests_per_second: 3 },
      request_bytes_per_second: null,
    });
  });

  it("gives the default tenant quotas too", async () => {
    const { send, tenants } = setUp();
    const response = await send("POST", "/admin/tenants/default", { quotas: { bytes: 9 } });
    expect(response.status).toBe(200);
    expect(tenants.byName("default")?.quotas.bytes).toBe(9);
  });

  it("refuses what is not there, or says nothing", async () => {
    const { create, send } = setUp();
    await create("shop");
    expect((await send("POST", "/admin/tenants/none", { quotas: {} })).status).toBe(404);
    expect((await send("POST", "/admin/tenants/shop", {})).status).toBe(400);
    expect((await send("POST", "/admin/tenants/shop", { name: "other" })).status).toBe(400);
    expect((await send("GET", "/admin/tenants/none")).status).toBe(404);
  });

  it("loses no change of two that come together", async () => {
    const { create, send, tenants } = setUp();
    await create("shop");
    const responses = await Promise.all([
      send("POST", "/admin/tenants/shop", { quotas: { bytes: 5 } }),
      send("POST", "/admin/tenants/shop", { quotas: { objects: 6 } }),
      send("POST", "/admin/tenants/shop/suspend"),
    ]);
    expect(responses.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(tenants.byName("shop")).toMatchObject({
      state: "suspended",
      quotas: { bytes: 5, objects: 6 },
    });
  });
});

describe("suspend and resume", () => {
  it("gives a tenant whose row is damaged a new one, the default tenant too", async () => {
    const { create, directory, send } = setUp();
    await create("shop");
    for (const [id, name] of [
      [1, "default"],
      [2, "unreadable-00000002"],
    ] as const) {
      await directory.change([{ name: tenantRowName(id), value: Uint8Array.of(0xff) }]);
      const path = `/admin/tenants/${name}`;
      expect(await (await send("GET", path)).json()).toMatchObject({ state: "suspended" });
      const response = await send("POST", `${path}/resume`);
      expect(response.status).toBe(200);
      expect(await response.json()).toMatchObject({ name, state: "active" });
      expect(await (await send("GET", path)).json()).toMatchObject({ state: "active" });
    }
  });

  it("change the state, and may be repeated", async () => {
    const { create, send } = setUp();
    await create("shop");
    for (const [action, state] of [
      ["suspend", "suspended"],
      ["suspend", "suspended"],
      ["resume", "active"],
      ["resume", "active"],
    ]) {
      expect((await bodyOf(send("POST", `/admin/tenants/shop/${action}`))).state).toBe(state);
    }
  });

  it("are not for the default tenant", async () => {
    const { send } = setUp();
    const response = await send("POST", "/admin/tenants/default/suspend");
    expect([response.status, (await problemOf(response)).code]).toEqual([409, "CLUSTER_CONFLICT"]);
  });
});

describe("DELETE /admin/tenants/{name}", () => {
  it("keeps everybody out at once, and leaves the rest to a job", async () => {
    const { create, directory, send } = setUp();
    await create("shop", { bytes: 5 });
    const response = await send("DELETE", "/admin/tenants/shop");
    expect(response.status).toBe(202);
    expect(await response.json()).toMatchObject({
      state: "deleting",
      deletion: { phase: "keys", removed_objects: 0, removed_bytes: 0, seconds_left_at_least: 180 },
    });
    expect(directory.list("job/").map(({ name }) => name)).toEqual([
      "job/tenant-deletion/00000002",
    ]);
    // There is no way back, and no second job.
    expect((await send("DELETE", "/admin/tenants/shop")).status).toBe(202);
    for (const path of ["/resume", "/suspend"]) {
      expect((await send("POST", `/admin/tenants/shop${path}`)).status).toBe(409);
    }
    expect((await send("POST", "/admin/tenants/shop", { quotas: { bytes: 1 } })).status).toBe(409);
    expect((await create("shop")).status).toBe(409);
  });

  it("shows a job that cannot be read as such, and the other tenants", async () => {
    const { create, directory, send } = setUp();
    await create("shop");
    await create("stall");
    await send("DELETE", "/admin/tenants/shop");
    const value = Uint8Array.of(0xff);
    await directory.change([{ name: "job/tenant-deletion/00000002", value }]);
    const response = await send("GET", "/admin/tenants");
    expect(response.status).toBe(200);
    const { tenants } = (await response.json()) as { tenants: { name: string }[] };
    expect(tenants.map(({ name }) => name)).toEqual(["default", "shop", "stall"]);
    expect(tenants[1]).toMatchObject({ deletion: { phase: "unreadable", removed_objects: 0 } });
  });

  it("is not for the default tenant, and not for what is not there", async () => {
    const { directory, send } = setUp();
    expect((await send("DELETE", "/admin/tenants/default")).status).toBe(409);
    expect((await send("DELETE", "/admin/tenants/none")).status).toBe(404);
    expect(directory.list("")).toEqual([]);
  });
});

describe("GET /v1/tenant", () => {
  it("shows the caller's own tenant", async () => {
    const { create, send } = setUp(callerOf(2));
    expect((await send("GET", "/v1/tenant")).status).toBe(403);
    await create("shop");
    expect((await bodyOf(send("GET", "/v1/tenant"))).name).toBe("shop");
  });
});

describe("access", () => {
  it("is for the cluster's administrators, but for one's own tenant", () => {
    const { clock, directory, tenants } = setUp();
    const accesses = tenantRoutes({ directory, tenants, clock }).flatMap(({ path, methods }) =>
      [...methods.values()].map(({ access }) => [path, access]),
    );
    expect(accesses).toHaveLength(8);
    for (const [path, access] of accesses) {
      expect([path, access]).toEqual([
        path,
        path === "/v1/tenant" ? "tenant.read" : "cluster.tenants",
      ]);
    }
  });
});
