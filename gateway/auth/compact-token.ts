/**
 * A token (JWT in compact form, RFC 7519) as text, before anything of it is believed.
 *
 * Stricter than the libraries that verify signatures, so that a token has one spelling and one reading:
 * canonical base64url without padding, no member named twice. What a header says of keys (`jwk`, `jku`,
 * `x5u`, `x5c`) is never looked at: keys come from the directory or from a configured issuer.
 */
import { TOKEN_SIZE_BYTES_MAX } from "#shared/limits-tokens.ts";
import { type JsonObject, parseStrictObject } from "./strict-json.ts";

/** Signatures only; `none` and shared secrets (HS256 …) have no place in here. */
export const TOKEN_ALGORITHMS = ["EdDSA", "ES256", "RS256"] as const;
export type TokenAlgorithm = (typeof TOKEN_ALGORITHMS)[number];

export type ParsedToken = {
  readonly algorithm: TokenAlgorithm;
  readonly keyId: string;
  /** Lower case, without `application/`. */
  readonly type: string;
  /** Not verified yet. */
  readonly claims: JsonObject;
};

const KEY_ID_LENGTH_MAX = 256;
const TYPE_LENGTH_MAX = 64;
const PART = /^[A-Za-z0-9_-]+$/;

/** Whether a credential is meant to be a token: `eyJ` is `{"` in base64url. */
export const looksLikeToken = (credential: string): boolean =>
  credential.startsWith("eyJ") && credential.includes(".");

/** Undefined when it is no token that could be valid. */
export function parseToken(token: string): ParsedToken | undefined {
  if (token.length > TOKEN_SIZE_BYTES_MAX) return undefined;
  const parts = token.split(".", 4);
  if (parts.length !== 3) return undefined;
  const [header, claims, signature] = parts.map(bytesOfPart);
  if (header === undefined || claims === undefined || signature === undefined) return undefined;
  const head = parseStrictObject(header);
  const body = parseStrictObject(claims);
  if (head === undefined || body === undefined) return undefined;
  const { alg, kid, typ } = head;
  // Extensions that have to be understood: none is. `b64` would change what is signed.
  if (Object.hasOwn(head, "crit") || Object.hasOwn(head, "b64")) return undefined;
  if (typeof kid !== "string" || kid === "" || kid.length > KEY_ID_LENGTH_MAX) return undefined;
  if (typeof typ !== "string" || typ.length > TYPE_LENGTH_MAX) return undefined;
  const algorithm = TOKEN_ALGORITHMS.find((known) => known === alg);
  if (algorithm === undefined) return undefined;
  const type = typ.toLowerCase().replace(/^application\//, "");
  return { algorithm, keyId: kid, type, claims: body };
}

/** Undefined unless this is the one way to write the bytes. */
function bytesOfPart(part: string): Buffer | undefined {
  if (!PART.test(part)) return undefined;
  const bytes = Buffer.from(part, "base64url");
  return bytes.toString("base64url") === part ? bytes : undefined;
}
