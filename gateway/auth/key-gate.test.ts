import { describe, expect, it } from "vitest";
import type { Limiter } from "#gateway/limits/limiter.ts";
import { bearer, exchangeWith, ROOT_KEY, TestAuth } from "#gateway/testing/auth.ts";
import { TenantState } from "#proto/gen/minikv/v1/directory_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import { DEFAULT_TENANT, toTenantId } from "#shared/ids.ts";
import { formatApiKey, makeApiKey } from "./api-key.ts";
import type { Action, Caller } from "./caller.ts";

/** Who is let in, or the code and headers of the refusal. */
async function enter(
  { auth }: TestAuth,
  headers: Readonly<Record<string, string>>,
  address?: string,
): Promise<Caller> {
  return auth.gate.enter(exchangeWith(headers, address));
}

const WRONG = { code: "UNAUTHENTICATED" };

describe("enter()", () => {
  it("lets in who has a valid key, in either header", async () => {
    const test = new TestAuth();
    const key = await test.addKey("ReadOnly");
    for (const headers of [
      bearer(key),
      { authorization: `bEARER  ${key.text} ` },
      { "x-api-key": key.text },
    ]) {
      const caller = await enter(test, headers);
      expect(caller).toMatchObject({ tenant: DEFAULT_TENANT, answerHeaders: [] });
      expect(caller.principal).toMatchObject({ kind: "key", id: key.id, role: "ReadOnly" });
    }
  });

  it("answers without waiting once a key is known", async () => {
    const test = new TestAuth();
    const key = await test.addKey("ReadWrite");
    expect(test.auth.gate.enter(exchangeWith(bearer(key)))).toBeInstanceOf(Promise);
    await enter(test, bearer(key));
    expect(test.auth.gate.enter(exchangeWith(bearer(key)))).toMatchObject({
      principal: { id: key.id },
    });
  });

  it("asks for credentials where there are none that it knows", async () => {
    for (const headers of [{}, { authorization: "Basic eDp5" }, { authorization: "Bearerx" }]) {
      await expect(enter(new TestAuth(), headers)).rejects.toMatchObject({
        ...WRONG,
        headers: ["WWW-Authenticate", 'Bearer realm="minikv"'],
      });
    }
  });

  it("says of no tenant that there is none before the directory is known", async () => {
    const test = new TestAuth();
    const headers = { ...bearer(ROOT_KEY), "minikv-tenant": "two" };
    test.directory.isKnown = false;
    await expect(enter(test, headers)).rejects.toMatchObject({ code: "UNAVAILABLE" });
    expect((await enter(test, bearer(ROOT_KEY))).tenant).toBe(DEFAULT_TENANT);
    test.directory.isKnown = true;
    await expect(enter(test, headers)).rejects.toMatchObject({ code: "RESOURCE_NOT_FOUND" });
    await test.addTenant(2, "two");
    expect((await enter(test, headers)).tenant).toBe(2);
  });

  it("refuses a request that gives credentials twice, or something that is none", async () => {
    const test = new TestAuth();
    const { text } = await test.addKey("ReadOnly");
    for (const headers of [
      { ...bearer(text), "x-api-key": text },
      { "x-api-key": `${text}, ${text}` },
      { authorization: `Bearer ${text}, Bearer ${text}` },
      { authorization: "Bearer" },
      { authorization: "Bearer " },
      { authorization: `Bearer ${"a".repeat(9_000)}` },
      { "x-api-key": "" },
      { "x-api-key": "a b" },
      { "x-api-key": "ä" },
    ]) {
      await expect(enter(test, headers)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
  });

  it("says the same of all credentials that are not valid", async () => {
    const test = new TestAuth();
    const key = await test.addKey("ReadOnly");
    const other = await test.addKey("ReadOnly");
    const revoked = await test.addKey("ReadOnly");
    const expired = await test.addKey("ReadOnly", { expiresAtMs: test.clock.nowMs() });
    const elsewhere = await test.addKey("ReadOnly", { networks: ["10.0.0.0/8"] });
    await test.changeKey(revoked.id, (record) => (record.revokedAtMs = 1n));
    const unknown = formatApiKey(makeApiKey(test.random));
    const said = new Set<string>();
    const texts = {
      secret: test.withSecretOf(key, other),
      unknown,
      revoked: revoked.text,
      expired: expired.text,
      network: elsewhere.text,
      malformed: key.text.slice(0, -1) + (key.text.endsWith("x") ? "y" : "x"),
    };
    // The one that is malformed in another way is no key at all.
    for (const text of [...Object.values(texts), "eyJ.a.b"]) {
      const error = await enter(test, bearer(text)).catch((caught: unknown) => caught);
      expect(error).toMatchObject(WRONG);
      const { message, headers } = error as { message: string; headers: readonly string[] };
      said.add(`${message} ${headers.join()}`);
    }
    expect(said.size).toBe(1);
    expect([...said][0]).toContain('WWW-Authenticate,Bearer realm="minikv", error="invalid_token"');
    expect(test.failures.map(({ reason }) => reason)).toEqual([...Object.keys(texts), "malformed"]);
  });

  it("lets no tenant in that is not active, and its administrator see it", async () => {
    const test = new TestAuth();
    const root = await test.addKey("ClusterAdmin");
    for (const [id, state, said] of [
      [2, TenantState.SUSPENDED, "suspended"],
      [3, TenantState.DELETING, "deleting"],
      [4, undefined, "does not exist"],
      [5, TenantState.UNSPECIFIED, "suspended"],
    ] as const) {
      const name = `tenant-${id}`;
      if (state !== undefined) await test.addTenant(id, name, state);
      const key = await test.addKey("Admin", { tenant: toTenantId(id) });
      await expect(enter(test, bearer(key))).rejects.toMatchObject({
        code: "FORBIDDEN",
        message: expect.stringContaining(said),
      });
      if (said === "does not exist") continue;
      const caller = await enter(test, { ...bearer(root), "minikv-tenant": name });
      const tenant = toTenantId(id);
      test.auth.gate.authorize(caller, { action: "tenant.read", tenant });
      const read = { action: "kv.read", tenant, key: utf8("a") } as const;
      expect(() => test.auth.gate.authorize(caller, read)).toThrow(said);
    }
  });

  it("takes a tenant's name from a cluster's administrator, and from others their own", async () => {
    const test = new TestAuth();
    const tenant = await test.addTenant(7, "seven");
    const root = await test.addKey("ClusterAdmin");
    const key = await test.addKey("Admin", { tenant });
    const own = { ...bearer(key), "minikv-tenant": "seven" };
    expect((await enter(test, { ...bearer(root), "minikv-tenant": "seven" })).tenant).toBe(tenant);
    expect((await enter(test, { ...bearer(root), "minikv-tenant": "default" })).tenant).toBe(1);
    expect((await enter(test, own)).tenant).toBe(tenant);
    await expect(enter(test, { ...bearer(root), "minikv-tenant": "eight" })).rejects.toMatchObject({
      code: "RESOURCE_NOT_FOUND",
    });
    const refusals = await Promise.all(
      ["default", "eight", ""].map((name) =>
        enter(test, { ...bearer(key), "minikv-tenant": name }).catch((error: Error) => error),
      ),
    );
    for (const refusal of refusals) {
      expect(refusal).toMatchObject({ code: "FORBIDDEN", message: (refusals[0] as Error).message });
    }
  });

  it("follows tenants that are renamed, suspended and removed", async () => {
    const test = new TestAuth();
    const tenant = await test.addTenant(7, "seven");
    const key = await test.addKey("ReadOnly", { tenant });
    expect((await enter(test, bearer(key))).tenant).toBe(tenant);
    await test.addTenant(7, "seven", TenantState.SUSPENDED);
    await expect(enter(test, bearer(key))).rejects.toMatchObject({ code: "FORBIDDEN" });
    await test.addTenant(7, "sieben");
    expect((await enter(test, { ...bearer(key), "minikv-tenant": "sieben" })).tenant).toBe(tenant);
    await test.directory.change([{ name: "tenant/00000007", value: undefined }]);
    await expect(enter(test, bearer(key))).rejects.toMatchObject({ code: "FORBIDDEN" });
    // A row of the default tenant may come and go: it is there without one.
    await test.addTenant(1, "main", TenantState.SUSPENDED);
    const first = await test.addKey("ReadOnly");
    await expect(enter(test, bearer(first))).rejects.toMatchObject({ code: "FORBIDDEN" });
    await test.directory.change([{ name: "tenant/00000001", value: undefined }]);
    expect((await enter(test, { ...bearer(first), "minikv-tenant": "default" })).tenant).toBe(1);
  });

  it("asks the limiter before and after it knows who it is", async () => {
    const asked: (string | undefined)[] = [];
    const limiter: Limiter = {
      admit: (_, caller) => {
        asked.push(caller?.principal.id);
        return caller === undefined ? ["Not", "sent"] : ["RateLimit", '"tenant";r=1'];
      },
    };
    const test = new TestAuth({ limiter });
    const key = await test.addKey("ReadOnly");
    expect((await enter(test, bearer(key))).answerHeaders).toEqual(["RateLimit", '"tenant";r=1']);
    await enter(test, {}).catch(() => undefined);
    test.auth.gate.enterUnknown(exchangeWith({}));
    expect(asked).toEqual([undefined, key.id, undefined, undefined]);
  });

  it("is open to everybody when authentication is off, whatever they send", async () => {
    const config = { auth: "off", rootKey: "", rootKeyFile: "", authStalenessMaxMs: 1 } as const;
    const test = new TestAuth({ config });
    await test.addTenant(2, "two");
    test.directory.isKnown = false;
    for (const headers of [{}, { authorization: "Basic x" }, bearer("mkv_wrong")]) {
      const caller = await enter(test, headers);
      test.auth.gate.authorize(caller, { action: "cluster.change", tenant: caller.tenant });
      expect(caller.principal.kind).toBe("open");
    }
    expect((await enter(test, { "minikv-tenant": "two" })).tenant).toBe(2);
    expect(test.shown).toEqual([]);
  });
});

describe("authorize()", () => {
  it("refuses with the rule that decides", async () => {
    const test = new TestAuth();
    const key = await test.addKey("ReadOnly", { prefixes: [utf8("a/")] });
    const caller = await enter(test, bearer(key));
    const ask = (action: Action, text: string, tenant = DEFAULT_TENANT) =>
      test.auth.gate.authorize(caller, { action, tenant, key: utf8(text) });
    ask("kv.read", "a/b");
    ask("kv.list", "a/");
    expect(() => ask("kv.list", "a")).toThrow("need a prefix within");
    expect(() => ask("kv.write", "a/b")).toThrow("ReadOnly does not have kv.write: ReadWrite does");
    expect(() => ask("kv.read", "a/b", toTenantId(2))).toThrow("another tenant");
  });
});
