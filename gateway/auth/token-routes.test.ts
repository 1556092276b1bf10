import { createRemoteJWKSet, customFetch, decodeProtectedHeader, jwtVerify } from "jose";
import { beforeAll, describe, expect, it } from "vitest";
import { createApp, type GatewayApp } from "#gateway/app.ts";
import { gatewayConfig } from "#gateway/config.ts";
import { openEdge } from "#gateway/edge.ts";
import { edgeConfigOf } from "#gateway/edge-settings.ts";
import { FakeClusterView } from "#gateway/testing/fake-cluster-view.ts";
import { problemOf } from "#gateway/testing/gateway.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { MemoryStorage } from "#gateway/testing/memory-storage.ts";
import { noChanges } from "#gateway/watch/testing.ts";
import { ManualClock } from "#shared/clock.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";
import { loadConfig } from "#shared/runtime/config.ts";
import { createLogger } from "#shared/runtime/log.ts";
import { formatApiKey, makeApiKey } from "./api-key.ts";
import type { Role } from "./caller.ts";
import { encodeKey, keyRowName, newKeyRecord } from "./key-records.ts";
import { argon2Hasher } from "./secret-hash.ts";
import { SigningKeys } from "./signing-keys.ts";

const ISSUER = "https://kv.example/base";
const random = systemRandom();
const clock = new ManualClock();
const directory = new MemoryDirectory();
const keys = new Map<Role, string>();
let app: GatewayApp;

async function openApp(...argv: readonly string[]): Promise<GatewayApp> {
  const storage = new MemoryStorage(clock);
  const { config } = loadConfig(gatewayConfig, {
    argv: ["--storage", "127.0.0.1:1", "--auth", "required", ...argv],
    // Else one would be made and shown.
    env: { MINIKV_ROOT_KEY: formatApiKey(makeApiKey(random)) },
    readFile: () => "",
  });
  const logger = createLogger({ level: "fatal", program: "test" });
  const { gate, routes } = await openEdge({
    ...{ storage, directory, clock, random, logger, ...noChanges(clock) },
    config: edgeConfigOf(config),
    listen: config.listen,
  });
  const cluster = new FakeClusterView();
  return createApp({ gate, routes, storage, cluster, clock, random, version: "1" });
}

async function makeKey(role: Role): Promise<string> {
  const key = makeApiKey(random);
  const record = newKeyRecord({
    ...{ id: key.id, role, tenant: DEFAULT_TENANT, name: role, createdAtMs: 1, expiresAtMs: 0 },
    ...{ prefixes: [], networks: [] },
    secret: await argon2Hasher.hash(key.id, key.secret),
  });
  await directory.change([{ name: keyRowName(key.id), value: encodeKey(record) }]);
  return formatApiKey(key);
}

type Sent = { readonly method?: string; readonly body?: string; readonly origin?: string };

const send = (path: string, credential?: string, { method = "GET", body, origin }: Sent = {}) =>
  app.request(path, {
    method,
    headers: {
      ...(credential === undefined ? {} : { Authorization: `Bearer ${credential}` }),
      ...(origin === undefined ? {} : { Origin: origin }),
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    },
    ...(body === undefined ? {} : { body }),
  });

const issue = (credential?: string, body?: string) =>
  send("/v1/auth/token", credential, { method: "POST", ...(body === undefined ? {} : { body }) });

async function tokenOf(role: Role, body?: string): Promise<string> {
  const response = await issue(keys.get(role), body);
  expect(response.status).toBe(200);
  return ((await response.json()) as { access_token: string }).access_token;
}

beforeAll(async () => {
  app = await openApp("--token-issuer", ISSUER, "--token-audience", "kv");
  for (const role of ["ReadOnly", "ReadWrite", "ClusterAdmin"] as const) {
    keys.set(role, await makeKey(role));
  }
});

describe("POST /v1/auth/token", () => {
  it("makes of an API key a token that does what the key does", async () => {
    const response = await issue(keys.get("ReadWrite"), '{"expires_in":60}');
    expect(response.headers.get("cache-control")).toBe("no-store");
    const answer = (await response.json()) as Record<string, unknown>;
    expect(answer).toEqual({
      access_token: expect.stringMatching(/^eyJ[\w-]+\.[\w-]+\.[\w-]{86}$/),
      token_type: "Bearer",
      expires_in: 60,
    });
    const token = answer.access_token as string;
    const put = await send("/v1/kv/a", token, { method: "PUT", body: "1" });
    expect(put.status).toBe(201);
    expect((await send("/v1/kv/a", token)).status).toBe(200);
    expect((await send("/admin/status", token)).status).toBe(403);
  });

  it("makes one that may do less", async () => {
    const token = await tokenOf("ReadWrite", '{"role":"ReadOnly","prefixes":["b/"]}');
    expect((await send("/v1/kv/b/x", token, { method: "PUT", body: "1" })).status).toBe(403);
    expect((await send("/v1/kv/a", token)).status).toBe(403);
    expect((await send("/v1/kv/b/x", token)).status).toBe(404);
  });

  it("needs an API key", async () => {
    expect((await issue()).status).toBe(401);
    expect((await issue("mkv_wrong")).status).toBe(401);
    expect((await issue(await tokenOf("ReadOnly"))).status).toBe(403);
  });

  it("refuses what it does not know", async () => {
    const key = keys.get("ReadOnly");
    for (const body of ['{"scope":"x"}', "[]", "{", '{"role":"Admin"}x']) {
      expect((await issue(key, body)).status).toBe(400);
    }
    const get = await send("/v1/auth/token", key);
    expect([get.status, get.headers.get("allow")]).toEqual([405, "POST"]);
    const query = await send("/v1/auth/token?x=1", key, { method: "POST" });
    expect(query.status).toBe(400);
  });

  it("answers a wrong token as RFC 6750 says", async () => {
    const token = await tokenOf("ReadOnly");
    const response = await send("/v1/limits", `${token.slice(0, -8)}AAAAAAAA`);
    expect(response.headers.get("www-authenticate")).toBe(
      'Bearer realm="minikv", error="invalid_token"',
    );
    expect(await problemOf(response)).toMatchObject({ status: 401, code: "UNAUTHENTICATED" });
  });
});

describe("/.well-known", () => {
  it("lets any other program verify tokens", async () => {
    const token = await tokenOf("ReadOnly");
    const discovery = await send("/.well-known/openid-configuration");
    const { issuer, jwks_uri: uri } = (await discovery.json()) as Record<string, string>;
    expect(issuer).toBe(ISSUER);
    const keySet = createRemoteJWKSet(new URL(uri!), {
      [customFetch]: (url) => app.request(url.replace(ISSUER, "")) as Promise<Response>,
    });
    const { payload, protectedHeader } = await jwtVerify(token, keySet, {
      ...{ issuer: ISSUER, audience: "kv", typ: "at+jwt", algorithms: ["EdDSA"] },
      currentDate: new Date(clock.nowMs()),
    });
    expect(protectedHeader).toEqual({ alg: "EdDSA", typ: "at+jwt", kid: expect.any(String) });
    expect(payload).toMatchObject({ tenant: 1, role: "ReadOnly", jti: expect.any(String) });
    expect(payload.client_id).toBe(payload.sub);
  });

  it("may be kept for five minutes, and has no private keys", async () => {
    const response = await send("/.well-known/jwks.json");
    expect(response.headers.get("cache-control")).toBe("public, max-age=300");
    const text = await response.text();
    expect(JSON.parse(text).keys.length).toBeGreaterThan(0);
    expect(text).not.toMatch(/"(d|k|p|q)":/);
  });

  it("has no discovery document where the issuer is no URL", async () => {
    const plain = await openApp();
    expect((await plain.request("/.well-known/openid-configuration")).status).toBe(404);
  });
});

describe("POST /admin/tokens/rotate", () => {
  const rotate = (role: Role, more: Sent = {}) =>
    send("/admin/tokens/rotate", keys.get(role), { method: "POST", ...more });

  it("is for the cluster's administrators, and for no web pages", async () => {
    expect((await rotate("ReadWrite")).status).toBe(403);
    expect((await rotate("ClusterAdmin", { origin: "https://x.example" })).status).toBe(400);
    expect((await rotate("ClusterAdmin", { body: '{"revoke":1}' })).status).toBe(400);
  });

  it("makes the next key, and leaves tokens as they are", async () => {
    const token = await tokenOf("ReadOnly");
    const response = await rotate("ClusterAdmin");
    const { kid, signs_at: at } = (await response.json()) as Record<string, string>;
    expect((await send("/v1/limits", token)).status).toBe(200);
    clock.advance(Date.parse(at!) - clock.nowMs());
    expect(decodeProtectedHeader(await tokenOf("ReadOnly")).kid).toBe(kid);
  });

  it("refuses all tokens from then on when that is asked for", async () => {
    const token = await tokenOf("ReadOnly");
    expect((await send("/v1/limits", token)).status).toBe(200);
    expect((await rotate("ClusterAdmin", { body: '{"revoke":true}' })).status).toBe(200);
    expect((await send("/v1/limits", token)).status).toBe(401);
    expect((await send("/v1/limits", await tokenOf("ReadOnly"))).status).toBe(200);
  });
});

describe("openEdge()", () => {
  it("refuses a file of issuers that cannot be read or used", async () => {
    await expect(openApp("--oidc-file", "/does/not/exist.toml")).rejects.toThrow("oidc-file");
  });

  it("has a first signing key made before anybody asks for a token", async () => {
    const early = new MemoryDirectory();
    const { config } = loadConfig(gatewayConfig, {
      argv: ["--storage", "127.0.0.1:1", "--auth", "required"],
      env: { MINIKV_ROOT_KEY: formatApiKey(makeApiKey(random)) },
      readFile: () => "",
    });
    const time = new ManualClock();
    const { stopSteps } = await openEdge({
      ...{ storage: new MemoryStorage(time), directory: early, clock: time, random },
      ...noChanges(time),
      logger: createLogger({ level: "fatal", program: "test" }),
      config: edgeConfigOf(config),
      listen: config.listen,
    });
    const signing = { directory: early, clock: time, rotationMs: 1, wrapper: undefined };
    time.advance(2_000);
    await expect.poll(() => new SigningKeys(signing).list().length).toBe(1);
    for (const { run } of stopSteps) await run(1_000);
  });
});
