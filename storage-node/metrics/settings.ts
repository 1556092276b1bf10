/** Settings of a storage node's small HTTP listener. */
import { type HostPort, parseHostPort } from "#shared/runtime/config-value.ts";
import { refuseExposedProbe } from "#shared/runtime/probe-address.ts";

export const probeSettings = {
  httpListen: {
    key: "http-listen",
    type: "string",
    default: "",
    pattern: /^$|^\S+:\d+$/,
    form: "host:port",
    description: "Address of a small HTTP listener for /metrics and /health. Empty: none.",
  },
  httpListenExposed: {
    key: "http-listen-exposed",
    type: "bool",
    default: false,
    description: "Allow that listener beyond this machine.",
  },
} as const;

type ProbeConfig = { readonly httpListen: string; readonly httpListenExposed: boolean };

/** Undefined for no such listener. */
export const probeListenOf = ({ httpListen }: ProbeConfig): HostPort | undefined =>
  httpListen === "" ? undefined : parseHostPort(httpListen, 0);

/** What is wrong with the settings, or undefined. */
export function refuseProbeConfig(config: ProbeConfig): string | undefined {
  const listen = probeListenOf(config);
  if (config.httpListen !== "" && listen === undefined) {
    return `--http-listen ${config.httpListen} is no host:port`;
  }
  return refuseExposedProbe(listen, config.httpListenExposed, "--http-listen");
}
