/**
 * The gateway's routes. Composes; decides nothing.
 *
 * `createApp` gives a Hono app, which is what tests call through `app.request(...)` and what later
 * routes are added to. The key-value route is an exchange handler (see `http/exchange.ts`):
 * `server.ts` runs it straight on Node's objects, Hono through an adapter.
 */
import { type Handler, Hono } from "hono";
import type { Clock } from "#shared/clock.ts";
import {
  GATEWAY_ANSWER_BYTES_IN_FLIGHT_MAX,
  GATEWAY_BODY_BYTES_IN_FLIGHT_MAX,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import { noTracing, type Tracing } from "#shared/tracing.ts";
import type { WatchSummary } from "./admin/figures.ts";
import { adminRoutes } from "./admin/routes.ts";
import { type Audit, noAudit } from "./audit/audit.ts";
import { type Gate, openGate } from "./auth/gate.ts";
import type { ClusterView } from "./cluster/cluster-view.ts";
import { BodyBudget } from "./http/body-budget.ts";
import { type Cors, noCors } from "./http/cors.ts";
import type { ExchangeHandler } from "./http/exchange.ts";
import { handleFetch } from "./http/fetch-exchange.ts";
import { HttpFigures } from "./http/http-figures.ts";
import {
  isOfListener,
  type ManagedRoute,
  managedHandler,
  peerAddressOf,
} from "./http/managed-route.ts";
import type { FailureReport } from "./http/problem.ts";
import { createRequestIds, type RequestIds } from "./http/request-id.ts";
import { noteRoute, templateOf } from "./http/route-note.ts";
import { infoRoutes, type LimitsOf, limitsRoute, type ServicePhase } from "./info/routes.ts";
import {
  BATCH_PATHS,
  createKvHandlers,
  KV_METHODS,
  type KvHandlers,
  RANGE_PATH,
} from "./kv/handler.ts";
import { KV_PATH } from "./kv/key.ts";
import { errorHandler, methodNotAllowed, notFoundHandler } from "./middleware/error.ts";
import { type GatewayEnv, requestId } from "./middleware/request-id.ts";
import type { Storage } from "./storage/storage.ts";
import type { WatchRoutes } from "./watch/http/watch-routes.ts";
import { WatchSockets } from "./watch/http/websocket.ts";

export type AppOptions = {
  /** By default everybody may do everything. */
  readonly gate?: Gate;
  /** Further routes, each with the rule that it is under. */
  readonly routes?: readonly ManagedRoute[];
  /** Told of what is done and refused; by default nobody is. */
  readonly audit?: Audit;
  /** Which web pages may send requests; by default none. */
  readonly cors?: Cors;
  /** What `GET /v1/limits` says of the caller's own bounds. */
  readonly limitsOf?: LimitsOf;
  /** Absent: changes cannot be watched here. */
  readonly watch?: WatchRoutes | undefined;
  /** Nobody is authenticated: web pages are then held more strictly. */
  readonly isOpen?: boolean;
  readonly storage: Storage;
  readonly cluster: ClusterView;
  readonly clock: Clock;
  readonly random: Random;
  /** Shown by `GET /` and in the OpenAPI document. */
  readonly version: string;
  /** Where the process stands in its life; by default it serves. */
  readonly phase?: () => ServicePhase;
  /** Counts what is answered; by default nobody reads it. */
  readonly httpFigures?: HttpFigures;
  /** Of watches; by default nobody can watch. */
  readonly watchFigures?: () => WatchSummary;
  /** Told of bugs and of corrupt data, whose cause clients do not see. */
  readonly reportFailure?: FailureReport;
  /** By default nothing is traced. */
  readonly tracing?: Tracing;
  /** What clients speak; by default `http`. */
  readonly scheme?: "http" | "https";
  readonly limits?: {
    /** Default: GATEWAY_BODY_BYTES_IN_FLIGHT_MAX. */
    readonly bodyBytesInFlightMax?: number;
    /** Default: GATEWAY_ANSWER_BYTES_IN_FLIGHT_MAX. */
    readonly answerBytesInFlightMax?: number;
  };
};

/** What the HTTP server needs besides Hono's `fetch`. */
export type GatewayParts = {
  readonly gate: Gate;
  readonly kv: KvHandlers;
  readonly watch: WatchRoutes | undefined;
  readonly sockets: WatchSockets | undefined;
  /** All but those of keys and those that tell of the server itself. */
  readonly routes: readonly ManagedRoute[];
  readonly requestIds: RequestIds;
  readonly bodyBudget: BodyBudget;
  readonly answerBudget: BodyBudget;
  readonly reportFailure: FailureReport;
  readonly cors: Cors;
  readonly httpFigures: HttpFigures;
  readonly isOpen: boolean;
};

export type GatewayApp = Hono<GatewayEnv> & { readonly gateway: GatewayParts };

export function createApp(options: AppOptions): GatewayApp {
  const { storage, clock, version } = options;
  const reportFailure = options.reportFailure ?? (() => undefined);
  const requestIds = createRequestIds(options.random);
  const bodyBudget = new BodyBudget(
    options.limits?.bodyBytesInFlightMax ?? GATEWAY_BODY_BYTES_IN_FLIGHT_MAX,
  );
  const answerBudget = new BodyBudget(
    options.limits?.answerBytesInFlightMax ?? GATEWAY_ANSWER_BYTES_IN_FLIGHT_MAX,
  );
  const gate = options.gate ?? openGate;
  const cors = options.cors ?? noCors;
  const audit = options.audit ?? noAudit;
  const { tracing = noTracing, scheme = "http" } = options;
  const traces = { tracing, clock, scheme };
  const httpFigures = options.httpFigures ?? new HttpFigures();
  const shared = { gate, storage, clock, reportFailure, audit, traces };
  const kv = createKvHandlers({ ...shared, answerBudget, httpFigures });

  const app = new Hono<GatewayEnv>();
  app.use("*", requestId(requestIds));
  app.onError(errorHandler(reportFailure));
  app.notFound(notFoundHandler);
  const throughHono =
    (handler: ExchangeHandler): Handler<GatewayEnv> =>
    (c) => {
      // Listeners run these routes themselves: this path was made by the URL parser, which resolves dots in keys too.
      if (isOfListener(c)) return notFoundHandler(c);
      return handleFetch(handler, {
        request: c.req.raw,
        requestId: c.get("requestId"),
        budget: bodyBudget,
        peerAddress: peerAddressOf(c),
      });
    };
  /** Other methods get their 405 from the same handler. */
  const route = (methods: readonly string[], path: string, handler: ExchangeHandler): void => {
    app.on([...methods], path, throughHono(handler));
    app.all(path, throughHono(handler));
  };
  // The pattern also matches `KV_PATH` alone.
  route(KV_METHODS, `${KV_PATH}/*`, kv.kv);
  for (const path of BATCH_PATHS) route(["POST"], path, kv.batch);
  route(["GET"], RANGE_PATH, kv.range);
  for (const [path, method, handler] of options.watch?.paths ?? []) route([method], path, handler);
  const phase = options.phase ?? (() => "serving");
  const { cluster } = options;
  const limits = limitsRoute(options.limitsOf ?? (() => ({})));
  const watchFigures = options.watchFigures ?? (() => ({ watches: 0, lagMs: 0 }));
  const admin = adminRoutes({ cluster, clock, http: httpFigures, watch: watchFigures });
  const routes = [limits, ...admin, ...(options.routes ?? [])];
  for (const { path, handler } of infoRoutes({ storage, version, phase, routes })) {
    app.get(path, noted(path, handler));
    app.all(path, noted(path, methodNotAllowed(["GET", "HEAD"])));
  }
  const managed = { gate, budget: bodyBudget, reportFailure, cors, audit, traces };
  for (const { path, methods } of routes) {
    for (const method of methods) {
      app.on(method[0], path, noted(path, managedHandler(managed, path, method)));
    }
    const allowed = [...methods.keys()].flatMap((name) =>
      name === "GET" ? ["GET", "HEAD"] : name,
    );
    app.all(path, noted(path, methodNotAllowed(allowed)));
  }
  const { watch, isOpen = false } = options;
  const sockets = watch && new WatchSockets({ routes: watch, clock, cors, isOpen });
  const parts = { gate, kv, watch, sockets, routes, requestIds, bodyBudget, answerBudget };
  return Object.assign(app, { gateway: { ...parts, reportFailure, cors, httpFigures, isOpen } });
}

/** Tells the listener, which counts, whose request it is. */
function noted(path: string, handler: Handler<GatewayEnv>): Handler<GatewayEnv> {
  const template = templateOf(path);
  return (c, next) => {
    noteRoute(c, template);
    return handler(c, next);
  };
}
