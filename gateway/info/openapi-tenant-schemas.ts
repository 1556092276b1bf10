/** Schemas of the routes of tenants. */
import {
  QUOTA_MAX,
  QUOTA_REQUESTS_PER_SECOND_MAX,
  TENANT_NAME_LENGTH_MAX,
} from "#shared/limits.ts";

const INTEGER = { type: "integer", minimum: 0 } as const;
const NAME = {
  type: "string",
  pattern: "^[a-z0-9][a-z0-9-]*$",
  maxLength: TENANT_NAME_LENGTH_MAX,
} as const;

const quota = (description: string, maximum: number) => ({
  ...{ type: ["integer", "null"], minimum: 1, maximum },
  description: `${description}; null for no limit`,
});

const QUOTAS = {
  type: "object",
  properties: {
    bytes: quota("Keys and values, as they are stored", QUOTA_MAX),
    objects: quota("Keys", QUOTA_MAX),
    requests_per_second: quota(
      "At all gateways together; a batch counts its operations",
      QUOTA_REQUESTS_PER_SECOND_MAX,
    ),
    request_bytes_per_second: quota("Of bodies, at all gateways together", QUOTA_MAX),
  },
  additionalProperties: false,
} as const;

const tenant = {
  name: NAME,
  id: { ...INTEGER, description: "Never used again" },
  state: { enum: ["active", "suspended", "deleting"] },
  created_at: { type: ["string", "null"], format: "date-time" },
  quotas: QUOTAS,
  usage: {
    type: "object",
    properties: { bytes: INTEGER, objects: INTEGER },
    description: "As it was some two seconds ago",
  },
} as const;

export const tenantSchemas = {
  TenantRequest: {
    type: "object",
    properties: { name: NAME, quotas: QUOTAS },
    required: ["name"],
    additionalProperties: false,
  },
  TenantQuotaRequest: {
    type: "object",
    properties: { quotas: QUOTAS },
    required: ["quotas"],
    additionalProperties: false,
  },
  Tenant: {
    type: "object",
    properties: {
      ...tenant,
      deletion: {
        type: ["object", "null"],
        properties: {
          phase: {
            enum: ["keys", "data", "waiting", "unreadable"],
            description: "unreadable: the job's row is damaged, and nothing goes on",
          },
          removed_objects: INTEGER,
          removed_bytes: INTEGER,
          seconds_left_at_least: INTEGER,
        },
        description: "While it is deleted",
      },
    },
    required: Object.keys(tenant),
  },
  TenantPage: {
    type: "object",
    properties: {
      tenants: { type: "array", items: { $ref: "#/components/schemas/Tenant" } },
      has_more: { type: "boolean" },
    },
    required: ["tenants", "has_more"],
  },
} as const;
