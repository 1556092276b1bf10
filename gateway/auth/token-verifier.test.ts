import { beforeEach, describe, expect, it } from "vitest";
import { rewrapAll } from "#gateway/codec/master-rotation.ts";
import { masterKeys } from "#gateway/codec/testing.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import {
  TEST_KEY_ID,
  type TokenGateway,
  testExchange,
  testKey,
  tokenGateway,
} from "#gateway/testing/tokens.ts";
import { utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { SIGNING_KEY_PUBLISHED_MS } from "#shared/limits-tokens.ts";
import { SeededRandom } from "#shared/random.ts";
import type { Role } from "./caller.ts";
import { encodeKey, findKey, keyRowName } from "./key-records.ts";
import { signingKeyRow } from "./signing-keys.ts";

let directory: MemoryDirectory;
let clock: ManualClock;
/** Of two gateways of a cluster, the one that issues and the one that is asked. */
let issuing: TokenGateway;
let asked: TokenGateway;

beforeEach(() => {
  directory = new MemoryDirectory();
  clock = new ManualClock();
  issuing = tokenGateway({ directory, clock });
  asked = tokenGateway({ directory, clock });
});

const tokenOf = async (key = {}, request = {}) =>
  (await issuing.issuer.issue(await testKey(directory, key), request)).token;
const verify = async (token: string, address?: string) =>
  asked.verifier.verify(token, testExchange(address));

/** The key's row, with something changed. */
async function change(changes: Partial<Parameters<typeof encodeKey>[0]>): Promise<void> {
  const { record } = findKey(directory, TEST_KEY_ID)!;
  const value = encodeKey({ ...record, ...changes });
  await directory.change([{ name: keyRowName(TEST_KEY_ID), value }]);
}

describe("TokenVerifier", () => {
  it("takes a token that another gateway has issued, and then knows it", async () => {
    const token = await tokenOf({ prefixes: [utf8("a/"), new Uint8Array([0xff, 0])] });
    expect(await verify(token)).toMatchObject({
      ...{ kind: "token", id: TEST_KEY_ID, tenant: 1, role: "ReadWrite" },
      prefixes: [Buffer.from("a/"), Buffer.from([0xff, 0])],
    });
    expect(asked.verifier.verify(token, testExchange())).not.toBeInstanceOf(Promise);
  });

  it("verifies a token once when many requests show it at the same time", async () => {
    const token = await tokenOf();
    const principals = await Promise.all(Array.from({ length: 2_000 }, () => verify(token)));
    expect(new Set(principals).size).toBe(1);
  });

  it("refuses with 503 beyond a bound of different tokens at once, and recovers", async () => {
    const caller = await testKey(directory);
    const make = async () => (await issuing.issuer.issue(caller, {})).token;
    const tokens = await Promise.all(Array.from({ length: 600 }, make));
    const results = await Promise.allSettled(tokens.map((token) => verify(token)));
    const refused = results.filter(({ status }) => status === "rejected");
    expect(refused.length).toBeGreaterThan(0);
    for (const result of refused) expect(result).toMatchObject({ reason: { code: "OVERLOADED" } });
    for (const token of tokens) expect(await verify(token)).toBeDefined();
  });

  it.each([
    ["revoked", () => change({ revokedAtMs: 5n })],
    ["deleted", () => directory.change([{ name: keyRowName(TEST_KEY_ID), value: undefined }])],
    ["expired", () => change({ expiresAtMs: BigInt(clock.nowMs()) })],
    ["unreadable", () => directory.change([{ name: keyRowName(TEST_KEY_ID), value: utf8("x") }])],
    ["lowered", () => change({ role: 1 })],
    ["of another tenant", () => change({ tenantId: 2 })],
    ["confined to prefixes", () => change({ prefixes: [utf8("a")] })],
    ["confined to networks", () => change({ networks: ["198.51.100.0/24"] })],
  ])("refuses a token from the moment on at which its key is %s", async (_what, happen) => {
    const token = await tokenOf();
    const fresh = (await issuing.issuer.issue(await testKey(directory), { expires_in: 60 })).token;
    expect(await verify(token)).toBeDefined();
    await happen();
    // Both the one that is remembered, and the one that was never seen here.
    await expect(verify(token)).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
    await expect(verify(fresh)).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
  });

  it("takes a token as long as changes of its key leave it all it needs", async () => {
    const token = await tokenOf({ role: "Admin" }, { role: "ReadOnly", prefixes: ["a/b"] });
    await change({ role: 2, prefixes: [utf8("a/")], name: "renamed", secrets: [] });
    expect(await verify(token)).toMatchObject({ role: "ReadOnly" });
  });

  it("refuses a token when its key expires while it is remembered", async () => {
    const token = await tokenOf({ expiresAtMs: clock.nowMs() + 5_000 });
    expect(await verify(token)).toBeDefined();
    clock.advance(5_000);
    await expect(verify(token)).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
    expect(asked.failures).toMatchObject([{ reason: "expired", id: TEST_KEY_ID }]);
  });

  it("takes a token of a key that is confined to networks from there only", async () => {
    const token = await tokenOf({ networks: ["192.0.2.0/24"] });
    expect(await verify(token, "192.0.2.9")).toBeDefined();
    await expect(verify(token, "192.0.3.9")).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
    await expect(verify(token, "")).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
  });

  it("takes tokens of a key that was rotated out, until that is gone", async () => {
    const token = await tokenOf();
    await issuing.signingKeys.rotate();
    clock.advance(SIGNING_KEY_PUBLISHED_MS);
    const next = await tokenOf();
    expect(await verify(token)).toBeDefined();
    expect(await verify(next)).toBeDefined();
    await issuing.signingKeys.rotate(true);
    for (const old of [token, next]) {
      await expect(verify(old)).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
    }
    expect(await verify(await tokenOf())).toBeDefined();
  });

  it("takes the tokens of a signing key whose private key is wrapped anew", async () => {
    const remembered = await tokenOf();
    const fresh = (await issuing.issuer.issue(await testKey(directory), { expires_in: 60 })).token;
    expect(await verify(remembered)).toBeDefined();
    const { keyId } = issuing.signingKeys.list()[0]!;
    const { revision } = directory.get(signingKeyRow(keyId))!;
    // As POST /admin/encryption/rotate-master does.
    const parts = { directory, masterKeys: masterKeys(0), random: new SeededRandom(5) };
    const wrapped = await rewrapAll(parts, clock.nowMs() + 1_000);
    expect(wrapped).toEqual({ rewrapped: 1, unreadable: [] });
    expect(directory.get(signingKeyRow(keyId))!.revision).not.toBe(revision);
    expect(await verify(remembered)).toBeDefined();
    expect(await verify(fresh)).toBeDefined();
    expect(asked.failures).toEqual([]);
    await directory.change([{ name: signingKeyRow(keyId), value: undefined }]);
    await expect(verify(remembered)).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
  });

  it("does not know whether a token is right when it has heard nothing for long", async () => {
    const token = await tokenOf();
    await verify(token);
    directory.silence = 60_001;
    await expect(verify(token)).rejects.toMatchObject({ code: "UNAVAILABLE" });
    directory.silence = 0;
    directory.isKnown = false;
    await expect(verify(token)).rejects.toMatchObject({ code: "UNAVAILABLE" });
  });

  it("does not call a token wrong whose key may not have arrived yet", async () => {
    const token = await tokenOf();
    const alone = new MemoryDirectory();
    await testKey(alone);
    const apart = tokenGateway({ directory: alone, clock });
    const result = async () => apart.verifier.verify(token, testExchange());
    await expect(result()).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
    alone.silence = 5_000;
    await expect(result()).rejects.toMatchObject({ code: "UNAVAILABLE" });
  });
});

describe("TokenIssuer", () => {
  it("is asked for less, and never gives more", async () => {
    const key = { role: "ReadWrite" as Role, prefixes: [utf8("a/"), utf8("b/")] };
    const of = async (request: object) => verify(await tokenOf(key, request));
    expect(await of({ role: "ReadOnly" })).toMatchObject({ role: "ReadOnly" });
    expect(await of({ prefixes: ["a/x"], prefixes64: ["Yi8"] })).toMatchObject({
      prefixes: [Buffer.from("a/x"), Buffer.from("b/")],
    });
    for (const request of [
      { role: "Admin" },
      { role: "ClusterAdmin" },
      { prefixes: ["a"] },
      { prefixes: ["a/", "c/"] },
      { prefixes64: ["_w"] },
    ]) {
      await expect(tokenOf(key, request)).rejects.toMatchObject({ code: "FORBIDDEN" });
    }
  });

  it.each([
    { expires_in: 0 },
    { expires_in: -1 },
    { expires_in: 1.5 },
    { expires_in: "60" },
    { expires_in: 901 },
    { expires_in: null },
    { audience: "" },
    { audience: "a b" },
    { audience: ["a"] },
    { audience: "x".repeat(257) },
    { role: "admin" },
    { role: 2 },
    { prefixes: "a" },
    { prefixes: [] },
    { prefixes: [""] },
    { prefixes: [1] },
    { prefixes: Array.from({ length: 33 }, String) },
    { prefixes: ["x".repeat(1025)] },
    { prefixes: Array.from({ length: 4 }, () => "x".repeat(1000)) },
    { prefixes64: ["*"] },
    { prefixes64: ["YQ", "Y"] },
  ])("refuses the request %j", async (request) => {
    await expect(tokenOf({}, request)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  it("makes no token that lives longer than its key", async () => {
    const caller = await testKey(directory, { expiresAtMs: clock.nowMs() + 90_500 });
    const { expiresInSeconds } = await issuing.issuer.issue(caller, {});
    expect(expiresInSeconds).toBe(90);
    clock.advance(90_000);
    await expect(issuing.issuer.issue(caller, {})).rejects.toMatchObject({
      code: "UNAUTHENTICATED",
    });
  });

  it("makes no token for a token, a root key or anybody", async () => {
    const caller = await testKey(directory);
    for (const kind of ["token", "root", "open"] as const) {
      const principal = { ...caller.principal, kind };
      await expect(issuing.issuer.issue({ ...caller, principal }, {})).rejects.toMatchObject({
        code: "FORBIDDEN",
      });
    }
  });

  it("makes a token for one tenant when a cluster's administrator has named it", async () => {
    const caller = await testKey(directory, { role: "ClusterAdmin" });
    const named = { ...caller, tenant: 7 as typeof caller.tenant };
    const { token } = await issuing.issuer.issue(named, { role: "ReadOnly" });
    expect(await verify(token)).toMatchObject({ tenant: 7, role: "ReadOnly" });
    const whole = await issuing.issuer.issue(named, {});
    expect(await verify(whole.token)).toMatchObject({ tenant: 1, role: "ClusterAdmin" });
  });

  it("makes tokens for others that minikv itself does not take", async () => {
    await expect(verify(await tokenOf({}, { audience: "billing" }))).rejects.toMatchObject({
      code: "UNAUTHENTICATED",
    });
    expect(asked.failures).toMatchObject([{ reason: "audience" }]);
  });
});
