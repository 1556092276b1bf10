/** Tenants in the OpenAPI document. */
import { TENANTS_LISTED_DEFAULT, TENANTS_LISTED_MAX } from "#shared/limits.ts";
import { jsonContent, problem, query, requestParameters } from "./openapi-parts.ts";

const tags = ["operators"];

const nameParameter = {
  name: "name",
  in: "path",
  required: true,
  description: "The tenant's name",
  schema: { type: "string" },
} as const;

const unavailable = problem("NOT_LEADER, UNAVAILABLE or OVERLOADED; see `Retry-After`");

const readResponses = (description: string, schema: "Tenant" | "TenantPage") => ({
  "200": { description, ...jsonContent(schema) },
  "400": problem("INVALID_ARGUMENT"),
  "503": unavailable,
});

function change(options: {
  readonly operationId: string;
  readonly summary: string;
  readonly description: string;
  readonly status?: string;
  readonly body?: "TenantRequest" | "TenantQuotaRequest";
  readonly conflict: string;
}) {
  const { operationId, summary, description, status = "200", body, conflict } = options;
  return {
    operationId,
    summary,
    description:
      `${description} Durable when it is answered; every gateway acts by it within a second. ` +
      "Refused for requests with an `Origin` header.",
    tags,
    parameters: requestParameters,
    ...(body === undefined ? {} : { requestBody: { required: true, ...jsonContent(body) } }),
    responses: {
      [status]: { description: "The tenant as it is now", ...jsonContent("Tenant") },
      "400": problem("INVALID_ARGUMENT"),
      ...(status === "201" ? {} : { "404": problem("RESOURCE_NOT_FOUND") }),
      "409": problem(conflict),
      "415": problem("UNSUPPORTED_MEDIA_TYPE"),
      "503": unavailable,
      "504": problem("DEADLINE_EXCEEDED"),
    },
  };
}

const isDeleting = "CLUSTER_CONFLICT: the tenant is being deleted";

const PATHS = {
  "/admin/tenants": {
    get: {
      operationId: "listTenants",
      summary: "List tenants by name",
      tags,
      parameters: [
        query("limit", `At most so many, ${TENANTS_LISTED_DEFAULT} by default`, {
          type: "integer",
          minimum: 1,
          maximum: TENANTS_LISTED_MAX,
        }),
        query("after", "Only those whose names come behind this one: the last one of a page"),
        ...requestParameters,
      ],
      responses: readResponses("A page", "TenantPage"),
    },
    post: change({
      operationId: "createTenant",
      summary: "Create a tenant",
      description: "It gets an id that none ever had.",
      status: "201",
      body: "TenantRequest",
      conflict: "ALREADY_EXISTS, or CLUSTER_CONFLICT when no more fit",
    }),
  },
  "/admin/tenants/{name}": {
    parameters: [nameParameter],
    get: {
      operationId: "getTenant",
      summary: "Show a tenant, what it uses, and how far its deletion is",
      tags,
      parameters: requestParameters,
      responses: {
        ...readResponses("The tenant", "Tenant"),
        "404": problem("RESOURCE_NOT_FOUND"),
      },
    },
    post: change({
      operationId: "setTenantQuotas",
      summary: "Change quotas of a tenant",
      description: "Those that are not named stay as they are; null removes one.",
      body: "TenantQuotaRequest",
      conflict: isDeleting,
    }),
    delete: change({
      operationId: "deleteTenant",
      summary: "Delete a tenant for good",
      description:
        "Nobody gets in any more. Its data is removed in the background; the tenant stays in the " +
        "list, with `deletion`, until nothing is left and nothing can come any more.",
      status: "202",
      conflict: "CLUSTER_CONFLICT: the default tenant cannot be deleted",
    }),
  },
  "/admin/tenants/{name}/suspend": {
    parameters: [nameParameter],
    post: change({
      operationId: "suspendTenant",
      summary: "Keep everybody out of a tenant",
      description: "Its data stays as it is.",
      conflict: `${isDeleting}, or is the default one`,
    }),
  },
  "/admin/tenants/{name}/resume": {
    parameters: [nameParameter],
    post: change({
      operationId: "resumeTenant",
      summary: "End the suspension of a tenant",
      description: "Its keys are good again.",
      conflict: `${isDeleting}, or is the default one`,
    }),
  },
  "/v1/tenant": {
    get: {
      operationId: "getOwnTenant",
      summary: "The caller's own tenant",
      tags: ["service"],
      parameters: requestParameters,
      responses: readResponses("The tenant", "Tenant"),
    },
  },
};

export const tenantPaths = () => PATHS;
