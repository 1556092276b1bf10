/**
 * Whether a gateway may listen where it is told to: the one rule that `minikv gateway` and `minikv dev`
 * share.
 *
 * What other machines can reach needs both TLS and authentication: without the first, credentials and values
 * can be read on the way; without the second, whoever reaches the port can change everything. One who
 * knows that the network is trusted says so by name.
 */
import { formatHostPort, type HostPort, isLoopback } from "#shared/runtime/config-value.ts";

export type Exposure = {
  readonly listen: HostPort;
  readonly insecureListen: boolean;
  /** Whether the listener speaks TLS only. */
  readonly hasTls: boolean;
  /** Whether every request needs credentials. */
  readonly hasAuth: boolean;
};

/** What is wrong with the listener, or undefined. */
export function refuseExposedGateway(exposure: Exposure): string | undefined {
  const { listen, insecureListen, hasTls, hasAuth } = exposure;
  if (insecureListen || isLoopback(listen.host) || (hasTls && hasAuth)) return undefined;
  const missing = [
    hasTls ? undefined : "TLS (--https-cert and --https-key)",
    hasAuth ? undefined : "authentication (--auth required)",
  ].filter((what) => what !== undefined);
  return (
    `listen ${formatHostPort(listen)} can be reached by other machines, without ` +
    `${missing.join(" and ")}. Listen on 127.0.0.1, give what is missing, or set --insecure-listen ` +
    "(MINIKV_INSECURE_LISTEN=true, insecure-listen = true) where the network is trusted."
  );
}
