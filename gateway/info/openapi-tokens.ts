/** The routes of tokens in the OpenAPI document. */
import { JWKS_MAX_AGE_SECONDS } from "#shared/limits-tokens.ts";
import { jsonContent, problem } from "./openapi-parts.ts";

const authProblems = {
  "401": problem("UNAUTHENTICATED"),
  "403": problem("FORBIDDEN"),
} as const;

export function tokenPaths() {
  return {
    "/v1/auth/token": { post: issueOperation },
    "/admin/tokens/rotate": { post: rotateOperation },
    "/.well-known/jwks.json": {
      get: document(
        "getJsonWebKeySet",
        `The public keys that verify tokens, the next one included. May be kept for ${JWKS_MAX_AGE_SECONDS} s.`,
        "JsonWebKeySet",
      ),
    },
    "/.well-known/openid-configuration": {
      get: document(
        "getOpenIdConfiguration",
        "Where the public keys are, if `token-issuer` is a URL",
        "OpenIdConfiguration",
        { "404": problem("ROUTE_NOT_FOUND: it is no URL") },
      ),
    },
  };
}

const issueOperation = {
  operationId: "issueToken",
  summary: "Exchange an API key for a token",
  description:
    "The token allows what the key allows, or less where that is asked for. It is valid for `expires_in` " +
    "seconds, and no longer than its key: it dies with a key that is revoked, deleted or expired.",
  tags: ["service"],
  requestBody: { required: false, ...jsonContent("TokenRequest") },
  responses: {
    "200": { description: "The token", ...jsonContent("Token") },
    "400": problem("INVALID_ARGUMENT"),
    "401": problem("UNAUTHENTICATED"),
    "403": problem("FORBIDDEN: no API key was shown, or it allows less"),
    "413": problem("PAYLOAD_TOO_LARGE"),
    "415": problem("UNSUPPORTED_MEDIA_TYPE"),
    "503": problem("UNAVAILABLE, ENCRYPTION_KEY_MISSING or OVERLOADED"),
  },
};

const rotateOperation = {
  operationId: "rotateTokenKey",
  summary: "Sign tokens with a new key",
  description:
    "From `signs_at` on. Tokens that were signed before stay valid, unless `revoke` is true: then all " +
    "tokens that were ever issued are refused from now on. Refused for requests with an `Origin` header.",
  tags: ["operators"],
  requestBody: { required: false, ...jsonContent("TokenKeyRotation") },
  responses: {
    "200": { description: "The new key", ...jsonContent("TokenKey") },
    "400": problem("INVALID_ARGUMENT"),
    ...authProblems,
    "409": problem(
      "CLUSTER_CONFLICT: too many keys are still in use; CONFLICT: another change came first",
    ),
    "415": problem("UNSUPPORTED_MEDIA_TYPE"),
    "503": problem("UNAVAILABLE"),
  },
};

function document(
  operationId: string,
  summary: string,
  schema: "JsonWebKeySet" | "OpenIdConfiguration",
  others: object = {},
) {
  return {
    operationId,
    summary,
    tags: ["service"],
    responses: {
      "200": { description: "The document", ...jsonContent(schema) },
      "400": problem("INVALID_ARGUMENT"),
      ...others,
    },
  };
}
