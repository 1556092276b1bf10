/** Bodies of the routes of tokens in the OpenAPI document. */
const TEXT = { type: "string" } as const;

/** Part of `components.schemas`. */
export const tokenSchemas = {
  TokenRequest: {
    type: "object",
    additionalProperties: false,
    properties: {
      expires_in: { type: "integer", minimum: 1, description: "Seconds; at most `token-ttl`" },
      audience: { ...TEXT, description: "minikv itself takes only tokens for `token-audience`" },
      role: { enum: ["ReadOnly", "ReadWrite", "Admin", "ClusterAdmin"] },
      prefixes: {
        type: "array",
        items: TEXT,
        description: "Keys that the token is confined to: those that begin with one of these",
      },
      prefixes64: { type: "array", items: TEXT, description: "The same in base64url" },
    },
  },
  Token: {
    type: "object",
    required: ["access_token", "token_type", "expires_in"],
    properties: {
      access_token: { ...TEXT, description: "JWT (RFC 9068)" },
      token_type: { const: "Bearer" },
      expires_in: { type: "integer", description: "Seconds" },
    },
  },
  TokenKeyRotation: {
    type: "object",
    additionalProperties: false,
    properties: { revoke: { type: "boolean", default: false } },
  },
  TokenKey: {
    type: "object",
    required: ["kid", "signs_at"],
    properties: { kid: TEXT, signs_at: { ...TEXT, format: "date-time" } },
  },
  JsonWebKeySet: { type: "object", description: "RFC 7517", required: ["keys"] },
  OpenIdConfiguration: { type: "object", required: ["issuer", "jwks_uri"] },
} as const;
