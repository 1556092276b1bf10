/** Resume tokens of watches, of one vshard and of all. */

import { crc32 } from "node:zlib";
import fc from "fast-check";
import { decodeToken, encodeToken, tokenBinding } from "#gateway/watch/resume-token.ts";
import { utf8, writeUint32 } from "#shared/bytes.ts";
import { DEFAULT_TENANT, VSHARD_COUNT } from "#shared/ids.ts";
import { RESUME_TOKEN_SIZE_MAX } from "#shared/limits.ts";
import {
  accepted,
  type FuzzTarget,
  holds,
  kvError,
  latin1Bytes,
  latin1Text,
  samplesOf,
} from "#test/fuzz/target.ts";

const HEAD_SIZE_BYTES = 9;
const CRC_SIZE_BYTES = 4;
const malformed = kvError("INVALID_ARGUMENT");
const filter = { kind: "prefix", prefix: utf8("a/") } as const;
const binding = tokenBinding("fuzz", DEFAULT_TENANT, { filter });

/** With a checksum that is right. */
function reseal(text: Uint8Array): Uint8Array {
  const bytes = Buffer.from(latin1Text(text), "base64url");
  const end = bytes.length - CRC_SIZE_BYTES;
  if (end < HEAD_SIZE_BYTES) return text;
  writeUint32(bytes, end, crc32(bytes.subarray(HEAD_SIZE_BYTES, end)));
  return latin1Bytes(bytes.toString("base64url"));
}

const target = (name: string, count: number): FuzzTarget => ({
  name,
  samples: samplesOf(
    fc.array(fc.oneof(fc.nat({ max: 100_000 }), fc.maxSafeNat()), {
      minLength: count,
      maxLength: count,
    }),
    (revisions) => latin1Bytes(encodeToken(binding, revisions)),
    20,
  ),
  words: [binding, "____", "AAAA", "="],
  reseal,
  check: (input) => {
    const token = latin1Text(input);
    const revisions = accepted(malformed, () => decodeToken(token, binding, count))?.value;
    if (revisions === undefined) return false;
    holds(revisions.length === count, "a revision for each vshard");
    holds(revisions.every(isRevision), "revisions are safe integers");
    holds(token.length <= RESUME_TOKEN_SIZE_MAX, "a token has its bound");
    holds(encodeToken(binding, revisions) === token, "a token has one form");
    return true;
  },
});

const isRevision = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;

export const WATCH_TARGETS: readonly FuzzTarget[] = [
  target("resume-token", 1),
  target("resume-token-of-all", VSHARD_COUNT),
];
