/** Traces of a gateway, as process and as thread of the all-in-one. */
import type { Clock } from "#shared/clock.ts";
import type { Random } from "#shared/random.ts";
import type { ConfigOf } from "#shared/runtime/config.ts";
import type { Logger } from "#shared/runtime/log.ts";
import { type OpenTracing, openTracing } from "#shared/runtime/tracing.ts";
import { VERSION } from "#shared/runtime/version.ts";
import type { tracingSettings } from "./settings.ts";

/** @throws ConfigError when a variable of OpenTelemetry has a value that cannot be used */
export function openGatewayTracing(
  { clientTracesPerSecond }: ConfigOf<typeof tracingSettings>,
  parts: { readonly clock: Clock; readonly random: Random; readonly logger: Logger },
): Promise<OpenTracing> {
  return openTracing({
    ...parts,
    env: process.env,
    service: "minikv-gateway",
    version: VERSION,
    clientTracesPerSecondMax: clientTracesPerSecond,
  });
}
