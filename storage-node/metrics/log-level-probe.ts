/**
 * `GET` and `PUT /log-level` of a storage node's small HTTP listener.
 *
 * The listener asks for no credentials, so changing takes being on the machine: the connection must come
 * from a loopback address, and name one as its host, which a web page of another name that was resolved
 * to this machine does not; and no browser may have sent it on behalf of a page (`Origin`). What can be done so
 * is bounded: lines of another level, for at most a day, none of which holds secrets.
 */
import { isLoopback, parseHostPort } from "#shared/runtime/config-value.ts";
import type { Logger } from "#shared/runtime/log.ts";
import { type LogLevelControl, parseLogLevelChange } from "#shared/runtime/log-level.ts";
import { jsonProbe, type ProbeRequest, type ProbeRoute } from "#shared/runtime/probe-server.ts";

export type LogLevelProbeOptions = {
  readonly logLevel: LogLevelControl;
  readonly logger: Logger;
};

export function logLevelProbes({ logLevel, logger }: LogLevelProbeOptions): readonly ProbeRoute[] {
  return [
    { method: "GET", path: "/log-level", run: () => jsonProbe(200, logLevel.status) },
    {
      method: "PUT",
      path: "/log-level",
      run: (request) => {
        if (!isFromHere(request)) {
          return jsonProbe(403, { error: "the log level is changed from the machine itself" });
        }
        const change = parseLogLevelChange(jsonOf(request.body));
        if (typeof change === "string") return jsonProbe(400, { error: change });
        if ("restore" in change) logLevel.restore();
        else logLevel.change(change);
        logger.warn({ ...logLevel.status }, "log level changed");
        return jsonProbe(200, logLevel.status);
      },
    },
  ];
}

function isFromHere({ peerAddress, header }: ProbeRequest): boolean {
  if (header("origin") !== undefined) return false;
  const host = header("host") ?? "";
  const named = parseHostPort(host, 0)?.host ?? host;
  return isLoopback(peerAddress.replace(/^::ffff:/, "")) && isLoopback(named);
}

/** Undefined for what is no JSON. */
function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
