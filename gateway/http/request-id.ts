/**
 * The id that ties a request's answer, log lines and error report together.
 *
 * A client's own id is kept when it is harmless in a header and in a log line. Made ids are a
 * random prefix per process and a counter: unique without drawing randomness for each request.
 * They are no secret and order nothing.
 */
import type { Random } from "#shared/random.ts";

const ACCEPTED = /^[A-Za-z0-9._-]{1,128}$/;
const PREFIX_SIZE_BYTES = 8;

/** The id for a request with this `X-Request-ID`; another one when it is absent or not accepted. */
export type RequestIds = (offered: string | undefined) => string;

export function createRequestIds(random: Random): RequestIds {
  const prefix = random.fill(new Uint8Array(PREFIX_SIZE_BYTES)).toHex();
  let count = 0;
  return (offered) => {
    if (offered !== undefined && ACCEPTED.test(offered)) return offered;
    count++;
    return `${prefix}-${count.toString(36)}`;
  };
}
