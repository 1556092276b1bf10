import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { SignJWT } from "jose";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import {
  type TokenGateway,
  testExchange,
  testTenant,
  tokenGateway,
} from "#gateway/testing/tokens.ts";
import { ManualClock } from "#shared/clock.ts";
import {
  FOREIGN_TOKEN_REMEMBERED_MS_MAX,
  OIDC_DOCUMENT_SIZE_BYTES_MAX,
  OIDC_KEYS_AGE_MS_MAX,
  OIDC_KEYS_FRESH_MS,
  OIDC_REFRESH_INTERVAL_MS,
  OIDC_RETRY_INTERVAL_MS,
} from "#shared/limits-tokens.ts";
import { ForeignIssuer } from "./foreign-issuer.ts";
import { parseOidcFile } from "./oidc-file.ts";

type Pages = Record<string, { status?: number; body: string; location?: string }>;

const KEY_SET = "/keys";
const DISCOVERY = "/.well-known/openid-configuration";

let server: Server;
let url: string;
let pages: Pages;
/** Paths that were asked for. */
let asked: string[];
let directory: MemoryDirectory;
let clock: ManualClock;
let gateway: TokenGateway;
let troubles: string[];
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });

const jwk = (key: KeyObject, more: object) => ({ ...key.export({ format: "jwk" }), ...more });
const keySet = (...keys: object[]) => ({ body: JSON.stringify({ keys }) });

function openGateway(more = ""): void {
  const text = `[[issuer]]
    url = "${url}"
    audience = "minikv"
    tenant-claim = "org"
    role-claim = ["access", "roles"]
    roles = { reader = "ReadOnly", writer = "ReadWrite" }
    subject-prefix = "x:"
    ${more}`;
  troubles = [];
  const foreign = parseOidcFile(text, "oidc.toml").map(
    (rules) => new ForeignIssuer({ rules, clock, onTrouble: (_, reason) => troubles.push(reason) }),
  );
  gateway = tokenGateway({ directory, clock, foreign });
}

beforeEach(async () => {
  asked = [];
  server = createServer(({ url: path = "" }, response) => {
    asked.push(path);
    const { status = 200, body, location } = pages[path] ?? { status: 404, body: "" };
    response.writeHead(status, location === undefined ? {} : { location }).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  pages = {
    [DISCOVERY]: { body: JSON.stringify({ issuer: url, jwks_uri: url + KEY_SET }) },
    [KEY_SET]: keySet(
      jwk(rsa.publicKey, { kid: "r1", use: "sig", alg: "RS256" }),
      jwk(ec.publicKey, { kid: "e1" }),
    ),
  };
  directory = new MemoryDirectory();
  await testTenant(directory, { id: 7, name: "shop" });
  clock = new ManualClock();
  openGateway();
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

type Parts = { readonly header?: object; readonly claims?: object; readonly key?: KeyObject };

async function tokenOf({ header, claims, key = rsa.privateKey }: Parts = {}): Promise<string> {
  const nowSeconds = Math.floor(clock.nowMs() / 1000);
  return new SignJWT({
    iss: url,
    aud: "minikv",
    sub: "alice",
    iat: nowSeconds,
    exp: nowSeconds + 7200,
    org: "shop",
    access: { roles: ["other", "writer", "reader"] },
    ...claims,
  })
    .setProtectedHeader({ alg: "RS256", typ: "JWT", kid: "r1", ...header })
    .sign(key);
}

const verify = async (token: string) => gateway.verifier.verify(token, testExchange());
const codeOf = async (token: string) =>
  verify(token).then(
    () => "ok",
    (error: { code: string }) => error.code,
  );

describe("tokens of another issuer", () => {
  it("are taken with the tenant and the highest role that its claims are given", async () => {
    expect(await verify(await tokenOf())).toMatchObject({
      ...{ kind: "token", id: "x:alice", tenant: 7, role: "ReadWrite", prefixes: [] },
    });
    const es = { header: { alg: "ES256", kid: "e1", typ: "at+jwt" }, key: ec.privateKey };
    expect(await verify(await tokenOf(es))).toMatchObject({ id: "x:alice" });
    expect(asked).toEqual([DISCOVERY, KEY_SET]);
  });

  it.each([
    ["algorithm of another key", { header: { kid: "e1" } }],
    ["no key id", { header: { kid: undefined } }],
    ["a type that is not taken", { header: { typ: "logout+jwt" } }],
    ["another audience", { claims: { aud: "other" } }],
    ["another issuer", { claims: { iss: "https://kv.example/other" } }],
    ["no subject", { claims: { sub: undefined } }],
    ["an empty subject", { claims: { sub: "" } }],
    ["a subject that breaks lines", { claims: { sub: "a\nb" } }],
    ["a huge subject", { claims: { sub: "a".repeat(257) } }],
    ["no expiry", { claims: { exp: undefined } }],
    ["an expiry that is over", { claims: { exp: 1 } }],
    ["another key", { key: generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey }],
  ])("with %s are refused", async (_what, parts) => {
    expect(await codeOf(await tokenOf(parts))).toBe("UNAUTHENTICATED");
  });

  it.each([
    ["a tenant that does not exist", { org: "none" }],
    ["no tenant", { org: undefined }],
    ["a tenant in another form", { org: 7 }],
    ["no role", { access: { roles: ["other"] } }],
    ["no roles", { access: undefined }],
    ["roles in another form", { access: { roles: { writer: true } } }],
    ["a role by inheritance", { access: { roles: ["__proto__", "constructor"] } }],
  ])("with %s are forbidden", async (_what, claims) => {
    expect(await codeOf(await tokenOf({ claims }))).toBe("FORBIDDEN");
  });

  it("are only verified with that issuer's keys", async () => {
    // The own cluster's key id and key, in another's name.
    const { keyId, privateKey } = await gateway.signingKeys.signer();
    const header = { alg: "EdDSA", kid: keyId };
    expect(await codeOf(await tokenOf({ header, key: privateKey }))).toBe("UNAUTHENTICATED");
    // The other's key id and key, in the own cluster's name.
    const claims = { iss: "https://kv.example", tenant: 1, role: "Admin" };
    expect(await codeOf(await tokenOf({ claims, header: { typ: "at+jwt" } }))).toBe(
      "UNAUTHENTICATED",
    );
  });

  it("cost one fetch however many come at once, and one more for unknown keys in 30 s", async () => {
    const tokens = await Promise.all(
      Array.from({ length: 50 }, (_, i) => tokenOf({ header: { kid: `k${i}` } })),
    );
    const codes = await Promise.all(tokens.map(codeOf));
    expect(new Set(codes)).toEqual(new Set(["UNAUTHENTICATED"]));
    expect(asked).toHaveLength(2);
    clock.advance(OIDC_REFRESH_INTERVAL_MS);
    for (const token of tokens.slice(0, 5)) await codeOf(token);
    expect(asked).toHaveLength(4);
  });

  it("are verified with a key that the issuer has added meanwhile", async () => {
    await verify(await tokenOf());
    const next = generateKeyPairSync("ed25519");
    pages[KEY_SET] = keySet(jwk(next.publicKey, { kid: "n1" }));
    const token = await tokenOf({ header: { alg: "EdDSA", kid: "n1" }, key: next.privateKey });
    expect(await codeOf(token)).toBe("UNAUTHENTICATED");
    clock.advance(OIDC_REFRESH_INTERVAL_MS);
    expect(await codeOf(token)).toBe("ok");
  });

  it("are refused some minutes after the issuer has withdrawn their key", async () => {
    const token = await tokenOf();
    expect(await codeOf(token)).toBe("ok");
    pages[KEY_SET] = keySet(jwk(ec.publicKey, { kid: "e1" }));
    clock.advance(OIDC_KEYS_FRESH_MS + 1);
    // The first one of these finds the keys old, and has them fetched.
    await codeOf(token);
    await expect.poll(() => asked.length).toBe(4);
    clock.advance(FOREIGN_TOKEN_REMEMBERED_MS_MAX);
    expect(await codeOf(token)).toBe("UNAUTHENTICATED");
  });

  it("take their tickets along when the issuer withdraws their key, or is none any more", async () => {
    const principal = await verify(await tokenOf());
    const caller = { principal: principal!, tenant: principal!.tenant, answerHeaders: [] };
    const made = { prefix: new Uint8Array(0), claims: {} };
    const { token: ticket } = await gateway.issuer.issueTicket(caller, "foreign", made);
    const { basis } = (await gateway.verifier.verifyTicket(ticket, testExchange())).principal;
    const whyNot = async () => {
      clock.advance(OIDC_KEYS_FRESH_MS);
      for (let i = 0; i < 3; i++) {
        basis!.whyNot(testExchange());
        await new Promise((resolve) => setTimeout(resolve, 20));
        clock.advance(FOREIGN_TOKEN_REMEMBERED_MS_MAX);
      }
      return basis!.whyNot(testExchange());
    };
    expect(await whyNot()).toBeUndefined();
    pages[KEY_SET] = keySet(jwk(ec.publicKey, { kid: "e1" }));
    expect(await whyNot()).toBe("revoked");
    const { token: late } = await gateway.issuer.issueTicket(caller, "foreign", made);
    const refused = { code: "UNAUTHENTICATED" };
    await expect(gateway.verifier.verifyTicket(late, testExchange())).rejects.toMatchObject(
      refused,
    );
    const { verifier } = tokenGateway({ directory, clock, foreign: [] });
    await expect(verifier.verifyTicket(late, testExchange())).rejects.toMatchObject(refused);
  });

  it("get 503 while their issuer cannot be reached, and no others do", async () => {
    pages = {};
    const token = await tokenOf();
    expect(await codeOf(token)).toBe("UNAVAILABLE");
    expect(await codeOf(token)).toBe("UNAVAILABLE");
    expect(asked).toHaveLength(1);
    expect(troubles).toEqual([expect.stringContaining("404")]);
    expect(await codeOf(await tokenOf({ claims: { iss: "https://x.example" } }))).toBe(
      "UNAUTHENTICATED",
    );
    clock.advance(OIDC_RETRY_INTERVAL_MS);
    await codeOf(token);
    expect(asked).toHaveLength(2);
  });

  it("are verified with known keys while the issuer is down, for an hour", async () => {
    await verify(await tokenOf());
    pages = {};
    clock.advance(OIDC_KEYS_AGE_MS_MAX - 1);
    expect(await codeOf(await tokenOf({ claims: { sub: "bob" } }))).toBe("ok");
    await expect.poll(() => troubles.length).toBe(1);
    clock.advance(OIDC_RETRY_INTERVAL_MS);
    expect(await codeOf(await tokenOf({ claims: { sub: "eve" } }))).toBe("UNAVAILABLE");
  });

  it.each([
    ["another issuer", () => ({ issuer: "https://b.example", jwks_uri: url + KEY_SET })],
    ["no issuer", () => ({ jwks_uri: url + KEY_SET })],
    ["no keys", () => ({ issuer: url })],
    ["keys over http elsewhere", () => ({ issuer: url, jwks_uri: "http://keys.example/" })],
    ["keys in a file", () => ({ issuer: url, jwks_uri: "file:///keys" })],
    ["keys that are no URL", () => ({ issuer: url, jwks_uri: 7 })],
  ])("are not verified when the discovery document names %s", async (_what, document) => {
    pages[DISCOVERY] = { body: JSON.stringify(document()) };
    expect(await codeOf(await tokenOf())).toBe("UNAVAILABLE");
    expect(asked).toEqual([DISCOVERY]);
  });

  it.each([
    ["a redirect", () => ({ status: 302, body: "", location: `${url}/elsewhere` })],
    ["too much", () => ({ body: `{"a":"${"x".repeat(OIDC_DOCUMENT_SIZE_BYTES_MAX)}"}` })],
    ["no JSON", () => ({ body: "<html>" })],
    ["a list", () => ({ body: "[]" })],
    ["members twice", () => ({ body: '{"issuer":"a","issuer":"b"}' })],
    ["no list of keys", () => ({ body: '{"keys":{}}' })],
    ["too many keys", () => ({ body: JSON.stringify({ keys: Array(65).fill({}) }) })],
  ])("are not verified when the issuer answers %s", async (_what, page) => {
    pages[KEY_SET] = page();
    pages["/elsewhere"] = keySet(jwk(rsa.publicKey, { kid: "r1" }));
    expect(await codeOf(await tokenOf())).toBe("UNAVAILABLE");
    expect(asked).toEqual([DISCOVERY, KEY_SET]);
    expect(troubles).toHaveLength(1);
  });

  it.each([
    ["for encryption", { use: "enc" }],
    ["for other operations", { key_ops: ["sign"] }],
    ["of another algorithm", { alg: "PS256" }],
    ["of a broken form", { n: "!" }],
    ["of another kind", { kty: "oct", k: "c2VjcmV0" }],
    ["without an id", { kid: undefined }],
  ])("are not verified with a key %s", async (_what, more) => {
    pages[KEY_SET] = keySet(jwk(rsa.publicKey, { kid: "r1", ...more }));
    expect(await codeOf(await tokenOf())).toBe("UNAUTHENTICATED");
  });

  it("are not verified with a weak key, or one of two with the same id", async () => {
    const weak = generateKeyPairSync("rsa", { modulusLength: 1024 });
    pages[KEY_SET] = keySet(jwk(weak.publicKey, { kid: "r1" }));
    const one = jwk(rsa.publicKey, { kid: "r1" });
    expect(await codeOf(await tokenOf())).toBe("UNAUTHENTICATED");
    pages[KEY_SET] = keySet(one, one);
    clock.advance(OIDC_REFRESH_INTERVAL_MS);
    expect(await codeOf(await tokenOf())).toBe("UNAUTHENTICATED");
  });

  it("are confined to the algorithms and types of the settings", async () => {
    openGateway('algorithms = ["ES256"]\ntypes = ["at+jwt"]');
    expect(await codeOf(await tokenOf())).toBe("UNAUTHENTICATED");
    const header = { alg: "ES256", kid: "e1" };
    const key = ec.privateKey;
    expect(await codeOf(await tokenOf({ header, key }))).toBe("UNAUTHENTICATED");
    expect(await codeOf(await tokenOf({ header: { ...header, typ: "at+jwt" }, key }))).toBe("ok");
  });
});
