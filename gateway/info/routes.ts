/** What the gateway tells about itself: pointer, limits, health, error pages, OpenAPI. */
import type { Handler } from "hono";
import type { Caller } from "#gateway/auth/caller.ts";
import { jsonAnswer, type ManagedRequest, type ManagedRoute } from "#gateway/http/managed-route.ts";
import { problemResponse } from "#gateway/middleware/error.ts";
import type { GatewayEnv } from "#gateway/middleware/request-id.ts";
import type { Storage } from "#gateway/storage/storage.ts";
import { ERRORS, type ErrorCode } from "#shared/errors.ts";
import {
  BATCH_BODY_SIZE_BYTES_MAX,
  BATCH_OPERATIONS_MAX,
  BATCH_READ_BYTES_MAX,
  CONDITION_REVISIONS_MAX,
  CONTENT_TYPE_SIZE_BYTES_MAX,
  DEADLINE_MS_DEFAULT,
  DEADLINE_MS_MAX,
  HTTP_HEADERS_SIZE_BYTES_MAX,
  HTTP_REQUEST_ID_SIZE_BYTES_MAX,
  HTTP_REQUEST_TIMEOUT_MS,
  HTTP_URL_SIZE_BYTES_MAX,
  KEY_SIZE_BYTES_MAX,
  KEY_SIZE_BYTES_MIN,
  SCAN_LIMIT_DEFAULT,
  SCAN_LIMIT_MAX,
  SCAN_PAGE_BYTES_MAX,
  STALENESS_MS_DEFAULT,
  STALENESS_MS_MAX,
  TTL_MS_MAX,
  VALUE_SIZE_BYTES_MAX,
  WATCHES_PER_TENANT_MAX,
} from "#shared/limits.ts";
import {
  WATCH_PING_INTERVAL_MS,
  WATCH_SINCE_LENGTH_MAX,
  WATCH_TICKET_TTL_MS,
} from "#shared/limits-watch-http.ts";
import { openApiDocument } from "./openapi.ts";

/** `starting` until the first requests can be served, `stopping` from the signal on. */
export type ServicePhase = "starting" | "serving" | "stopping";

export type InfoOptions = {
  readonly storage: Storage;
  readonly version: string;
  /** Described together with their rules. */
  readonly routes: readonly ManagedRoute[];
  readonly phase: () => ServicePhase;
};

type InfoRoute = { readonly path: string; readonly handler: Handler<GatewayEnv> };

/** The bounds that a caller has of its own, by their names in the answer. */
export type LimitsOf = (caller: Caller) => Readonly<Record<string, number>>;

/** All bounds that apply to the caller: those of everybody, and its own rates and quotas. */
export function limitsRoute(limitsOf: LimitsOf): ManagedRoute {
  const run = async ({ exchange, caller }: ManagedRequest) =>
    jsonAnswer(exchange, { ...LIMITS, ...limitsOf(caller) });
  return { path: "/v1/limits", methods: new Map([["GET", { access: "service.read", run }]]) };
}

/** Every bound that any client can meet. */
export const LIMITS = {
  key_size_bytes_min: KEY_SIZE_BYTES_MIN,
  key_size_bytes_max: KEY_SIZE_BYTES_MAX,
  value_size_bytes_max: VALUE_SIZE_BYTES_MAX,
  content_type_size_bytes_max: CONTENT_TYPE_SIZE_BYTES_MAX,
  url_size_bytes_max: HTTP_URL_SIZE_BYTES_MAX,
  headers_size_bytes_max: HTTP_HEADERS_SIZE_BYTES_MAX,
  request_id_size_bytes_max: HTTP_REQUEST_ID_SIZE_BYTES_MAX,
  condition_tags_max: CONDITION_REVISIONS_MAX,
  ttl_seconds_min: 1,
  ttl_seconds_max: TTL_MS_MAX / 1000,
  timeout_ms_default: DEADLINE_MS_DEFAULT,
  timeout_ms_max: DEADLINE_MS_MAX,
  upload_timeout_ms: HTTP_REQUEST_TIMEOUT_MS,
  staleness_ms_default: STALENESS_MS_DEFAULT,
  staleness_ms_max: STALENESS_MS_MAX,
  batch_operations_max: BATCH_OPERATIONS_MAX,
  batch_body_size_bytes_max: BATCH_BODY_SIZE_BYTES_MAX,
  batch_read_bytes_max: BATCH_READ_BYTES_MAX,
  scan_limit_default: SCAN_LIMIT_DEFAULT,
  scan_limit_max: SCAN_LIMIT_MAX,
  scan_page_bytes_max: SCAN_PAGE_BYTES_MAX,
  watches_per_tenant_max: WATCHES_PER_TENANT_MAX,
  watch_token_size_bytes_max: WATCH_SINCE_LENGTH_MAX,
  watch_ticket_seconds_max: WATCH_TICKET_TTL_MS / 1000,
  watch_ping_seconds: WATCH_PING_INTERVAL_MS / 1000,
} as const;

export function infoRoutes(options: InfoOptions): readonly InfoRoute[] {
  const document = openApiDocument(options.version, options.routes);
  return [
    { path: "/", handler: (c) => c.json(pointer(options.version)) },
    { path: "/openapi.json", handler: (c) => c.json(document) },
    { path: "/errors/:code", handler: errorPage },
    ...healthRoutes(options),
  ];
}

const pointer = (version: string) => ({
  name: "minikv",
  version,
  links: {
    openapi: "/openapi.json",
    limits: "/v1/limits",
    ready: "/health/ready",
    key: "/v1/kv/{key}",
    keys: "/v1/kv",
  },
});

/** What the `type` of a problem points to. */
const errorPage: Handler<GatewayEnv> = (c) => {
  const code = c.req.param("code") ?? "";
  if (!Object.hasOwn(ERRORS, code)) {
    return problemResponse(c, { code: "ROUTE_NOT_FOUND", detail: "there is no such error code" });
  }
  const { http, retryable, title, meaning, remedy } = ERRORS[code as ErrorCode];
  return c.json({ code, status: http, title, retryable, meaning, remedy });
};

/**
 * Live: the process answers. Started: it has been able to serve once. Ready: it can serve now; a
 * vshard without a leader fails its own requests and does not make the gateway unready.
 */
function healthRoutes({ storage, phase }: InfoOptions): readonly InfoRoute[] {
  const unavailable = (detail: string) => ({ code: "UNAVAILABLE", detail }) as const;
  return [
    { path: "/health/live", handler: (c) => c.json({ status: "live" }) },
    {
      path: "/health/startup",
      handler: (c) =>
        phase() === "starting"
          ? problemResponse(c, unavailable("the gateway is starting"))
          : c.json({ status: "started" }),
    },
    {
      path: "/health/ready",
      handler: (c) => {
        if (phase() === "stopping") {
          return problemResponse(c, unavailable("the gateway is stopping"));
        }
        const { ready, reason } = storage.readiness();
        if (!ready) return problemResponse(c, unavailable(reason));
        if (phase() === "starting") {
          return problemResponse(c, unavailable("the gateway is starting"));
        }
        return c.json({ status: "ready" });
      },
    },
  ];
}
