/** Puts authentication together: what decides who may enter, and what is told to whom about it. */
import type { Directory } from "#gateway/directory/directory.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import type { Limiter } from "#gateway/limits/limiter.ts";
import type { Tenants } from "#gateway/tenants/registry.ts";
import type { Clock } from "#shared/clock.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import {
  AUTH_FAILURES_PER_ADDRESS_BURST,
  AUTH_FAILURES_PER_ADDRESS_PER_SECOND,
  AUTH_FAILURES_PER_KEY_BURST,
  AUTH_FAILURES_PER_KEY_PER_SECOND,
  AUTH_FAILURES_TRACKED_MAX,
  KEY_HASHES_AT_ONCE_MAX,
  KEY_HASHES_WAITING_MAX,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import { type HostPort, isLoopback } from "#shared/runtime/config-value.ts";
import type { Logger } from "#shared/runtime/log.ts";
import type { StopStep } from "#shared/runtime/shutdown.ts";
import type { Principal } from "./caller.ts";
import { FailureThrottle } from "./failure-throttle.ts";
import { KeyGate } from "./key-gate.ts";
import { KeyStore } from "./key-store.ts";
import { KeyUses } from "./key-use.ts";
import { KeyVerifier } from "./key-verifier.ts";
import { type AuthFailureReport, Refusals } from "./refusals.ts";
import { configuredRootKey, RootKeyMaker } from "./root-key.ts";
import { argon2Hasher, type SecretHasher } from "./secret-hash.ts";
import { type AuthConfig, isAuthRequired } from "./settings.ts";
import type { CredentialVerifier } from "./verifier.ts";
import { WorkQueue } from "./work-queue.ts";

export type AuthOptions = {
  readonly config: AuthConfig;
  readonly listen: HostPort;
  readonly directory: Directory;
  readonly tenants: Tenants;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Of other kinds than API keys; `refusals` is how they refuse. */
  readonly verifiers?: (refusals: Refusals) => readonly CredentialVerifier[];
  readonly limiter?: Limiter;
  /** Of the client, where it is not at the other end of the connection. */
  readonly addressOf?: (exchange: Exchange) => string;
  /** Told of each refusal of credentials that is not throttled. By default nobody is. */
  readonly onFailure?: AuthFailureReport;
  /** Argon2, by default. */
  readonly hasher?: SecretHasher;
  /** Shows a text to the operator who starts the process; by default on standard output. */
  readonly show?: (text: string) => void;
};

export type Auth = {
  readonly gate: KeyGate;
  readonly keys: KeyStore;
  /** Refused credentials, by reason. */
  readonly refusals: Pick<Refusals, "counts">;
  /** API keys that are remembered as verified or refused. */
  readonly remembered: () => number;
  /**
   * Makes the first root key where there is none. To be called when requests are taken: a start that fails before
   * would leave a key that nobody was shown.
   */
  readonly start: () => void;
  readonly stopSteps: readonly StopStep[];
};

/** Everybody, when authentication is off. */
const ANYBODY: Principal = {
  kind: "open",
  id: "anybody",
  tenant: DEFAULT_TENANT,
  role: "ClusterAdmin",
  prefixes: [],
};

/** @throws ConfigError when the root key of the settings cannot be used */
export function openAuth(options: AuthOptions): Auth {
  const { config, listen, directory, tenants, clock, random, logger } = options;
  const show = options.show ?? ((text: string) => void process.stdout.write(text));
  const hasher = options.hasher ?? argon2Hasher;
  const rootKey = configuredRootKey(config);
  const isRequired = isAuthRequired(config, listen);
  const uses = new KeyUses({ directory, clock });
  const hashQueue = new WorkQueue({
    atOnceMax: KEY_HASHES_AT_ONCE_MAX,
    waitingMax: KEY_HASHES_WAITING_MAX,
  });
  const refusals = new Refusals({
    byAddress: new FailureThrottle({
      clock,
      burst: AUTH_FAILURES_PER_ADDRESS_BURST,
      perSecond: AUTH_FAILURES_PER_ADDRESS_PER_SECOND,
      trackedMax: AUTH_FAILURES_TRACKED_MAX,
    }),
    addressOf: options.addressOf ?? (({ peerAddress }) => peerAddress),
    report: options.onFailure ?? (() => undefined),
  });
  const keys = new KeyVerifier({
    ...{ directory, clock, random, hasher, refusals, uses, rootKey },
    queue: hashQueue,
    byKey: new FailureThrottle({
      clock,
      burst: AUTH_FAILURES_PER_KEY_BURST,
      perSecond: AUTH_FAILURES_PER_KEY_PER_SECOND,
      trackedMax: AUTH_FAILURES_TRACKED_MAX,
    }),
    stalenessMaxMs: config.authStalenessMaxMs,
  });
  const gate = new KeyGate({
    ...{ tenants, refusals },
    isKnown: () => directory.isKnown,
    verifiers: [keys, ...(options.verifiers?.(refusals) ?? [])],
    anybody: isRequired ? undefined : ANYBODY,
    limiter: options.limiter,
  });
  const maker = new RootKeyMaker({
    ...{ directory, clock, random, hasher },
    show: (key) => show(rootKeyText(key)),
    onTrouble: (err) => logger.warn({ err }, "the first root key cannot be made yet"),
  });
  if (!(isRequired || isLoopback(listen.host))) {
    logger.warn({}, "authentication is off: whoever reaches the listener may do everything");
  }
  // Making a key is Argon2 too, and bound by the same line.
  const store = new KeyStore({ directory, clock, random, hasher, hashQueue });
  const close = async (): Promise<void> => {
    uses.close();
    await maker.close();
  };
  return {
    ...{ gate, keys: store, refusals, remembered: () => keys.remembered },
    start: () => {
      if (isRequired && rootKey === undefined) maker.start();
    },
    stopSteps: [
      {
        name: "close authentication",
        run: (remainingMs) => endsBefore(clock, remainingMs * CLOSE_PART, close()),
      },
    ],
  };
}

/** Of the time that is left: the steps behind it need some too. */
const CLOSE_PART = 0.4;

/** Resolves when `work` has ended, or time is up. */
async function endsBefore(clock: Clock, timeoutMs: number, work: Promise<void>): Promise<void> {
  const { promise: isLate, resolve } = Promise.withResolvers<void>();
  const cancel = clock.after(timeoutMs, resolve);
  await Promise.race([work, isLate]);
  cancel();
}

const rootKeyText = (key: string): string =>
  "minikv has made the root key of this cluster. It is shown this once; keep it in a safe place:\n" +
  `  ${key}\n`;
