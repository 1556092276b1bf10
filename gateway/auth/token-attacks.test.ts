/** What is known to have worked against verifiers of tokens, tried against this one. */
import { createHmac, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { beforeEach, describe, expect, it } from "vitest";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import {
  TEST_KEY_ID,
  type TokenGateway,
  testExchange,
  testKey,
  tokenGateway,
} from "#gateway/testing/tokens.ts";
import { ManualClock } from "#shared/clock.ts";
import { TOKEN_SIZE_BYTES_MAX } from "#shared/limits-tokens.ts";

type Json = Readonly<Record<string, unknown>>;

let clock: ManualClock;
let gateway: TokenGateway;
let token: string;
let header: Json;
let claims: Json;
/** Signs as the cluster does: for tokens that are wrong in something else than their signature. */
let key: KeyObject;

const part = (value: Json | string): string =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
const jsonOf = (text: string): Json =>
  JSON.parse(Buffer.from(text, "base64url").toString()) as Json;

function signed(head: Json | string, body: Json | string, by: KeyObject = key): string {
  const input = `${part(head)}.${part(body)}`;
  return `${input}.${sign(null, Buffer.from(input), by).toString("base64url")}`;
}

const verify = async (text: string) => gateway.verifier.verify(text, testExchange());
const refused = (text: string) =>
  expect(verify(text)).rejects.toMatchObject({
    code: "UNAUTHENTICATED",
    headers: ["WWW-Authenticate", 'Bearer realm="minikv", error="invalid_token"'],
  });

beforeEach(async () => {
  const directory = new MemoryDirectory();
  clock = new ManualClock();
  gateway = tokenGateway({ directory, clock });
  token = (await gateway.issuer.issue(await testKey(directory), {})).token;
  [header, claims] = token.split(".").slice(0, 2).map(jsonOf) as [Json, Json];
  key = (await gateway.signingKeys.signer()).privateKey;
});

describe("a token", () => {
  it("is taken when it is as the cluster signs it", async () => {
    expect(await verify(token)).toMatchObject({ kind: "token", id: TEST_KEY_ID });
    expect(await verify(signed(header, claims))).toMatchObject({ id: TEST_KEY_ID });
  });

  it.each(["none", "None", "NONE", "nOnE", ""])("of algorithm %j is refused", async (alg) => {
    await refused(`${part({ ...header, alg })}.${part(claims)}.`);
    await refused(signed({ ...header, alg }, claims));
  });

  it("without a signature, or with an empty one, is refused", async () => {
    const [head, body] = token.split(".");
    await refused(`${head}.${body}.`);
    await refused(`${head}.${body}`);
    await refused(`${head}.${body}.${Buffer.alloc(64).toString("base64url")}`);
  });

  it.each(["HS256", "HS384", "HS512"])("of %s with the public key is refused", async (alg) => {
    const publicKey = gateway.signingKeys.list()[0]!.publicKey;
    const secrets = [
      publicKey.export({ format: "pem", type: "spki" }),
      publicKey.export({ format: "der", type: "spki" }),
      JSON.stringify(gateway.signingKeys.publicKeySet().keys[0]),
    ];
    for (const secret of secrets) {
      const input = `${part({ ...header, alg })}.${part(claims)}`;
      const mac = createHmac(`sha${alg.slice(2)}`, secret)
        .update(input)
        .digest("base64url");
      await refused(`${input}.${mac}`);
    }
  });

  it.each(["ES256", "RS256", "PS256", "Ed448", "EdDSA ", "eddsa"])(
    "of an algorithm that the key is not of (%j) is refused",
    async (alg) => {
      await refused(signed({ ...header, alg }, claims));
    },
  );

  it("that brings its own key is refused", async () => {
    const own = generateKeyPairSync("ed25519");
    const jwk = own.publicKey.export({ format: "jwk" });
    const pem = own.publicKey.export({ format: "pem", type: "spki" }).toString();
    for (const more of [
      { jwk },
      { jku: "http://127.0.0.1:1/keys" },
      { x5u: "http://127.0.0.1:1/keys" },
      { x5c: [pem] },
      { jwk, kid: undefined },
      { jwk, kid: "own" },
    ]) {
      await refused(signed({ ...header, ...more }, claims, own.privateKey));
    }
  });

  it("may name a key in other ways too, which are ignored", async () => {
    const jwk = generateKeyPairSync("ed25519").publicKey.export({ format: "jwk" });
    const more = { jwk, jku: "http://127.0.0.1:1/", x5u: "http://127.0.0.1:1/", x5c: ["x"] };
    expect(await verify(signed({ ...header, ...more }, claims))).toMatchObject({ kind: "token" });
  });

  it.each([
    undefined,
    "",
    "../../dev/null",
    "' OR 1=1 --",
    "signing-keys",
    "__proto__",
    "a\u0000b",
    "k".repeat(300),
    7,
    null,
    ["a"],
    { $ne: "" },
  ])("with the key id %j is refused", async (kid) => {
    await refused(signed({ ...header, kid }, claims));
  });

  it("that was changed anywhere is refused", async () => {
    // Without its first characters it is no token at all, which is another verifier's matter.
    for (let at = 3; at < token.length; at += 7) {
      const other = token[at] === "A" ? "B" : "A";
      if (token[at] !== ".") await refused(token.slice(0, at) + other + token.slice(at + 1));
    }
  });

  it("that is expired is refused, within the bound of clocks that differ", async () => {
    const exp = claims.exp as number;
    clock.advance(exp * 1000 - clock.nowMs() + 29_000);
    expect(await verify(token)).toMatchObject({ kind: "token" });
    clock.advance(2_000);
    await refused(token);
    expect(gateway.failures.at(-1)).toMatchObject({ reason: "expired" });
  });

  it("that is remembered is refused when it has expired meanwhile", async () => {
    await verify(token);
    expect(gateway.verifier.verify(token, testExchange())).not.toBeInstanceOf(Promise);
    clock.advance(900_000 + 31_000);
    await refused(token);
  });

  it("that is not valid yet is refused, within the bound of clocks that differ", async () => {
    const nowSeconds = Math.floor(clock.nowMs() / 1000);
    expect(await verify(signed(header, { ...claims, nbf: nowSeconds + 29 }))).toBeDefined();
    await refused(signed(header, { ...claims, nbf: nowSeconds + 32 }));
  });

  it.each([
    ["iss", "https://elsewhere.example"],
    ["iss", ["https://kv.example"]],
    ["iss", undefined],
    ["iss", "https://kv.example/"],
    ["aud", "other"],
    ["aud", ["other"]],
    ["aud", []],
    ["aud", undefined],
    ["aud", "minikv "],
    ["exp", undefined],
    ["exp", "9999999999"],
    ["exp", null],
    ["exp", -1],
    ["nbf", "0"],
    ["iat", undefined],
    ["iat", "now"],
    ["sub", undefined],
    ["sub", ["0123456789abcdef"]],
    ["sub", "another key"],
    ["role", "Owner"],
    ["role", ["ReadOnly"]],
    ["role", undefined],
    ["role", "__proto__"],
    ["tenant", "1"],
    ["tenant", 0],
    ["tenant", 1.5],
    ["tenant", 2 ** 32],
    ["tenant", undefined],
    ["prefixes", "YQ"],
    ["prefixes", ["YQ=="]],
    ["prefixes", [""]],
    ["prefixes", [1]],
    ["prefixes", null],
  ])("with the claim %s %j is refused", async (name, value) => {
    await refused(signed(header, { ...claims, [name]: value }));
  });

  it.each([
    ["role", "Admin"],
    ["role", "ClusterAdmin"],
    ["tenant", 2],
  ])(
    "that says more than its key allows (%s %j) is refused, even if signed",
    async (name, value) => {
      await refused(signed(header, { ...claims, [name]: value }));
      expect(gateway.failures.at(-1)).toMatchObject({ reason: "revoked" });
    },
  );

  it("for several audiences is taken when ours is among them", async () => {
    expect(await verify(signed(header, { ...claims, aud: ["a", "minikv"] }))).toBeDefined();
  });

  it.each(["JWT", "jwt", "id+jwt", "logout+jwt", "dpop+jwt", "secevent+jwt", "", 7, undefined])(
    "of type %j is refused",
    async (typ) => {
      await refused(signed({ ...header, typ }, claims));
    },
  );

  it.each(["at+jwt", "AT+JWT", "application/at+jwt"])("of type %j is taken", async (typ) => {
    expect(await verify(signed({ ...header, typ }, claims))).toBeDefined();
  });

  it.each([
    { crit: ["exp"] },
    { crit: [] },
    { crit: ["b64"], b64: false },
    { b64: false },
    { b64: true },
  ])("with the extension %j is refused", async (more) => {
    await refused(signed({ ...header, ...more }, claims));
  });

  it("that names a member twice is refused, whichever reading is right", async () => {
    const head = JSON.stringify(header);
    const body = JSON.stringify(claims);
    const twice = [
      [head.replace("{", '{"alg":"none",'), body],
      [head.replace("{", '{"kid":"x",'), body],
      [head, body.replace("{", '{"role":"ClusterAdmin",')],
      [head, body.replace("{", '{"r\\u006fle":"ClusterAdmin",')],
      [head, body.replace("{", '{"a":{"b":1,"b":2},')],
      [head, body.replace("{", '{"a":[{"b":1},{"c":1,"\\u0063":2}],')],
    ];
    for (const [first, second] of twice) await refused(signed(first!, second!));
    expect(
      await verify(signed(head, body.replace("{", '{"a":[{"b":1},{"b":"b"}],'))),
    ).toBeDefined();
  });

  it.each(["[]", "null", "7", '"x"', "{", "", "{}x", "\ufeff{}", "{'alg':'none'}"])(
    "whose header or claims are %j is refused",
    async (text) => {
      await expect(verify(signed(header, text))).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
      const result = verify(signed(text, claims)).catch((error: { code: string }) => error.code);
      expect([undefined, "UNAUTHENTICATED"]).toContain(await result);
    },
  );

  it("that is not UTF-8 is refused", async () => {
    const body = Buffer.concat([Buffer.from('{"a":"'), Buffer.from([0xff]), Buffer.from('"}')]);
    const input = `${part(header)}.${body.toString("base64url")}`;
    await refused(`${input}.${sign(null, Buffer.from(input), key).toString("base64url")}`);
  });

  it("that is huge is refused without looking at it", async () => {
    await refused(signed(header, { ...claims, more: "x".repeat(TOKEN_SIZE_BYTES_MAX) }));
    await refused(`eyJ.${"A".repeat(50 * 1024 * 1024)}.A`);
    await refused(`eyJ${".".repeat(1024 * 1024)}`);
  });

  it("that is deep is refused", async () => {
    await refused(signed(header, `{"a":${"[".repeat(2000)}${"]".repeat(2000)}}`));
  });

  it.each([
    (text: string) => `${text}=`,
    (text: string) => `${text}==`,
    (text: string) => text.replaceAll(".", "=."),
    (text: string) => text.replace(".", ".."),
    (text: string) => ` ${text}`,
    (text: string) => `${text}\n`,
    (text: string) => `${text}.`,
    (text: string) => `${text}.${text.split(".")[2]}`,
    (text: string) => `.${text}`,
    (text: string) => text.replaceAll("-", "+").replaceAll("_", "/").replace(/$/, "+"),
    (text: string) => `${text}A`,
    // The last of 86 characters carries two bits of the signature, and four that are to be zero.
    (text: string) => text.slice(0, -1) + nextOf(text.at(-1)!),
  ])("has one spelling: variant %# is refused", async (variant) => {
    await verify(token);
    const result = verify(variant(token)).catch((error: { code: string }) => error.code);
    expect([undefined, "UNAUTHENTICATED"]).toContain(await result);
  });

  it("is no matter of this verifier when it does not look like one", async () => {
    for (const text of ["mkv_0123456789abcdef_x", "a.b.c", "eyJ", "", "Bearer", "e.yJ"]) {
      expect(await verify(text)).toBeUndefined();
    }
  });

  it("that is wrong too often gets its address refused with 429", async () => {
    const strict = tokenGateway({ directory: new MemoryDirectory(), clock, failuresMax: 3 });
    const codes: string[] = [];
    for (let i = 0; i < 5; i++) {
      const result = strict.verifier.verify(token, testExchange()) as Promise<unknown>;
      codes.push(await result.then(String, (error: { code: string }) => error.code));
    }
    expect(codes).toEqual([
      ...["UNAUTHENTICATED", "UNAUTHENTICATED", "UNAUTHENTICATED"],
      ...["RATE_LIMITED", "RATE_LIMITED"],
    ]);
  });
});

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const nextOf = (digit: string): string => DIGITS[DIGITS.indexOf(digit) + 1]!;
