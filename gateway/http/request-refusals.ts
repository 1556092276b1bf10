/** What is refused whichever route a request is for: framing that is ambiguous, targets and hosts. */
import { HTTP_URL_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { NOT_THIS_MACHINE, type OwnMachineOnly } from "#shared/runtime/own-machine.ts";
import type { QueuedRequest } from "./connection.ts";
import type { NodeExchange } from "./node-exchange.ts";
import { malformed, RequestRefused } from "./problem.ts";

/** What is wrong with a request whichever route it is for. */
export function refusalOf(
  exchange: NodeExchange,
  expectation: QueuedRequest["expectation"],
  guard: OwnMachineOnly | undefined,
): RequestRefused | undefined {
  const { incoming, target } = exchange;
  const url = incoming.url ?? "";
  const coding = incoming.headers["transfer-encoding"];
  if (coding !== undefined && coding.trim().toLowerCase() !== "chunked") {
    // Node takes off only `chunked` (RFC 9112, 6.1): the body would be taken for something else.
    const detail = "the only Transfer-Encoding that is understood is chunked";
    return new RequestRefused("UNSUPPORTED_MEDIA_TYPE", detail);
  }
  if (url.length > HTTP_URL_SIZE_BYTES_MAX) return urlTooLong(url.length);
  if (!target.startsWith("/")) return malformed("the request target must be a path or a URL");
  if (expectation === "unknown") {
    return new RequestRefused("EXPECTATION_FAILED", "Expect may only be 100-continue");
  }
  // RFC 9112, 3.2: HTTP/1.1 needs exactly one Host, HTTP/1.0 does not know it.
  const hosts = hostCount(incoming.rawHeaders);
  if (hosts === 0 && incoming.httpVersionMinor === 1) {
    return malformed("the Host header is missing");
  }
  if (hosts > 1) return malformed("the Host header is given more than once");
  if (guard?.refuses(incoming.headers.host)) {
    return new RequestRefused("FORBIDDEN", NOT_THIS_MACHINE);
  }
  return undefined;
}

/** Counted in the raw headers: Node keeps the first Host and drops the others without a word. */
function hostCount(rawHeaders: readonly string[]): number {
  let count = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!;
    if (name.length === 4 && name.toLowerCase() === "host") count++;
  }
  return count;
}

export function urlTooLong(actualBytes: number): RequestRefused {
  const limit = HTTP_URL_SIZE_BYTES_MAX;
  const detail = `the URL has ${actualBytes} bytes, more than ${limit}`;
  return new RequestRefused("KEY_TOO_LONG", detail, { limit, actual: actualBytes });
}

export const headersTooLarge = (): RequestRefused =>
  new RequestRefused("HEADERS_TOO_LARGE", "request line and headers are too large");

export const requestTooSlow = (): RequestRefused =>
  new RequestRefused("REQUEST_TIMEOUT", "the request did not arrive in time");
