/**
 * W3C Trace Context: `traceparent` as the 25 bytes that travel to storage.
 *
 * Layout: 16 bytes trace id, 8 bytes parent span id, 1 byte flags. A header that does not follow
 * the specification is ignored, as it demands; it never fails a request.
 * https://www.w3.org/TR/trace-context/#traceparent-header
 */
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const ZERO_TRACE_ID = "0".repeat(32);
const ZERO_SPAN_ID = "0".repeat(16);

/** The context, or undefined when the header is absent or invalid. */
export function parseTraceparent(header: string | undefined): Uint8Array | undefined {
  if (header === undefined) return undefined;
  const match = TRACEPARENT.exec(header);
  if (match === null) return undefined;
  const [, version, traceId, spanId, flags, rest] = match;
  if (version === "ff" || traceId === ZERO_TRACE_ID || spanId === ZERO_SPAN_ID) return undefined;
  // Version 00 ends here; later versions may append fields, which are skipped.
  if (version === "00" && rest !== undefined) return undefined;
  return Uint8Array.fromHex(`${traceId}${spanId}${flags}`);
}
