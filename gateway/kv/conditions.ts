/**
 * `If-Match` and `If-None-Match` as conditions on a key's revision. RFC 9110, section 13.1.
 *
 * A key's entity tag is its revision in double quotes. Clients treat it as opaque; a well-formed
 * tag that is no revision is another server's or an old format's, and simply matches nothing.
 */
import type { Exchange } from "#gateway/http/exchange.ts";
import { malformed } from "#gateway/http/problem.ts";
import { refuseIdempotencyKey } from "#gateway/http/unheeded-headers.ts";
import type { Condition } from "#proto/codec/messages.ts";
import type { Revision } from "#shared/ids.ts";
import { CONDITION_REVISIONS_MAX } from "#shared/limits.ts";

/**
 * Stands for a tag that no revision can have. Revisions count the changes of a vshard one by one
 * and never get there. It keeps `If-Match: W/"5"` one atomic conditional write that fails.
 */
const REVISION_NEVER = Number.MAX_SAFE_INTEGER;

/** An element of a list, which may be empty. Whatever does not match fails in linear time. */
const TAG = /[ \t]*(?:(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*)?(?:,|$)/y;
/** Of a list, empty ones included. */
const ELEMENTS_MAX = 4 * CONDITION_REVISIONS_MAX;
const REVISION_TEXT = /^[1-9][0-9]{0,15}$/;

export type EntityTags = {
  /** `*`: any existing value. */
  readonly any: boolean;
  /** Revisions named by strong tags. */
  readonly strong: readonly number[];
  /** Revisions named by strong or weak tags. */
  readonly all: readonly number[];
};

export const etagOf = (revision: Revision): string => `"${revision}"`;

/** The tag of one revision. */
export const tagOfRevision = (revision: number): EntityTags => ({
  any: false,
  strong: [revision],
  all: [revision],
});

/** @throws RequestRefused INVALID_ARGUMENT */
export function parseEntityTags(text: string, headerName: string): EntityTags {
  if (text.trim() === "*") return { any: true, strong: [], all: [] };
  const strong: number[] = [];
  const all: number[] = [];
  let tagCount = 0;
  let elementCount = 0;
  TAG.lastIndex = 0;
  while (TAG.lastIndex < text.length && elementCount++ < ELEMENTS_MAX) {
    const match = TAG.exec(text);
    if (match === null) throw malformedTags(headerName);
    const [, weak, opaque] = match;
    if (opaque === undefined) continue;
    tagCount++;
    const revision = REVISION_TEXT.test(opaque) ? Number(opaque) : REVISION_NEVER;
    if (revision >= REVISION_NEVER) continue;
    all.push(revision);
    if (weak === undefined) strong.push(revision);
  }
  if (tagCount === 0) throw malformedTags(headerName);
  if (tagCount > CONDITION_REVISIONS_MAX || elementCount > ELEMENTS_MAX) {
    throw malformed(`${headerName} has more than ${CONDITION_REVISIONS_MAX} entity tags`);
  }
  return { any: false, strong, all };
}

const malformedTags = (headerName: string): Error =>
  malformed(`${headerName} must be * or entity tags in double quotes, such as "42"`);

/**
 * Modification dates have whole seconds, too coarse to protect anything here. To ignore the
 * header would carry out what its sender wanted prevented.
 */
export function refuseDateCondition(exchange: Exchange): void {
  if (exchange.header("if-unmodified-since") !== undefined) {
    throw malformed("If-Unmodified-Since is not supported; use If-Match with the ETag");
  }
}

/** How to repeat a write of keys without an `Idempotency-Key`. */
export const REPEAT_WITH_CONDITION = "a write with If-Match or If-None-Match is safe to repeat";

/**
 * The condition of a write; undefined when it has none.
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function writeCondition(exchange: Exchange): Condition | undefined {
  refuseIdempotencyKey(exchange, REPEAT_WITH_CONDITION);
  refuseDateCondition(exchange);
  const ifMatch = exchange.header("if-match");
  const ifNoneMatch = exchange.header("if-none-match");
  return conditionOf(
    ifMatch === undefined ? undefined : parseEntityTags(ifMatch, "If-Match"),
    ifNoneMatch === undefined ? undefined : parseEntityTags(ifNoneMatch, "If-None-Match"),
  );
}

/** The condition that both make together; undefined when there is neither. */
export function conditionOf(
  match: EntityTags | undefined,
  noneMatch: EntityTags | undefined,
): Condition | undefined {
  if (match === undefined && noneMatch === undefined) return undefined;
  return {
    mustBeAbsent: noneMatch?.any ?? false,
    mustExist: match?.any ?? false,
    // Strong comparison (RFC 9110, 13.1.1): a weak tag matches nothing, not even itself.
    revisionIs: match === undefined || match.any ? [] : orNever(match.strong),
    // Weak comparison (13.1.2): the prefix W/ makes no difference.
    revisionIsNot: noneMatch?.all ?? [],
  };
}

/** A list of tags none of which can match must fail, but an empty list would hold always. */
const orNever = (revisions: readonly number[]): readonly number[] =>
  revisions.length > 0 ? revisions : [REVISION_NEVER];

export type ReadVerdict = "proceed" | "notModified" | "failed";

export type ReadConditions = (revision: Revision) => ReadVerdict;

const always: ReadConditions = () => "proceed";

/**
 * The conditions of a read, to be asked once the current revision is known. An absent key is 404
 * whatever they say (RFC 9110, 13.2.1).
 *
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function readConditions(exchange: Exchange): ReadConditions {
  refuseDateCondition(exchange);
  const ifMatch = exchange.header("if-match");
  const ifNoneMatch = exchange.header("if-none-match");
  if (ifMatch === undefined && ifNoneMatch === undefined) return always;
  const match = ifMatch === undefined ? undefined : parseEntityTags(ifMatch, "If-Match");
  const noneMatch =
    ifNoneMatch === undefined ? undefined : parseEntityTags(ifNoneMatch, "If-None-Match");
  return (revision) => {
    if (match && !match.any && !match.strong.includes(revision)) return "failed";
    if (noneMatch && (noneMatch.any || noneMatch.all.includes(revision))) return "notModified";
    return "proceed";
  };
}

/**
 * Whether `Range` applies: without `If-Range`, or when that names the current revision strongly.
 * A date in it never does, so the client gets the whole current value.
 */
export function ifRangeHolds(exchange: Exchange, revision: Revision): boolean {
  const ifRange = exchange.header("if-range");
  return ifRange === undefined || ifRange === etagOf(revision);
}
