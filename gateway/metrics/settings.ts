/** Settings of metrics: a listener for scrapers, beside `/metrics` of the main one. */
import { type HostPort, parseHostPort } from "#shared/runtime/config-value.ts";
import { refuseExposedProbe } from "#shared/runtime/probe-address.ts";

export const metricsSettings = {
  metricsListen: {
    key: "metrics-listen",
    type: "string",
    default: "",
    pattern: /^$|^\S+:\d+$/,
    form: "host:port",
    description: "Address of a listener for /metrics and health, without credentials. Empty: none.",
  },
  metricsListenExposed: {
    key: "metrics-listen-exposed",
    type: "bool",
    default: false,
    description: "Allow that listener beyond this machine.",
  },
} as const;

type MetricsConfig = { readonly metricsListen: string; readonly metricsListenExposed: boolean };

/** Undefined for no such listener. */
export const metricsListenOf = ({ metricsListen }: MetricsConfig): HostPort | undefined =>
  metricsListen === "" ? undefined : parseHostPort(metricsListen, 0);

/** What is wrong with the settings, or undefined. */
export function refuseMetricsConfig(config: MetricsConfig): string | undefined {
  const listen = metricsListenOf(config);
  if (config.metricsListen !== "" && listen === undefined) {
    return `--metrics-listen ${config.metricsListen} is no host:port`;
  }
  return refuseExposedProbe(listen, config.metricsListenExposed, "--metrics-listen");
}
