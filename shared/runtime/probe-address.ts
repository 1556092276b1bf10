/** Where a listener without credentials may stand. Apart from the listener, which settings do not need. */
import { formatHostPort, type HostPort, isLoopback } from "./config-value.ts";

/** What is wrong with such a listener's address, or undefined. `flag` is the setting's own. */
export function refuseExposedProbe(
  listen: HostPort | undefined,
  isExposureWanted: boolean,
  flag: string,
): string | undefined {
  if (listen === undefined || isExposureWanted || isLoopback(listen.host)) return undefined;
  return (
    `${flag} ${formatHostPort(listen)} can be reached by other machines, and asks nobody for ` +
    `credentials. Listen on 127.0.0.1, or set ${flag}-exposed where the network is trusted.`
  );
}
