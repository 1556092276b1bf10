import { beforeEach, describe, expect, it } from "vitest";
import { type ApiKey, parseApiKey } from "#gateway/auth/api-key.ts";
import { ROOT_ROW } from "#gateway/auth/key-records.ts";
import { AUTH_CONFIG, ROOT_KEY, TestAuth } from "#gateway/testing/auth.ts";
import { problemOf, type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { utf8 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import type { TenantId } from "#shared/ids.ts";
import { KEYS_PER_TENANT_MAX } from "#shared/limits.ts";

const DAY_MS = 86_400_000;

type KeyBody = {
  readonly key: string;
  readonly id: string;
  readonly tenant: string;
  readonly secrets: readonly { readonly expires_at: string | null }[];
  readonly [member: string]: unknown;
};

let test: TestAuth;
let gateway: TestGateway;
let tenant: TenantId;
let root: string;
let admin: ApiKey & { readonly text: string };
beforeEach(async () => {
  test = new TestAuth();
  gateway = testGateway({ auth: test });
  tenant = await test.addTenant(2, "two");
  root = (await test.addKey("ClusterAdmin")).text;
  admin = await test.addKey("Admin", { tenant });
});

async function ask(credential: string, method: string, path: string, body?: object) {
  return gateway.app.request(path, {
    method,
    headers: { "X-API-Key": credential, "Content-Type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

/** A key made over the route, with status 201. */
async function make(credential: string, body: object): Promise<KeyBody> {
  const response = await ask(credential, "POST", "/admin/keys", body);
  expect(response.status).toBe(201);
  expect(response.headers.get("cache-control")).toBe("no-store");
  return (await response.json()) as KeyBody;
}

const codeOf = async (response: Response) => [response.status, (await problemOf(response)).code];
const read = (credential: string) => ask(credential, "GET", "/v1/kv?count_only=1");

describe("a key that is deleted before this gateway has heard of its change", () => {
  it.each(["", "/revoke", "/rotate"])(
    "is changed all the same: POST /admin/keys%s",
    async (verb) => {
      const { directory } = test;
      const { id } = await test.addKey("ReadOnly", { tenant });
      const change = directory.change.bind(directory);
      directory.change = async (mutations) => {
        directory.change = change;
        const isMade = await change(mutations);
        await change([{ name: mutations[0]!.name, value: undefined }]);
        return isMade;
      };
      const path = verb === "" ? "/admin/keys" : `/admin/keys/${id}${verb}`;
      const response = await ask(ROOT_KEY, "POST", path, verb === "" ? { role: "ReadOnly" } : {});
      expect(await problemOf(response)).toMatchObject({ code: "CONFLICT", outcome: "unknown" });
    },
  );
});

describe("before the directory is known", () => {
  it("says of no key that there is none", async () => {
    const { id } = await test.addKey("ReadOnly", { tenant });
    test.directory.isKnown = false;
    const changes = ["revoke", "rotate"].map((verb) => ["POST", `/admin/keys/${id}/${verb}`]);
    for (const [method, path] of [
      ...changes,
      ["DELETE", `/admin/keys/${id}`],
      ["GET", `/admin/keys/${id}`],
      ["GET", "/admin/keys"],
      ["GET", `/admin/auth/explain?key=${id}&op=tenant.read`],
    ]) {
      expect([path, ...(await codeOf(await ask(ROOT_KEY, method!, path!)))]).toEqual([
        ...[path, 503, "UNAVAILABLE"],
      ]);
    }
    const made = await ask(ROOT_KEY, "POST", "/admin/keys", { role: "ReadOnly" });
    expect(await codeOf(made)).toEqual([503, "UNAVAILABLE"]);
    test.directory.isKnown = true;
    expect((await ask(ROOT_KEY, "POST", `/admin/keys/${id}/revoke`)).status).toBe(200);
  });
});

describe("POST /admin/keys", () => {
  it("makes a key that works, and shows it this once", async () => {
    const body = { role: "ReadOnly", name: "reports", expires_in: "90d", networks: ["::1"] };
    const made = await make(admin.text, body);
    const nowMs = test.clock.nowMs();
    expect(made).toMatchObject({
      ...{ id: parseApiKey(made.key)!.id, name: "reports", role: "ReadOnly", root: false },
      ...{ tenant: "two", tenant_id: 2, prefixes: [], prefixes64: [], networks: ["::1"] },
      expires_at: new Date(nowMs + 90 * DAY_MS).toISOString(),
      ...{ created_at: new Date(nowMs).toISOString(), revoked_at: null, last_used_at: null },
      secrets: [{ created_at: new Date(nowMs).toISOString(), expires_at: null }],
    });
    const shown = await (await ask(admin.text, "GET", `/admin/keys/${made.id}`)).text();
    const { secret } = parseApiKey(made.key)!;
    expect(shown).not.toContain(secret);
    expect(shown).not.toContain("plain");
    const open = await make(admin.text, { role: "ReadWrite" });
    expect((await read(open.key)).status).toBe(200);
  });

  it("confines a key to prefixes, of any bytes", async () => {
    const made = await make(admin.text, {
      role: "ReadWrite",
      prefixes: ["a/"],
      prefixes64: ["_w"],
    });
    expect(made).toMatchObject({ prefixes: ["a/"], prefixes64: ["_w"] });
    const get = async (path: string) => (await ask(made.key, "GET", path)).status;
    expect([await get("/v1/kv/a%2Fb"), await get("/v1/kv/%FFx")]).toEqual([404, 404]);
    expect([await get("/v1/kv/b"), await get("/v1/kv/a")]).toEqual([403, 403]);
    expect(await get("/v1/kv?prefix=a/&keys_only=1")).toBe(200);
    expect([await get("/v1/kv"), await get("/v1/kv?start=a/&end=a0")]).toEqual([403, 403]);
    const ops = [
      { op: "get", key: "a/b" },
      { op: "get", key: "b" },
    ];
    expect((await ask(made.key, "POST", "/v1/batch", { ops })).status).toBe(403);
    expect(gateway.storage.calls.filter(({ method }) => method === "batch")).toEqual([]);
  });

  it.each([
    {},
    { role: "Root" },
    { role: "ReadOnly", expires_in: "90" },
    { role: "ReadOnly", expires_in: 90 },
    { role: "ReadOnly", expires_in: "0s" },
    { role: "ReadOnly", expires_in: "99999d" },
    { role: "ReadOnly", prefixes: [""] },
    { role: "ReadOnly", prefixes: "a" },
    { role: "ReadOnly", prefixes: [1] },
    { role: "ReadOnly", prefixes64: ["!"] },
    { role: "ReadOnly", prefixes: Array.from({ length: 17 }, () => "a") },
    {
      role: "ReadOnly",
      prefixes: Array.from({ length: 9 }, () => "a"),
      prefixes64: Array(9).fill("YQ"),
    },
    { role: "ReadOnly", prefixes: ["a".repeat(1_025)] },
    { role: "Admin", prefixes: ["a"] },
    { role: "ReadOnly", networks: ["10.0.0.0/33"] },
    { role: "ReadOnly", networks: ["localhost"] },
    { role: "ReadOnly", name: "a\u0000b" },
    { role: "ReadOnly", name: "a".repeat(129) },
    { role: "ReadOnly", tenant: 2 },
    { role: "ReadOnly", secret: "x" },
  ])("refuses %j", async (body) => {
    expect(await codeOf(await ask(root, "POST", "/admin/keys", body))).toEqual([
      400,
      "INVALID_ARGUMENT",
    ]);
  });

  it("gives no role above the caller's, and no other tenant's keys", async () => {
    const forbidden = [403, "FORBIDDEN"];
    for (const body of [
      { role: "ClusterAdmin" },
      { role: "ReadOnly", tenant: "default" },
      { role: "ReadOnly", tenant: "nobody" },
    ]) {
      expect(await codeOf(await ask(admin.text, "POST", "/admin/keys", body))).toEqual(forbidden);
    }
    const reader = await make(admin.text, { role: "ReadWrite", tenant: "two" });
    expect(
      await codeOf(await ask(reader.key, "POST", "/admin/keys", { role: "ReadOnly" })),
    ).toEqual(forbidden);
  });

  it("makes keys of all tenants for a cluster's administrator", async () => {
    expect((await make(root, { role: "Admin", tenant: "two" })).tenant).toBe("two");
    expect((await make(root, { role: "Admin" })).tenant).toBe("default");
    // It is of all tenants.
    expect((await make(root, { role: "ClusterAdmin", tenant: "two" })).tenant).toBe("default");
    const unknown = await ask(root, "POST", "/admin/keys", { role: "Admin", tenant: "three" });
    expect(await codeOf(unknown)).toEqual([404, "RESOURCE_NOT_FOUND"]);
    await test.addTenant(2, "two", 3);
    const deleting = await ask(root, "POST", "/admin/keys", { role: "Admin", tenant: "two" });
    expect(await codeOf(deleting)).toEqual([403, "FORBIDDEN"]);
  });

  it("is bounded, tenant by tenant", async () => {
    for (let i = 0; i < KEYS_PER_TENANT_MAX - 1; i++) await test.addKey("ReadOnly", { tenant });
    const refused = await ask(admin.text, "POST", "/admin/keys", { role: "ReadOnly" });
    expect(await codeOf(refused)).toEqual([409, "CLUSTER_CONFLICT"]);
    await make(root, { role: "ReadOnly" });
  });

  it("says what is known of a change that failed", async () => {
    test.directory.failure = new KvError("UNAVAILABLE", "no leader", { outcome: "unknown" });
    const failed = await ask(admin.text, "POST", "/admin/keys", { role: "ReadOnly" });
    expect(await problemOf(failed)).toMatchObject({ code: "UNAVAILABLE", outcome: "unknown" });
  });

  it("takes nothing from web pages", async () => {
    const headers = { "X-API-Key": root, Origin: "https://x.example" };
    const response = await gateway.app.request("/admin/keys", { method: "POST", headers });
    expect(response.status).toBe(400);
  });
});

describe("GET /admin/keys", () => {
  it("lists in pages, of the own tenant or of all", async () => {
    for (let i = 0; i < 4; i++) await test.addKey("ReadOnly", { tenant });
    const ids = async (credential: string, query: string) => {
      const found: string[] = [];
      let cursor: string | null = "";
      for (let page = 0; page < 10 && cursor !== null; page++) {
        const path: string = `/admin/keys?limit=2${query}${cursor === "" ? "" : `&cursor=${cursor}`}`;
        const body = (await (await ask(credential, "GET", path)).json()) as {
          items: KeyBody[];
          cursor: string | null;
          has_more: boolean;
        };
        expect(body.has_more).toBe(body.cursor !== null);
        expect(body.items.length).toBeLessThanOrEqual(2);
        found.push(...body.items.map(({ id }) => id));
        cursor = body.cursor;
      }
      expect(found).toEqual(found.toSorted());
      return found;
    };
    expect(await ids(admin.text, "")).toHaveLength(5);
    expect(await ids(admin.text, "&tenant=two")).toHaveLength(5);
    expect(await ids(root, "&tenant=two")).toEqual(await ids(admin.text, ""));
    expect(await ids(root, "")).toHaveLength(6);
    for (const query of ["?limit=0", "?limit=1001", "?limit=x", "?cursor=x", "?nope=1"]) {
      expect((await ask(root, "GET", `/admin/keys${query}`)).status).toBe(400);
    }
    expect((await ask(admin.text, "GET", "/admin/keys?tenant=default")).status).toBe(403);
  });

  it("leaves a row that cannot be read out", async () => {
    await test.directory.change([{ name: "key/x", value: Uint8Array.of(0xff) }]);
    const response = await ask(root, "GET", "/admin/keys");
    expect(((await response.json()) as { items: unknown[] }).items).toHaveLength(2);
  });
});

describe("POST /admin/keys/{id}/revoke and DELETE /admin/keys/{id}", () => {
  it("end a key at once, and for good", async () => {
    const made = await make(admin.text, { role: "ReadOnly" });
    expect((await read(made.key)).status).toBe(200);
    const revoked = await ask(admin.text, "POST", `/admin/keys/${made.id}/revoke`);
    const { revoked_at } = (await revoked.json()) as KeyBody;
    expect(revoked_at).toBe(new Date(test.clock.nowMs()).toISOString());
    expect((await read(made.key)).status).toBe(401);
    test.clock.advance(1_000);
    const again = await ask(admin.text, "POST", `/admin/keys/${made.id}/revoke`);
    expect(await again.json()).toMatchObject({ revoked_at });
    const rotated = await ask(admin.text, "POST", `/admin/keys/${made.id}/rotate`);
    expect(await codeOf(rotated)).toEqual([409, "CLUSTER_CONFLICT"]);
    expect((await ask(admin.text, "DELETE", `/admin/keys/${made.id}`)).status).toBe(204);
    expect((await ask(admin.text, "GET", `/admin/keys/${made.id}`)).status).toBe(403);
    expect((await ask(root, "GET", `/admin/keys/${made.id}`)).status).toBe(404);
    expect(test.directory.get(`key/${made.id}`)).toBeUndefined();
  });

  it("end also the key that asks for it, and the first root key", async () => {
    const shown = new TestAuth({ config: AUTH_CONFIG });
    await expect.poll(() => shown.shown.length).toBe(1);
    const first = /mkv_\S+/.exec(shown.shown[0]!)![0];
    const own = testGateway({ auth: shown });
    const path = `/admin/keys/${parseApiKey(first)!.id}`;
    const headers = { "X-API-Key": first };
    const listed = await own.app.request(path, { headers });
    expect(await listed.json()).toMatchObject({ root: true, role: "ClusterAdmin" });
    expect((await own.app.request(path, { method: "DELETE", headers })).status).toBe(204);
    expect(shown.directory.get(ROOT_ROW)).toBeUndefined();
    expect((await own.app.request(path, { headers })).status).toBe(401);
  });

  it("try again when the row changes at the same time", async () => {
    const made = await make(admin.text, { role: "ReadOnly" });
    const change = test.directory.change.bind(test.directory);
    let disturbed = 0;
    test.directory.change = async (mutations) => {
      if (disturbed < 2) {
        disturbed++;
        await test.changeKeyWith(change, made.id, (record) => (record.name = `name ${disturbed}`));
      }
      return change(mutations);
    };
    const revoked = await ask(admin.text, "POST", `/admin/keys/${made.id}/revoke`);
    expect(await revoked.json()).toMatchObject({ name: "name 2", revoked_at: expect.any(String) });
    disturbed = Number.NEGATIVE_INFINITY;
    const refused = await ask(admin.text, "DELETE", `/admin/keys/${made.id}`);
    expect(await problemOf(refused)).toMatchObject({
      ...{ status: 409, code: "CONFLICT", retryable: true, outcome: "not_applied" },
    });
  });
});

describe("POST /admin/keys/{id}/rotate", () => {
  const rotate = (id: string, body?: object) =>
    ask(admin.text, "POST", `/admin/keys/${id}/rotate`, body);

  it("lets the old secret work for the overlap", async () => {
    const made = await make(admin.text, { role: "ReadOnly" });
    const next = (await (await rotate(made.id, { overlap: "2h" })).json()) as KeyBody;
    expect(next.id).toBe(made.id);
    expect(next.secrets.map(({ expires_at }) => expires_at)).toEqual([
      new Date(test.clock.nowMs() + DAY_MS / 12).toISOString(),
      null,
    ]);
    expect([(await read(made.key)).status, (await read(next.key)).status]).toEqual([200, 200]);
    expect(await problemOf(await rotate(made.id))).toMatchObject({
      ...{ status: 409, code: "CLUSTER_CONFLICT", retryable: false, outcome: "not_applied" },
    });
    test.clock.advance(DAY_MS / 12);
    expect([(await read(made.key)).status, (await read(next.key)).status]).toEqual([401, 200]);
    const third = (await (await rotate(made.id)).json()) as KeyBody;
    expect(third.secrets).toHaveLength(2);
  });

  it("ends all old secrets with no overlap", async () => {
    const made = await make(admin.text, { role: "ReadOnly" });
    const second = (await (await rotate(made.id, {})).json()) as KeyBody;
    const third = (await (await rotate(made.id, { overlap: "0s" })).json()) as KeyBody;
    const statuses = await Promise.all([made, second, third].map(({ key }) => read(key)));
    expect(statuses.map(({ status }) => status)).toEqual([401, 401, 200]);
    for (const body of [{ overlap: "91d" }, { overlap: 1 }, { nope: 1 }]) {
      expect((await rotate(made.id, body)).status).toBe(400);
    }
  });
});

describe("GET /admin/auth/explain", () => {
  const explain = async (
    credential: string,
    query: Record<string, string>,
  ): Promise<Record<string, unknown>> => {
    const path = `/admin/auth/explain?${new URLSearchParams(query)}`;
    const response = await ask(credential, "GET", path);
    const body = (await response.json()) as Record<string, unknown>;
    return { ...body, status: response.status };
  };

  it("names the rule that decides", async () => {
    const prefixes = [utf8("a/ü")];
    const key = await test.addKey("ReadOnly", { tenant, prefixes, networks: ["10.0.0.0/8"] });
    const ask = (op: string, path: string, more = {}) =>
      explain(admin.text, { key: key.id, op, path, ...more });
    expect(await ask("kv.read", "/v1/kv/a%2F%C3%BC1")).toMatchObject({
      ...{ status: 200, allowed: true, rule: "prefix", action: "kv.read", tenant: "two" },
      key: { id: key.id, role: "ReadOnly", tenant: "two" },
    });
    expect(await ask("kv.read", "/v1/kv/a/ü1")).toMatchObject({ allowed: true, rule: "prefix" });
    expect(await ask("kv.read", "/v1/kv/b")).toMatchObject({ allowed: false, rule: "prefix" });
    expect(await ask("kv.write", "/v1/kv/b")).toMatchObject({ rule: "role:ReadOnly" });
    expect(await ask("kv.list", "/v1/kv?prefix=a/ü")).toMatchObject({ allowed: true });
    expect(await ask("kv.list", "/v1/kv")).toMatchObject({ allowed: false, rule: "prefix" });
    expect(await ask("cluster.read", "")).toMatchObject({ rule: "role:ReadOnly" });
    const from = { address: "192.0.2.1" };
    expect(await ask("kv.read", "/v1/kv/b", from)).toMatchObject({ rule: "network" });
    await test.changeKey(key.id, (record) => (record.revokedAtMs = 1n));
    expect(await ask("kv.read", "/v1/kv/b")).toMatchObject({ rule: "key:revoked" });
    const other = await test.addKey("ReadOnly", { tenant });
    await test.addTenant(2, "two", 2);
    const ofOther = { key: other.id, op: "kv.read", path: "/v1/kv/b" };
    expect(await explain(root, ofOther)).toMatchObject({ rule: "tenant:suspended" });
    expect(await explain(root, { ...ofOther, tenant: "default" })).toMatchObject({
      allowed: false,
    });
  });

  it("agrees with the gate", async () => {
    const key = await test.addKey("ReadWrite", { prefixes: [utf8("a")] });
    const paths = ["/v1/kv/a", "/v1/kv/b", "/v1/kv/ab%2F", "/v1/kv/%61"];
    for (const path of paths) {
      const { allowed } = await explain(root, { key: key.id, op: "kv.delete", path });
      const { status } = await ask(key.text, "DELETE", path);
      expect([path, status !== 403]).toEqual([path, allowed]);
    }
  });

  it("tells a tenant's administrator nothing of other keys", async () => {
    const other = await test.addKey("ReadOnly");
    const query = { op: "kv.read", path: "/v1/kv/a" };
    const known = await explain(admin.text, { ...query, key: other.id });
    const unknown = await explain(admin.text, { ...query, key: "0123456789ABCDEF" });
    expect([known.status, known.detail]).toEqual([403, unknown.detail]);
    for (const [key, op, path] of [
      ["x", "kv.read", "/v1/kv/a"],
      [other.id, "kv.reed", "/v1/kv/a"],
      [other.id, "kv.read", "/v1/kv/"],
      [other.id, "kv.read", "/v1/kv/%"],
      [other.id, "kv.read", "/v1/kvs/a"],
      [other.id, "kv.list", "/v1/keys"],
    ] as const) {
      const { status } = await explain(root, { key, op, path });
      expect([op, path, status]).toEqual([op, path, key === "x" ? 404 : 400]);
    }
  });
});
