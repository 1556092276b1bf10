/** A gateway for tests: memory storage, a clock that stands still, seeded ids. */

import { keyRoutes } from "#gateway/admin/key-routes.ts";
import { logLevelRoute } from "#gateway/admin/log-level-route.ts";
import { type AppOptions, createApp, type GatewayApp } from "#gateway/app.ts";
import { AuditLog } from "#gateway/audit/audit-log.ts";
import { AuditRoute } from "#gateway/audit/route.ts";
import { openGate } from "#gateway/auth/gate.ts";
import { SigningKeys } from "#gateway/auth/signing-keys.ts";
import { TokenIssuer } from "#gateway/auth/token-issuer.ts";
import { tokenRoutes } from "#gateway/auth/token-routes.ts";
import type { ManagedRoute } from "#gateway/http/managed-route.ts";
import type { FailureReport } from "#gateway/http/problem.ts";
import { metricsRoute } from "#gateway/metrics/metrics.ts";
import { tenantRoutes } from "#gateway/tenants/routes.ts";
import type { WatchRoutes } from "#gateway/watch/http/watch-routes.ts";
import { ManualClock } from "#shared/clock.ts";
import { SeededRandom } from "#shared/random.ts";
import { createLogger } from "#shared/runtime/log.ts";
import { LogLevelControl } from "#shared/runtime/log-level.ts";
import { TestAuth } from "./auth.ts";
import { testEncryptionRoutes } from "./encryption.ts";
import { FakeClusterView } from "./fake-cluster-view.ts";
import type { FakeWatches } from "./fake-watches.ts";
import type { MemoryDirectory } from "./memory-directory.ts";
import { MemoryStorage } from "./memory-storage.ts";
import { testWatch } from "./watch.ts";

export type TestGateway = {
  readonly app: GatewayApp;
  readonly storage: MemoryStorage;
  readonly watch: WatchRoutes;
  readonly watches: FakeWatches;
  readonly cluster: FakeClusterView;
  readonly directory: MemoryDirectory;
  readonly clock: ManualClock;
  /** What was reported as a bug or damage. */
  readonly failures: Parameters<FailureReport>[0][];
};

export function testGateway(
  options: Partial<
    Pick<
      AppOptions,
      "limits" | "phase" | "cors" | "routes" | "gate" | "audit" | "limitsOf" | "tracing" | "isOpen"
    >
  > & {
    /** Who may enter; by default everybody. */
    readonly auth?: TestAuth;
    readonly whyNoWatches?: () => string | undefined;
  } = {},
): TestGateway {
  const { auth, whyNoWatches, ...more } = options;
  const used = auth ?? new TestAuth({ clock: new ManualClock() });
  const { clock, directory } = used;
  const storage = new MemoryStorage(clock);
  const cluster = new FakeClusterView();
  const failures: Parameters<FailureReport>[0][] = [];
  const reportFailure: FailureReport = (failure) => failures.push(failure);
  const gate = more.gate ?? auth?.auth.gate ?? openGate;
  const { watch, watches } = testWatch({
    ...{ gate, isOpen: auth === undefined, directory, clock, uses: storage, reportFailure },
    audit: more.audit,
    ...(whyNoWatches && { whyNoWatches }),
  });
  const app = createApp({
    storage,
    cluster,
    clock,
    random: new SeededRandom(1),
    version: "1.2.3",
    reportFailure,
    watch,
    isOpen: auth === undefined,
    routes: testRoutes(used),
    ...(auth === undefined ? {} : { gate: auth.auth.gate }),
    ...more,
  });
  return { app, storage, watch, watches, cluster, directory, clock, failures };
}

/** The routes of the edge. */
function testRoutes({ auth, tenants, directory, clock }: TestAuth): readonly ManagedRoute[] {
  const store = auth.keys;
  const logger = createLogger({ level: "fatal", program: "test" });
  const log = new AuditLog({ clock, logger, gateway: "test" });
  const signingKeys = new SigningKeys({ directory, clock, rotationMs: 1e9, wrapper: undefined });
  const names = { issuer: "https://kv.example", audience: "minikv" };
  const tokens = new TokenIssuer({
    ...{ directory, clock, random: new SeededRandom(2), signingKeys, ...names },
    ttlMs: 900_000,
  });
  return [
    ...keyRoutes({ store, tenants, directory, clock, onEvent: () => undefined }),
    ...tenantRoutes({ directory, clock, tenants }),
    ...tokenRoutes({ tokens, signingKeys, issuer: names.issuer }),
    ...testEncryptionRoutes(directory, clock),
    new AuditRoute({ log, path: undefined, clock }).route,
    logLevelRoute({
      logger,
      logLevel: new LogLevelControl({ clock, configured: "info", apply: () => undefined }),
    }),
    metricsRoute({ text: async () => ({ contentType: "text/plain", text: "" }) }),
  ];
}

/** The members of a problem answer that tests look at. */
export type ProblemBody = {
  readonly type: string;
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly request_id: string;
  readonly retryable: boolean;
  readonly outcome?: string;
  readonly limit?: number;
  readonly actual?: number;
};

export const problemOf = async (response: Response): Promise<ProblemBody> =>
  (await response.json()) as ProblemBody;
