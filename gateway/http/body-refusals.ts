/** The refusals that every way of reading a body shares. */
import { RequestRefused } from "./problem.ts";

/** `actualBytes` is left out when the body was cut off before its size was known. */
export function bodyTooLarge(sizeBytesMax: number, actualBytes?: number): RequestRefused {
  const size = actualBytes === undefined ? "more" : `${actualBytes} bytes, more`;
  return new RequestRefused(
    "PAYLOAD_TOO_LARGE",
    `the body has ${size} than the ${sizeBytesMax} bytes that it may have`,
    actualBytes === undefined
      ? { limit: sizeBytesMax }
      : { limit: sizeBytesMax, actual: actualBytes },
  );
}

export const answerOverloaded = (): RequestRefused =>
  new RequestRefused("OVERLOADED", "too many bytes of answers wait for clients to take them");

export const bodyOverloaded = (): RequestRefused =>
  new RequestRefused("OVERLOADED", "the gateway holds as many bytes of request bodies as it may");
