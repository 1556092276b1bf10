/**
 * Who may call an operation, written into its description: `x-minikv-access` names the actions that its
 * caller must be allowed (or `public`), as they stand in the route itself. An operation that no rule is
 * known for gets none, and a test fails.
 */
import type { Action } from "#gateway/auth/caller.ts";
import type { ManagedMethodName, ManagedRoute } from "#gateway/http/managed-route.ts";
import { type AnsweredOperation, withCommonAnswers } from "./openapi-answers.ts";
import { problem } from "./openapi-parts.ts";

export type Access = readonly (Action | "public")[];

const READ: Access = ["kv.read"];
const BATCH: Access = ["kv.read", "kv.write", "kv.delete"];
/** Of a prefix the list, and with values or of one key the reading. */
const WATCH: Access = ["kv.list", "kv.read"];
const PUBLIC: Access = ["public"];

/** The key-value routes, which ask for each operation on its own, and what the server tells anybody. */
const ACCESS: ReadonlyMap<string, Access> = new Map([
  ["GET /v1/kv/{key}", READ],
  ["HEAD /v1/kv/{key}", READ],
  ["PUT /v1/kv/{key}", ["kv.write"]],
  ["DELETE /v1/kv/{key}", ["kv.delete"]],
  ["GET /v1/kv", ["kv.list", "kv.read"]],
  ["HEAD /v1/kv", READ],
  ["PUT /v1/kv", ["kv.write"]],
  ["DELETE /v1/kv", ["kv.delete"]],
  ["GET /range", ["kv.list"]],
  ["GET /v1/watch", WATCH],
  ["GET /watch/sse", WATCH],
  ["GET /v1/watch/ws", WATCH],
  ["GET /watch/ws", WATCH],
  ["POST /v1/watch/tickets", WATCH],
  ["POST /batch", BATCH],
  ["POST /v1/batch", BATCH],
  ["GET /", PUBLIC],
  ["GET /openapi.json", PUBLIC],
  ["GET /errors/{code}", PUBLIC],
  ["GET /health/live", PUBLIC],
  ["GET /health/startup", PUBLIC],
  ["GET /health/ready", PUBLIC],
]);

const METHODS = ["get", "head", "put", "post", "delete", "patch", "options"];

export const securitySchemes = {
  bearer: { type: "http", scheme: "bearer", description: "An API key or a token" },
  apiKey: { type: "apiKey", in: "header", name: "X-API-Key" },
} as const;

/** Any of them; not both. */
export const security = [{ bearer: [] }, { apiKey: [] }] as const;

const REFUSALS = {
  "401": problem("UNAUTHENTICATED; `WWW-Authenticate` says how"),
  "403": problem("FORBIDDEN; `detail` names what is missing"),
  "429": problem("RATE_LIMITED; see `Retry-After`"),
} as const;

type PathItem = Readonly<Record<string, unknown>>;

/** The paths with who may call each operation, and how others are refused. */
export function withAccess(
  paths: Readonly<Record<string, PathItem>>,
  routes: readonly ManagedRoute[],
): Readonly<Record<string, PathItem>> {
  return Object.fromEntries(
    Object.entries(paths).map(([path, item]) => [
      path,
      Object.fromEntries(
        Object.entries(item).map(([name, value]) => [
          name,
          METHODS.includes(name)
            ? accessed(value as AnsweredOperation, accessOf(path, name.toUpperCase(), routes))
            : value,
        ]),
      ),
    ]),
  );
}

function accessed(operation: AnsweredOperation, access: Access | undefined): object {
  const isPublic = access?.[0] === "public";
  const { responses } = operation;
  const answered = {
    ...operation,
    ...(access === undefined ? {} : { "x-minikv-access": access }),
    ...(isPublic ? { security: [] } : {}),
    responses: isPublic ? responses : { ...REFUSALS, ...responses },
  };
  return withCommonAnswers(answered, isPublic);
}

function accessOf(
  path: string,
  method: string,
  routes: readonly ManagedRoute[],
): Access | undefined {
  const honoPath = path.replace(/\{(\w+)\}/g, ":$1");
  const managed = routes
    .find((route) => route.path === honoPath)
    ?.methods.get(method as ManagedMethodName);
  return managed === undefined ? ACCESS.get(`${method} ${path}`) : [managed.access];
}
