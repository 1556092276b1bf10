/** The routes of watches for tests, over watches that deliver what they are told to. */
import { type Audit, noAudit } from "#gateway/audit/audit.ts";
import { FailureThrottle } from "#gateway/auth/failure-throttle.ts";
import type { Gate } from "#gateway/auth/gate.ts";
import { Refusals } from "#gateway/auth/refusals.ts";
import { SigningKeys } from "#gateway/auth/signing-keys.ts";
import { TokenIssuer } from "#gateway/auth/token-issuer.ts";
import { TokenVerifier } from "#gateway/auth/token-verifier.ts";
import type { FailureReport } from "#gateway/http/problem.ts";
import type { ClaimStorage } from "#gateway/storage/storage.ts";
import { TenantRegistry } from "#gateway/tenants/registry.ts";
import { openWatchRoutes } from "#gateway/watch/http/open-watch-routes.ts";
import type { WatchRoutes } from "#gateway/watch/http/watch-routes.ts";
import type { Clock } from "#shared/clock.ts";
import { SeededRandom } from "#shared/random.ts";
import { FakeWatches } from "./fake-watches.ts";
import type { MemoryDirectory } from "./memory-directory.ts";

export type TestWatch = { readonly watch: WatchRoutes; readonly watches: FakeWatches };

export type TestWatchOptions = {
  readonly gate: Gate;
  readonly isOpen: boolean;
  readonly directory: MemoryDirectory;
  readonly clock: Clock;
  readonly uses: ClaimStorage;
  readonly audit?: Audit | undefined;
  readonly reportFailure?: FailureReport;
  readonly whyNoWatches?: () => string | undefined;
  /** Gateways of one cluster have different ones. */
  readonly seed?: number;
};

export function testWatch(options: TestWatchOptions): TestWatch {
  const { gate, isOpen, directory, clock, uses, seed = 5 } = options;
  const watches = new FakeWatches();
  const random = new SeededRandom(seed);
  const signingKeys = new SigningKeys({ directory, clock, rotationMs: 1e9, wrapper: undefined });
  const names = { issuer: "https://kv.example", audience: "minikv" };
  const common = { directory, clock, random, signingKeys, ...names };
  const refusals = new Refusals({
    byAddress: new FailureThrottle({ clock, perSecond: 1, trackedMax: 100, burst: 1e6 }),
    addressOf: ({ peerAddress }) => peerAddress,
    report: () => undefined,
  });
  const verifier = new TokenVerifier({
    ...{ ...common, refusals, stalenessMaxMs: 60_000, foreign: new Map() },
    tenants: new TenantRegistry(directory),
  });
  const issuer = new TokenIssuer({ ...common, ttlMs: 900_000 });
  const watch = openWatchRoutes({
    ...{ gate, watches, clock, random, directory, stalenessMaxMs: 60_000 },
    audit: options.audit ?? noAudit,
    reportFailure: options.reportFailure ?? (() => undefined),
    whyNoWatches: options.whyNoWatches,
    tickets: { issuer, verifier, uses, refusals, isOpen },
  });
  return { watch, watches };
}
