/** The one setting of traces that OpenTelemetry has no variable for; `OTEL_*` are all others. */
import {
  TRACES_OF_CLIENTS_PER_SECOND_DEFAULT,
  TRACES_OF_CLIENTS_PER_SECOND_MAX,
} from "#shared/limits.ts";

export const tracingSettings = {
  clientTracesPerSecond: {
    key: "client-traces-per-second",
    type: "int",
    min: 0,
    max: TRACES_OF_CLIENTS_PER_SECOND_MAX,
    default: TRACES_OF_CLIENTS_PER_SECOND_DEFAULT,
    description:
      "Requests per second that are traced because their client asks for it. Traces are set up by OTEL_*.",
  },
} as const;
