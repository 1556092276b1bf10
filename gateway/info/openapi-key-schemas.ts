/** Schemas of the routes of API keys. */
import { ACTIONS, ROLES } from "#gateway/auth/caller.ts";
import { KEY_NAME_LENGTH_MAX, KEY_NETWORKS_MAX, KEY_PREFIXES_MAX } from "#shared/limits.ts";

const TEXT = { type: "string" } as const;
const TIME = { type: ["string", "null"], format: "date-time" } as const;
const texts = (maxItems: number, description: string) => ({
  type: "array",
  items: TEXT,
  maxItems,
  description,
});

const PREFIXES = texts(KEY_PREFIXES_MAX, "Only keys that begin with one of them; none for all");
const PREFIXES64 = texts(KEY_PREFIXES_MAX, "The same in base64url, for those that are not UTF-8");
const NETWORKS = texts(KEY_NETWORKS_MAX, "Only from these addresses or networks (CIDR)");

const keyProperties = {
  id: { ...TEXT, pattern: "^[0-9A-Za-z]{16}$" },
  name: TEXT,
  tenant: { type: ["string", "null"], description: "Null when the tenant is gone" },
  tenant_id: { type: "integer" },
  role: { enum: ROLES },
  root: { type: "boolean", description: "Made by the first start of the cluster" },
  prefixes: PREFIXES,
  prefixes64: PREFIXES64,
  networks: NETWORKS,
  created_at: TIME,
  expires_at: TIME,
  revoked_at: TIME,
  last_used_at: { ...TIME, description: "Written at most every ten minutes" },
  secrets: {
    type: "array",
    maxItems: 2,
    items: { type: "object", properties: { created_at: TIME, expires_at: TIME } },
    description: "Those that are valid, without the secrets themselves",
  },
} as const;

export const keySchemas = {
  KeyRequest: {
    type: "object",
    properties: {
      tenant: { ...TEXT, description: "By name; of the caller, if it is left out" },
      role: { enum: ROLES, description: "At most the caller's own" },
      name: { ...TEXT, maxLength: KEY_NAME_LENGTH_MAX, description: "For people" },
      expires_in: {
        type: ["string", "null"],
        description: "Such as 90d or 12h; null for as long as the caller's own credentials",
      },
      prefixes: PREFIXES,
      prefixes64: PREFIXES64,
      networks: NETWORKS,
    },
    required: ["role"],
    additionalProperties: false,
  },
  KeyRotation: {
    type: "object",
    properties: {
      overlap: {
        ...TEXT,
        description: "How long the secret before still works, such as 24h (the default) or 0s",
      },
    },
    additionalProperties: false,
  },
  ApiKey: { type: "object", properties: keyProperties, required: Object.keys(keyProperties) },
  ShownApiKey: {
    type: "object",
    description: "`key` is shown this once",
    properties: { key: TEXT, ...keyProperties },
    required: ["key", ...Object.keys(keyProperties)],
  },
  ApiKeyPage: {
    type: "object",
    properties: {
      items: { type: "array", items: { $ref: "#/components/schemas/ApiKey" } },
      has_more: { type: "boolean" },
      cursor: { type: ["string", "null"] },
    },
    required: ["items", "has_more", "cursor"],
  },
  AuthDecision: {
    type: "object",
    properties: {
      allowed: { type: "boolean" },
      rule: { ...TEXT, description: "The rule that decided, such as `role:ReadOnly` or `prefix`" },
      detail: TEXT,
      action: { enum: ACTIONS },
      tenant: TEXT,
      key: { type: "object", description: "`id`, `role`, `tenant`" },
      gives: {
        type: "object",
        description:
          "Where `tenant.keys` is allowed: bounds of all keys that this one makes and rotates, `until` (null for " +
          "never) and `networks`",
      },
    },
    required: ["allowed", "rule", "detail", "action", "tenant", "key"],
  },
} as const;
