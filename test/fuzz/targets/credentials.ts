/** Parsers of credentials and of what they rest on. */
import { API_KEY_MARK, formatApiKey, makeApiKey, parseApiKey } from "#gateway/auth/api-key.ts";
import { looksLikeToken, parseToken } from "#gateway/auth/compact-token.ts";
import { throttledAddress } from "#gateway/auth/failure-throttle.ts";
import { encodeKey, newKeyRecord, storedKeyOf } from "#gateway/auth/key-records.ts";
import { isInside, isNetwork, networkList } from "#gateway/auth/networks.ts";
import { claimsOfGrant, grantOfClaims } from "#gateway/auth/token-claims.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { testExchange, testKey, tokenGateway } from "#gateway/testing/tokens.ts";
import { utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import {
  accepted,
  Broken,
  type FuzzTarget,
  holds,
  latin1Text,
  noError,
  textSamples,
  utf8Text,
} from "#test/fuzz/target.ts";

const apiKey: FuzzTarget = {
  name: "api-key",
  samples: (seed) => {
    const random = new SeededRandom(seed);
    return Array.from({ length: 10 }, () => utf8(formatApiKey(makeApiKey(random))));
  },
  words: [API_KEY_MARK, "_", "0", "z"],
  check: (input) => {
    const text = latin1Text(input);
    const key = accepted(noError, () => parseApiKey(text))!.value;
    if (key === undefined) return false;
    holds(formatApiKey(key) === text, "a key has one spelling");
    return true;
  },
};

const jwtPart = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
const HEADER = { alg: "EdDSA", typ: "at+jwt", kid: "k" };
const SIGNATURE = "A".repeat(86);

const tokenText: FuzzTarget = {
  name: "token-text",
  samples: textSamples(
    `${jwtPart(HEADER)}.${jwtPart({ iss: "a", aud: "b" })}.${SIGNATURE}`,
    `${jwtPart({ ...HEADER, alg: "RS256", jwk: {} })}.${jwtPart({})}.AA`,
    `${jwtPart({ ...HEADER, typ: "application/AT+JWT" })}.${jwtPart({ a: [1, { b: 2 }] })}.${SIGNATURE}`,
  ),
  words: [".", "..", "=", "eyJ", jwtPart({ alg: "none" }), jwtPart({ crit: [] }), "A"],
  check: (input) => {
    const text = latin1Text(input);
    const token = accepted(noError, () => parseToken(text))!.value;
    if (token === undefined) return false;
    holds(["EdDSA", "ES256", "RS256"].includes(token.algorithm), "an algorithm of signatures");
    const spelled = text.split(".").map((part) => Buffer.from(part, "base64url"));
    const again = spelled.map((bytes) => bytes.toString("base64url")).join(".");
    holds(again === text, "a token has one spelling");
    holds(spelled.length === 3 && !("crit" in JSON.parse(utf8Text(spelled[0]!))), "no extension");
    return true;
  },
};

const claims: FuzzTarget = {
  name: "token-claims",
  samples: textSamples(
    '{"tenant":1,"role":"ReadOnly"}',
    '{"tenant":4294967295,"role":"ClusterAdmin","prefixes":["YQ","_w"]}',
    '{"tenant":7,"role":"Admin","prefixes":[]}',
  ),
  words: ["1e3", "-1", '"__proto__"', '"YQ",', "null", "[]", "2.5", "4294967296"],
  check: (input) => {
    let body: unknown;
    try {
      body = JSON.parse(utf8Text(input));
    } catch {
      return false;
    }
    if (typeof body !== "object" || body === null) return false;
    const grant = accepted(noError, () => grantOfClaims(body as Record<string, unknown>))!.value;
    if (grant === undefined) return false;
    const again = JSON.stringify(claimsOfGrant(grant));
    holds(JSON.stringify(claimsOfGrant(grantOfClaims(JSON.parse(again))!)) === again, "comes back");
    return true;
  },
};

/** Built when it is asked for first: it signs. */
let gateway: Promise<{ readonly verify: (text: string) => unknown; readonly tokens: string[] }>;

async function openGateway() {
  const directory = new MemoryDirectory();
  const clock = new ManualClock();
  const { issuer, verifier } = tokenGateway({ directory, clock });
  const caller = await testKey(directory, { role: "ReadWrite" });
  const tokens: string[] = [];
  for (const request of [{}, { role: "ReadOnly" }, { prefixes: ["a/", "b/"] }]) {
    tokens.push((await issuer.issue(caller, request)).token);
  }
  return { verify: (text: string) => verifier.verify(text, testExchange()), tokens };
}

/** The tokens of the gateway stand for themselves here: they are made with its first use. */
const tokenMarks = ["<0>", "<1>", "<2>"];

const token: FuzzTarget = {
  name: "token-verified",
  isAsync: true,
  samples: () => tokenMarks.map((mark) => utf8(mark)),
  words: [],
  check: async (input) => {
    gateway ??= openGateway();
    const { verify, tokens } = await gateway;
    const text = forged(input, tokens);
    if (!looksLikeToken(text)) return false;
    try {
      await verify(text);
    } catch (error) {
      if (error instanceof KvError && error.code === "UNAUTHENTICATED") return false;
      throw new Broken(`an error that is not documented: ${String(error)}`, { cause: error });
    }
    holds(tokens.includes(text), "nothing is taken but what was issued");
    return true;
  },
};

/** A token with bytes of the input in place of some of its own, where the input says. */
function forged(input: Uint8Array, tokens: readonly string[]): string {
  const mark = tokenMarks.indexOf(latin1Text(input));
  if (mark >= 0) return tokens[mark]!;
  const bytes = Buffer.from(tokens[(input[0] ?? 0) % tokens.length]!, "latin1");
  for (let at = 1; at + 2 < input.length; at += 3) {
    const position = ((input[at]! << 8) | input[at + 1]!) % bytes.length;
    bytes[position] = DIGITS.charCodeAt(input[at + 2]! % DIGITS.length);
  }
  return bytes.toString("latin1");
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=";

const keyRow: FuzzTarget = {
  name: "key-row",
  samples: (seed) => {
    const random = new SeededRandom(seed);
    return Array.from({ length: 10 }, () =>
      encodeKey(
        newKeyRecord({
          ...{ id: "0123456789abcdef", role: "Admin", tenant: DEFAULT_TENANT, name: "n" },
          ...{ prefixes: [random.fill(new Uint8Array(5))], networks: ["10.0.0.0/8"] },
          ...{ createdAtMs: random.below(2 ** 31), expiresAtMs: 0 },
          secret: { hash: "$argon2id$", check: random.fill(new Uint8Array(2)) },
        }),
      ),
    );
  },
  check: (input) => {
    const row = { name: "key/0123456789abcdef", value: input, revision: 1 };
    const key = accepted(noError, () => storedKeyOf(row, "0123456789abcdef"))!.value;
    if (key === undefined) return false;
    holds(key.tenant >= 1, "a tenant that clients can have");
    const again = storedKeyOf({ ...row, value: encodeKey(key.record) }, key.record.id);
    holds(again?.role === key.role && again.tenant === key.tenant, "it comes back");
    return true;
  },
};

const network: FuzzTarget = {
  name: "network",
  samples: textSamples("10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1", "::ffff:1.2.3.4/96"),
  words: ["/", "33", "129", ":", "::", ".", "0", "255", "256", "%eth0", "ffff"],
  check: (input) => {
    const text = latin1Text(input);
    accepted(noError, () => throttledAddress(text));
    const list = accepted(noError, () => networkList([text]))!.value!;
    for (const address of ["10.1.2.3", "::1", "2001:db8::5", "::ffff:10.0.0.1", "", text]) {
      const inside = accepted(noError, () => isInside(list, address))!.value;
      holds(!inside || isNetwork(text), "only a network has addresses in it");
    }
    return isNetwork(text);
  },
};

export const CREDENTIAL_TARGETS: readonly FuzzTarget[] = [
  ...[apiKey, tokenText, claims, token, keyRow, network],
];
