/**
 * Every operation of the OpenAPI document, asked for without credentials, with wrong ones, by each role,
 * and by another tenant. The document is made from the routes: one that is new is tested here by itself,
 * and fails as long as it has no rule.
 */
import { describe, expect, it } from "vitest";
import { openApiDocument } from "#gateway/info/openapi.ts";
import { TestAuth } from "#gateway/testing/auth.ts";
import { testGateway } from "#gateway/testing/gateway.ts";
import { utf8 } from "#shared/bytes.ts";
import { toTenantId } from "#shared/ids.ts";
import { formatApiKey, makeApiKey } from "./api-key.ts";
import { ROLES, type Role } from "./caller.ts";

type Operation = {
  readonly "x-minikv-access"?: readonly string[];
  readonly security?: readonly object[];
  readonly responses: Readonly<Record<string, unknown>>;
};

const METHODS = ["get", "head", "put", "post", "delete", "patch"] as const;
const document = openApiDocument("1.2.3", testGateway().app.gateway.routes);
const operations = Object.entries(document.paths).flatMap(([path, item]) =>
  METHODS.flatMap((method) => {
    const operation = item[method] as Operation | undefined;
    return operation === undefined ? [] : [{ name: `${method.toUpperCase()} ${path}`, operation }];
  }),
);

/** Written down apart from the authorizer: what each role may do more than the one before. */
const MORE: Readonly<Record<Role, readonly string[]>> = {
  ReadOnly: ["service.read", "kv.read", "kv.list"],
  ReadWrite: ["kv.write", "kv.delete"],
  Admin: ["tenant.read", "tenant.keys"],
  ClusterAdmin: ["cluster.read", "cluster.change", "cluster.tenants", "cluster.audit"],
};
const allowedFor = (role: Role): readonly string[] =>
  ROLES.slice(0, ROLES.indexOf(role) + 1).flatMap((lower) => MORE[lower]);

/** What a request to an operation needs; it need not be more than enough to be refused. */
const BATCH = JSON.stringify({
  ops: [
    { op: "get", key: "a" },
    { op: "put", key: "a", value: "v" },
    { op: "delete", key: "a" },
  ],
});
const BODIES: Readonly<Record<string, string>> = { "POST /batch": BATCH, "POST /v1/batch": BATCH };
const QUERIES: Readonly<Record<string, string>> = {
  "HEAD /v1/kv": "?key64=YQ",
  "PUT /v1/kv": "?key64=YQ",
  "DELETE /v1/kv": "?key64=YQ",
};
const PARAMETERS: Readonly<Record<string, string>> = { key: "a", code: "INTERNAL", vshard: "0" };
/** One path for two operations: without `key64` it is a list. */
const ASKED: Readonly<Record<string, readonly string[]>> = { "GET /v1/kv": ["kv.list"] };

class World {
  readonly test = new TestAuth();
  readonly #gateway = testGateway({ auth: this.test });

  async ask(name: string, credential?: string, ids: Readonly<Record<string, string>> = {}) {
    const [method = "", template = ""] = name.split(" ");
    const values = { ...PARAMETERS, ...ids };
    const path = template.replace(/\{(\w+)\}/g, (_, parameter: string) => values[parameter] ?? "1");
    const hasBody = method === "POST" || method === "PUT";
    const headers = {
      ...(credential === undefined ? {} : { Authorization: `Bearer ${credential}` }),
      ...(method === "POST" ? { "Content-Type": "application/json" } : {}),
    };
    return this.#gateway.app.request(path + (QUERIES[name] ?? ""), {
      method,
      headers,
      ...(hasBody ? { body: BODIES[name] ?? "{}" } : {}),
    });
  }
}

const isKeyRoute = (name: string): boolean => name.includes("/admin/keys/{id}");

describe("the rules of the routes", () => {
  it("are there for each operation", () => {
    expect(operations.length).toBeGreaterThan(25);
    const known = [...allowedFor("ClusterAdmin"), "public"];
    for (const { name, operation } of operations) {
      const access = operation["x-minikv-access"];
      expect([name, access?.length ?? 0]).not.toEqual([name, 0]);
      for (const action of access!)
        expect([name, known]).toEqual([name, expect.arrayContaining([action])]);
    }
  });

  it("tell in the description how others are refused", () => {
    for (const { name, operation } of operations) {
      const isPublic = operation["x-minikv-access"]?.[0] === "public";
      const described = ["401", "403"].map((status) => status in operation.responses);
      expect([name, ...described]).toEqual([name, !isPublic, !isPublic]);
      expect([name, operation.security]).toEqual([name, isPublic ? [] : undefined]);
    }
  });
});

describe.each(operations)("$name", ({ name, operation }) => {
  const access = ASKED[name] ?? operation["x-minikv-access"] ?? [];
  const isPublic = access[0] === "public";

  it(
    isPublic ? "needs no credentials" : "refuses who has no credentials, or wrong ones",
    async () => {
      const world = new World();
      const wrong = formatApiKey(makeApiKey(world.test.random));
      for (const credential of [undefined, wrong, "eyJhbGciOiJub25lIn0.e30."]) {
        const response = await world.ask(name, credential);
        if (isPublic) {
          expect(response.status).not.toBe(401);
          continue;
        }
        expect(response.status).toBe(401);
        const error = credential === undefined ? "" : ', error="invalid_token"';
        expect(response.headers.get("www-authenticate")).toBe(`Bearer realm="minikv"${error}`);
      }
    },
  );

  it.each(isPublic ? [] : ROLES)("is decided by the role %s", async (role) => {
    const world = new World();
    const key = await world.test.addKey(role);
    const { id } = await world.test.addKey("ReadOnly");
    const response = await world.ask(name, key.text, isKeyRoute(name) ? { id } : {});
    const isAllowed = access.every((action) => allowedFor(role).includes(action));
    if (isAllowed) expect([401, 403]).not.toContain(response.status);
    else expect(response.status).toBe(403);
  });

  const closed = isPublic ? [] : [name];
  it.each(closed)("is closed to keys that are confined to other prefixes: %s", async () => {
    const world = new World();
    const key = await world.test.addKey("ReadWrite", { prefixes: [utf8("b")] });
    const response = await world.ask(name, key.text);
    const isService = access.every((action) => action === "service.read");
    expect(response.status === 403).toBe(!isService);
  });

  it.each(closed)("is closed to a tenant that is suspended: %s", async () => {
    const world = new World();
    await world.test.addTenant(2, "two", 2);
    const key = await world.test.addKey("Admin", { tenant: toTenantId(2) });
    expect((await world.ask(name, key.text)).status).toBe(403);
  });

  it.each(isKeyRoute(name) ? [name] : [])(
    "is closed to another tenant's administrator: %s",
    async () => {
      const world = new World();
      const tenant = await world.test.addTenant(2, "two");
      const key = await world.test.addKey("Admin", { tenant });
      const { id } = await world.test.addKey("ReadOnly");
      const answers = [await world.ask(name, key.text, { id })];
      answers.push(await world.ask(name, key.text, { id: "0123456789ABCDEF" }));
      const bodies = await Promise.all(answers.map((answer) => answer.json()));
      const details = bodies.map((body) => (body as { detail: string }).detail);
      expect(answers.map(({ status }) => status)).toEqual([403, 403]);
      expect(details[0]).toBe(details[1]);
    },
  );
});
