/** Traces of a storage node, as process and in the all-in-one. */
import type { Clock } from "#shared/clock.ts";
import type { Random } from "#shared/random.ts";
import type { Logger } from "#shared/runtime/log.ts";
import { type OpenTracing, openTracing } from "#shared/runtime/tracing.ts";
import { VERSION } from "#shared/runtime/version.ts";

/** @throws ConfigError when a variable of OpenTelemetry has a value that cannot be used */
export function openNodeTracing(parts: {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}): Promise<OpenTracing> {
  return openTracing({
    ...parts,
    env: process.env,
    service: "minikv-storage-node",
    version: VERSION,
    // It takes no requests of clients: gateways have decided.
    clientTracesPerSecondMax: 0,
  });
}
