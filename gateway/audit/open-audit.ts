/** Puts the audit log of a gateway together: file, writer, counter of failures, route. */
import { hostname } from "node:os";
import type { Exchange } from "#gateway/http/exchange.ts";
import type { ManagedRoute } from "#gateway/http/managed-route.ts";
import type { Clock } from "#shared/clock.ts";
import type { Random } from "#shared/random.ts";
import type { ConfigOf } from "#shared/runtime/config.ts";
import type { Logger } from "#shared/runtime/log.ts";
import type { StopStep } from "#shared/runtime/shutdown.ts";
import { VERSION } from "#shared/runtime/version.ts";
import type { Audit } from "./audit.ts";
import { openAuditFile } from "./audit-file.ts";
import { AuditLog } from "./audit-log.ts";
import { FailureCounter } from "./failure-counter.ts";
import { recorderOf } from "./recorder.ts";
import { AuditRoute } from "./route.ts";
import type { auditSettings } from "./settings.ts";

export type OpenAuditOptions = {
  readonly config: ConfigOf<typeof auditSettings>;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** As in `RecorderOptions`; by default the other end of the connection. */
  readonly clientOf?: (exchange: Exchange) => string;
};

export type OpenedAudit = {
  readonly audit: Audit;
  readonly route: ManagedRoute;
  readonly figures: AuditLog["figures"];
  readonly stopStep: StopStep;
};

const SUFFIX_BYTES = 4;

/** @throws ConfigError when the file cannot be used */
export async function openAudit(options: OpenAuditOptions): Promise<OpenedAudit> {
  const { config, clock, random, logger } = options;
  const path = config.auditFile === "" ? undefined : config.auditFile;
  const opened =
    path === undefined
      ? undefined
      : await openAuditFile({
          path,
          sizeBytesMax: config.auditFileSizeBytes,
          filesMax: config.auditFiles,
        });
  const log = new AuditLog({
    ...{ clock, logger },
    // The host for people; the rest tells one start of a gateway from another.
    gateway: `${hostname()}-${random.fill(new Uint8Array(SUFFIX_BYTES)).toHex()}`,
    stdout: config.auditStdout ? process.stdout : undefined,
    ...(opened === undefined ? {} : { file: opened.file, end: opened.end }),
  });
  const torn = opened?.torn;
  if (torn !== undefined) {
    logger.warn({ ...torn, path }, "the audit log ended in half a line, which is put aside");
  }
  const isAnew = opened?.isAnew === true;
  if (isAnew) {
    logger.warn(
      { path },
      "the audit log begins a new chain: there was a log here, but none of its files is left",
    );
  }
  log.record({
    event: "open",
    version: VERSION,
    torn_bytes: torn?.bytes,
    torn_sha256: torn?.sha256,
    anew: isAnew || undefined,
  });
  const failures = new FailureCounter(clock, (summary) =>
    log.record({ event: "authFailures", ...summary }),
  );
  const tokens = new FailureCounter(clock, ({ count, clients: principals }) =>
    log.record({ event: "tokens", count, principals }),
  );
  const audit = recorderOf({
    ...{ log, failures, tokens },
    recordsData: config.auditData === "writes",
    isRequired: config.auditRequired,
    clientOf: options.clientOf ?? ((exchange) => exchange.peerAddress),
  });
  const route = new AuditRoute({ log, path, clock });
  return {
    audit,
    route: route.route,
    figures: log.figures,
    stopStep: {
      name: "close the audit log",
      run: async (remainingMs) => {
        failures.flush();
        tokens.flush();
        await log.close(remainingMs * 0.5);
      },
    },
  };
}
