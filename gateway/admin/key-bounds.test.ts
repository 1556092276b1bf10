/** What keys that are bounded may make, and how much of the work of making keys one tenant may ask for. */
import { beforeEach, describe, expect, it } from "vitest";
import { type ApiKey, parseApiKey } from "#gateway/auth/api-key.ts";
import type { Gate } from "#gateway/auth/gate.ts";
import { TokenBasis } from "#gateway/auth/token-basis.ts";
import { TestAuth } from "#gateway/testing/auth.ts";
import { problemOf, type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import type { TenantId } from "#shared/ids.ts";
import { KEY_HASHES_PER_TENANT_MAX } from "#shared/limits.ts";

const DAY_MS = 86_400_000;
/** As Node's server binds it. */
const FROM_INSIDE = { incoming: { socket: { remoteAddress: "10.9.8.7" } } };

type KeyBody = { readonly id: string };

let test: TestAuth;
let gateway: TestGateway;
let tenant: TenantId;
let admin: ApiKey & { readonly text: string };
beforeEach(async () => {
  test = new TestAuth();
  gateway = testGateway({ auth: test });
  tenant = await test.addTenant(2, "two");
  admin = await test.addKey("Admin", { tenant });
});

const ask = async (credential: string, path: string, body: object) =>
  gateway.app.request(
    path,
    {
      method: "POST",
      headers: { "X-API-Key": credential, "Content-Type": "application/json" },
      body: JSON.stringify(body),
    },
    FROM_INSIDE,
  );
const create = (credential: string, body: object = {}) =>
  ask(credential, "/admin/keys", { role: "ReadOnly", ...body });
const codeOf = async (response: Response) => [response.status, (await problemOf(response)).code];

describe("a key that ends, or works from some networks only", () => {
  const forbidden = [403, "FORBIDDEN"];
  let bounded: string;
  let endsAtMs: number;
  beforeEach(async () => {
    endsAtMs = test.clock.nowMs() + DAY_MS;
    const networks = ["10.0.0.0/8", "2001:db8::/32"];
    const key = await test.addKey("Admin", { tenant, expiresAtMs: endsAtMs, networks });
    bounded = key.text;
  });

  it("makes keys with its own bounds where none are named", async () => {
    const response = await create(bounded, {});
    expect(response.status).toBe(201);
    const { id } = (await response.json()) as KeyBody;
    const { record } = test.auth.keys.find(id)!;
    expect(Number(record.expiresAtMs)).toBe(endsAtMs);
    expect(record.networks).toEqual(["10.0.0.0/8", "2001:db8::/32"]);
  });

  it("makes narrower ones, and none that reach further", async () => {
    for (const body of [
      { expires_in: "1h" },
      { networks: ["10.1.0.0/16", "10.2.3.4"] },
      { networks: ["2001:db8:1::/48"], expires_in: "24h" },
    ]) {
      expect((await create(bounded, body)).status, JSON.stringify(body)).toBe(201);
    }
    for (const body of [
      { expires_in: "25h" },
      { networks: ["0.0.0.0/0"] },
      { networks: ["10.0.0.0/7"] },
      { networks: ["10.1.0.0/16", "192.0.2.1"] },
      { networks: ["::ffff:10.0.0.0/104"] },
    ]) {
      expect(await codeOf(await create(bounded, body)), JSON.stringify(body)).toEqual(forbidden);
    }
  });

  it("says how far it may reach with keys", async () => {
    const { id } = parseApiKey(bounded)!;
    const explain = async (op: string) => {
      const path = `/admin/auth/explain?key=${id}&op=${op}`;
      const answer = await gateway.app.request(path, { headers: { "X-API-Key": admin.text } });
      return (await answer.json()) as object;
    };
    const gives = {
      until: new Date(endsAtMs).toISOString(),
      networks: ["10.0.0.0/8", "2001:db8::/32"],
    };
    expect(await explain("tenant.keys")).toMatchObject({ allowed: true, gives });
    expect(await explain("tenant.read")).not.toHaveProperty("gives");
  });

  it("rotates itself and narrower ones, and has no new secret of one that reaches further", async () => {
    const rotate = (id: string) => ask(bounded, `/admin/keys/${id}/rotate`, {});
    expect(await codeOf(await rotate(admin.id))).toEqual(forbidden);
    const narrow = (await (await create(bounded, { expires_in: "1h" })).json()) as KeyBody;
    expect((await rotate(narrow.id)).status).toBe(200);
    expect((await rotate(parseApiKey(bounded)!.id)).status).toBe(200);
  });
});

describe.each(["a foreign issuer", "this cluster"] as const)(
  "whoever comes with a token of %s",
  (issuer) => {
    const forbidden = [403, "FORBIDDEN"];
    const HOUR_MS = 3_600_000;
    let endsAtMs: number;
    let withToken: TestGateway;
    beforeEach(() => {
      // Between two milliseconds, as the skew of a token may leave it.
      endsAtMs = test.clock.nowMs() + HOUR_MS + 0.5;
      const { clock } = test;
      const { principal } = new TokenBasis(
        // Its subject is the id of a key without bounds: whoever names subjects must gain nothing by that.
        { kind: "token", id: admin.id, tenant, role: "Admin", prefixes: [] },
        {
          ...{ clock, endsAtMs, whyNot: () => undefined },
          keyId: issuer === "this cluster" ? admin.id : undefined,
        },
      );
      const gate: Gate = {
        enter: () => ({ principal, tenant, answerHeaders: [] }),
        enterUnknown: () => undefined,
        authorize: () => undefined,
        renew: () => Promise.resolve(),
        whyEnded: () => undefined,
        enterAs: () => ({ principal, tenant, answerHeaders: [] }),
      };
      withToken = testGateway({ auth: test, gate });
    });
    const askWith = (path: string, body: object) =>
      withToken.app.request(path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
      });

    it("makes keys that end with the token where no end is named, and none that go on", async () => {
      const made = await askWith("/admin/keys", { role: "ReadOnly" });
      expect(made.status).toBe(201);
      const { id } = (await made.json()) as KeyBody;
      expect(Number(test.auth.keys.find(id)!.record.expiresAtMs)).toBe(Math.floor(endsAtMs));
      const shorter = await askWith("/admin/keys", { role: "ReadOnly", expires_in: "59m" });
      expect(shorter.status).toBe(201);
      const longer = await askWith("/admin/keys", { role: "ReadOnly", expires_in: "61m" });
      expect(await codeOf(longer)).toEqual(forbidden);
    });

    it("gets no new secret of a key that goes on, but may revoke it", async () => {
      const rotated = await askWith(`/admin/keys/${admin.id}/rotate`, {});
      expect(await codeOf(rotated)).toEqual(forbidden);
      expect((await askWith(`/admin/keys/${admin.id}/revoke`, {})).status).toBe(200);
    });
  },
);

describe("whoever comes with a secret that was rotated out", () => {
  it("takes no new one of its key, and makes none that goes on", async () => {
    const OVERLAP_MS = 3_600_000;
    const timing = { deadlineMs: test.clock.nowMs() + DAY_MS };
    const { text } = await test.auth.keys.rotate(admin.id, OVERLAP_MS, timing);
    const rotate = (credential: string) =>
      ask(credential, `/admin/keys/${admin.id}/rotate`, { overlap: "0s" });
    expect(await codeOf(await rotate(admin.text))).toEqual([403, "FORBIDDEN"]);
    const made = (await (await create(admin.text)).json()) as KeyBody;
    const { record } = test.auth.keys.find(made.id)!;
    expect(Number(record.expiresAtMs)).toBe(test.clock.nowMs() + OVERLAP_MS);
    expect((await rotate(text)).status).toBe(200);
  });
});

describe("whoever takes long over a body", () => {
  it.each(["revoke", "delete"] as const)(
    "makes no key when the own one is gone by then: %s",
    async (how) => {
      const endsAtMs = test.clock.nowMs() + DAY_MS;
      const bounded = await test.addKey("Admin", { tenant, expiresAtMs: endsAtMs });
      // Known already: it is verified at once.
      expect((await create(bounded.text)).status).toBe(201);
      const before = test.auth.keys.all().length;
      const more = Promise.withResolvers<void>();
      const body = new ReadableStream({
        async start(controller) {
          controller.enqueue(Buffer.from('{"role":'));
          await more.promise;
          controller.enqueue(Buffer.from('"Admin"}'));
          controller.close();
        },
      });
      const headers = { "X-API-Key": bounded.text, "Content-Type": "application/json" };
      const answer = gateway.app.request(
        "/admin/keys",
        { method: "POST", headers, body, duplex: "half" } as RequestInit,
        FROM_INSIDE,
      );
      await new Promise((resolve) => setImmediate(resolve));
      await test.auth.keys[how](bounded.id, { deadlineMs: test.clock.nowMs() + DAY_MS });
      more.resolve();
      expect(await codeOf(await answer)).toEqual([401, "UNAUTHENTICATED"]);
      const left = how === "delete" ? before - 1 : before;
      expect(test.auth.keys.all()).toHaveLength(left);
    },
  );
});

describe("keys that are made at once", () => {
  it("take a few places of the line for one tenant, and leave others theirs", async () => {
    const other = await test.addTenant(3, "three");
    const neighbour = await test.addKey("Admin", { tenant: other });
    const answers = await Promise.all(
      Array.from({ length: KEY_HASHES_PER_TENANT_MAX + 5 }, () => create(admin.text)).concat(
        create(neighbour.text),
      ),
    );
    expect(answers.at(-1)!.status).toBe(201);
    const refused = answers.filter(({ status }) => status === 503);
    expect(refused).toHaveLength(5);
    expect((await problemOf(refused[0]!)).code).toBe("OVERLOADED");
    expect((await create(admin.text)).status).toBe(201);
  });

  it("are decoded once, however often they are listed", async () => {
    const before = test.auth.keys.all();
    expect((await create(admin.text)).status).toBe(201);
    const after = test.auth.keys.all();
    expect(after).toHaveLength(before.length + 1);
    for (const key of before) expect(after).toContain(key);
  });
});
