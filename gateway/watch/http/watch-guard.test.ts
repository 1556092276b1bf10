/** Watches end when their client would not be let in any more. */
import { describe, expect, it } from "vitest";
import { RequestRefused } from "#gateway/http/problem.ts";
import { bearer, exchangeWith, ROOT_KEY, TestAuth } from "#gateway/testing/auth.ts";
import { type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { TenantState } from "#proto/gen/minikv/v1/directory_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { WATCHES_PER_TENANT_MAX } from "#shared/limits.ts";
import { WATCH_RECHECK_DELAY_MS, WATCH_RECHECK_INTERVAL_MS } from "#shared/limits-watch-http.ts";
import { WatchGuard } from "./watch-guard.ts";

async function watched(
  auth: TestAuth,
  credential: { readonly text: string } | string,
  query = "",
  headers: Readonly<Record<string, string>> = {},
): Promise<TestGateway> {
  const gateway = testGateway({ auth });
  const response = await gateway.app.request(`/v1/watch${query}`, {
    headers: { ...bearer(credential), ...headers },
  });
  expect(response.status).toBe(200);
  return gateway;
}

const reasonOf = ({ watches }: TestGateway) => {
  const { ending } = watches.newest;
  return ending?.kind === "revoke" ? ending.reason : ending?.kind;
};

describe("a watch of an API key", () => {
  it.each([
    ["is revoked", "revoked", (record: { revokedAtMs: bigint }) => (record.revokedAtMs = 1n)],
    [
      "has lost what is watched",
      "need a prefix within",
      (record: { prefixes: Uint8Array[] }) => (record.prefixes = [utf8("b")]),
    ],
    [
      "is only taken from elsewhere",
      "from this address",
      (record: { networks: string[] }) => (record.networks = ["198.51.100.0/24"]),
    ],
    ["has another secret", "revoked", (record: { secrets: object[] }) => (record.secrets = [])],
  ] as const)("ends when the key %s", async (_, reason, edit) => {
    const auth = new TestAuth();
    const key = await auth.addKey("ReadOnly");
    const gateway = await watched(auth, key, "?prefix=a");
    gateway.clock.advance(10 * WATCH_RECHECK_INTERVAL_MS);
    expect(reasonOf(gateway)).toBeUndefined();
    await auth.changeKey(key.id, edit as (record: unknown) => unknown);
    expect(reasonOf(gateway)).toBeUndefined();
    gateway.clock.advance(WATCH_RECHECK_DELAY_MS);
    expect(reasonOf(gateway)).toContain(reason);
  });

  it("goes on when the key changes in what does not matter to it, without a second Argon2", async () => {
    let verifications = 0;
    const auth = new TestAuth({
      hasher: {
        hash: (_, secret) => Promise.resolve({ hash: secret, check: utf8("") }),
        verify: (hash, secret) => {
          verifications++;
          return Promise.resolve(hash === `plain:${secret}`);
        },
      },
    });
    const key = await auth.addKey("ReadWrite");
    const gateway = await watched(auth, key, "?prefix=a");
    await auth.changeKey(key.id, (record) => {
      record.name = "another";
      record.prefixes = [utf8("a"), utf8("b")];
    });
    gateway.clock.advance(WATCH_RECHECK_INTERVAL_MS);
    expect(reasonOf(gateway)).toBeUndefined();
    expect(verifications).toBe(1);
    expect(auth.failures).toEqual([]);
  });

  it("ends when the key is deleted", async () => {
    const auth = new TestAuth();
    const key = await auth.addKey("ReadOnly");
    const gateway = await watched(auth, key);
    await auth.directory.change([{ name: `key/${key.id}`, value: undefined }]);
    gateway.clock.advance(WATCH_RECHECK_DELAY_MS);
    expect(reasonOf(gateway)).toContain("deleted");
  });

  it("ends within a second of the key's end, which nobody announces", async () => {
    const auth = new TestAuth();
    const key = await auth.addKey("ReadOnly", { expiresAtMs: auth.clock.nowMs() + 10_000 });
    const gateway = await watched(auth, key);
    gateway.clock.advance(9_999);
    expect(reasonOf(gateway)).toBeUndefined();
    gateway.clock.advance(WATCH_RECHECK_INTERVAL_MS);
    expect(reasonOf(gateway)).toContain("expired");
  });

  it("ends with the old secret after a rotation, and not with the new one", async () => {
    const auth = new TestAuth();
    const key = await auth.addKey("ReadOnly");
    const gateway = await watched(auth, key);
    await auth.changeKey(key.id, (record) => {
      record.secrets[0]!.expiresAtMs = BigInt(auth.clock.nowMs() + 5_000);
      record.secrets.push({ ...record.secrets[0]!, hash: "plain:other", expiresAtMs: 0n });
    });
    gateway.clock.advance(4_900);
    expect(reasonOf(gateway)).toBeUndefined();
    gateway.clock.advance(1_000);
    expect(reasonOf(gateway)).toContain("expired");
  });
});

describe("a watch of a tenant", () => {
  it.each([
    [TenantState.SUSPENDED, "suspended"],
    [TenantState.DELETING, "deleting"],
  ])("ends when the tenant is %i", async (state, word) => {
    const auth = new TestAuth();
    const tenant = await auth.addTenant(7, "seven");
    const key = await auth.addKey("ReadOnly", { tenant });
    const gateway = await watched(auth, key);
    const administrators = await watched(auth, ROOT_KEY, "", { "Minikv-Tenant": "seven" });
    const other = await watched(auth, await auth.addKey("ReadOnly"));
    await auth.addTenant(7, "seven", state);
    gateway.clock.advance(WATCH_RECHECK_DELAY_MS);
    expect(reasonOf(gateway)).toContain(word);
    expect(reasonOf(administrators)).toContain(word);
    expect(reasonOf(other)).toBeUndefined();
  });

  it("ends when the tenant is gone", async () => {
    const auth = new TestAuth();
    const tenant = await auth.addTenant(7, "seven");
    const gateway = await watched(auth, await auth.addKey("ReadOnly", { tenant }));
    await auth.directory.change([{ name: "tenant/00000007", value: undefined }]);
    gateway.clock.advance(WATCH_RECHECK_DELAY_MS);
    expect(reasonOf(gateway)).toContain("does not exist");
  });
});

describe("WatchGuard", () => {
  it("sends clients away, without blame, when the directory has been silent for too long", async () => {
    const auth = new TestAuth();
    const gateway = await watched(auth, await auth.addKey("ReadOnly"));
    const root = await watched(auth, ROOT_KEY);
    auth.directory.silence = 60_001;
    gateway.clock.advance(WATCH_RECHECK_INTERVAL_MS);
    expect(reasonOf(gateway)).toBe("drain");
    // Rests on the settings of this gateway alone.
    expect(reasonOf(root)).toBeUndefined();
  });

  it("looks once for many changes, and has no timer while nobody watches", () => {
    const auth = new TestAuth();
    let looks = 0;
    const guard = new WatchGuard({
      ...{ directory: auth.directory, clock: auth.clock, stalenessMaxMs: 60_000 },
      gate: {
        whyEnded: () => {
          looks++;
          return undefined;
        },
      },
    });
    const caller = {
      principal: { kind: "key", id: "k", tenant: DEFAULT_TENANT, role: "ReadOnly", prefixes: [] },
      ...{ tenant: DEFAULT_TENANT, answerHeaders: [] },
    } as const;
    const watch = { caller, exchange: exchangeWith({}), operations: [], finish: () => undefined };
    guard.add(watch);
    for (let i = 0; i < 100; i++) void auth.addTenant(10 + i, `t${i}`);
    auth.clock.advance(WATCH_RECHECK_DELAY_MS);
    expect(looks).toBe(1);
    auth.clock.advance(10 * WATCH_RECHECK_INTERVAL_MS);
    expect(looks).toBe(11);
    guard.remove(watch);
    void auth.addTenant(500, "last");
    auth.clock.advance(10 * WATCH_RECHECK_INTERVAL_MS);
    expect(looks).toBe(11);
    expect(guard.size).toBe(0);
  });

  it("leaves it to the hub how many watches a tenant may have", async () => {
    const { watch, watches } = testGateway();
    const exchange = exchangeWith({});
    const steps = { before: () => undefined, take: () => undefined };
    const count = WATCHES_PER_TENANT_MAX + 1;
    for (let i = 0; i < count; i++) await watch.openFor(exchange, "sse", steps);
    expect(watches.running).toHaveLength(count);
    watches.failure = new RequestRefused("OVERLOADED", "as many as it may");
    expect(await watch.openFor(exchange, "sse", steps)).toMatchObject({ status: 503 });
  });

  it("ends ten thousand watches of one key in one look", async () => {
    const auth = new TestAuth();
    const key = await auth.addKey("ReadOnly", { prefixes: [utf8("a")] });
    const exchange = exchangeWith(bearer(key));
    const { gate } = auth.auth;
    const caller = await gate.enter(exchange);
    const operations = [{ action: "kv.list", tenant: caller.tenant, key: utf8("ab") }] as const;
    const { directory, clock } = auth;
    const guard = new WatchGuard({ directory, clock, gate, stalenessMaxMs: 60_000 });
    let ended = 0;
    for (let i = 0; i < 10_000; i++) {
      guard.add({ caller, exchange, operations, finish: () => ended++ });
    }
    clock.advance(WATCH_RECHECK_INTERVAL_MS);
    expect(ended).toBe(0);
    await auth.changeKey(key.id, (record) => {
      record.revokedAtMs = 1n;
    });
    clock.advance(WATCH_RECHECK_DELAY_MS);
    expect(ended).toBe(10_000);
  });
});
