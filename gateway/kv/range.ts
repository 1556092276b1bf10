/**
 * `Range: bytes=…` on a value of known size. RFC 9110, section 14.
 *
 * One range is served; several, another unit, or a header that does not parse leave the request a
 * plain GET of the whole value, as the RFC allows.
 */
const SINGLE_RANGE = /^bytes=[ \t]*([0-9]{0,15})-([0-9]{0,15})[ \t]*$/i;

export type RangeOutcome =
  | { readonly kind: "whole" }
  /** Both ends are included. */
  | { readonly kind: "part"; readonly first: number; readonly last: number }
  | { readonly kind: "unsatisfiable" };

const WHOLE: RangeOutcome = { kind: "whole" };
const UNSATISFIABLE: RangeOutcome = { kind: "unsatisfiable" };

export function resolveRange(header: string, sizeBytes: number): RangeOutcome {
  const match = SINGLE_RANGE.exec(header);
  if (match === null) return WHOLE;
  const [, firstText, lastText] = match;
  if (firstText === "") {
    if (lastText === "") return WHOLE;
    const suffixLength = Math.min(Number(lastText), sizeBytes);
    if (suffixLength === 0) return UNSATISFIABLE;
    return { kind: "part", first: sizeBytes - suffixLength, last: sizeBytes - 1 };
  }
  const first = Number(firstText);
  const last = lastText === "" ? sizeBytes - 1 : Math.min(Number(lastText), sizeBytes - 1);
  // Ends in the wrong order are no valid range (RFC 9110, 14.1.1): ignored, not refused.
  if (lastText !== "" && Number(lastText) < first) return WHOLE;
  if (first >= sizeBytes) return UNSATISFIABLE;
  return { kind: "part", first, last };
}
