import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RequestRefused } from "#gateway/http/problem.ts";
import { utf8 } from "#shared/bytes.ts";
import { type TenantId, VSHARD_COUNT } from "#shared/ids.ts";
import { RESUME_TOKEN_SIZE_MAX } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { decodeToken, encodeToken, tokenBinding } from "./resume-token.ts";
import type { WatchFilter } from "./watches.ts";

const prefix = (text: string): WatchFilter => ({ kind: "prefix", prefix: utf8(text) });
const binding = (cluster = "c", tenant = 1, filter = prefix("a/")) =>
  tokenBinding(cluster, tenant as TenantId, { filter });

const revision = fc.oneof(
  fc.nat({ max: 3 }),
  fc.nat({ max: 2 ** 24 }),
  fc.maxSafeNat(),
  fc.constant(Number.MAX_SAFE_INTEGER),
);
const vector = fc.oneof(
  fc.array(revision, { minLength: 1, maxLength: 1 }),
  fc.array(revision, { minLength: VSHARD_COUNT, maxLength: VSHARD_COUNT }),
);

describe("resume tokens", () => {
  it("give back the vector that they were made of, within their bound", () => {
    fc.assert(
      fc.property(vector, (revisions) => {
        const token = encodeToken(binding(), revisions);
        expect(token.length).toBeLessThanOrEqual(RESUME_TOKEN_SIZE_MAX);
        expect([...decodeToken(token, binding(), revisions.length)]).toEqual(revisions);
      }),
    );
  });

  it("have about 1 KB for vshards that grew alike", () => {
    const random = new SeededRandom(1);
    // A billion changes, and a hot key that has a million more.
    const revisions = Array.from({ length: VSHARD_COUNT }, () => 4_000_000 + random.below(16_000));
    expect(encodeToken(binding(), revisions).length).toBeLessThan(700);
    revisions[7] = 5_000_000;
    expect(encodeToken(binding(), revisions).length).toBeLessThan(720);
    const uneven = revisions.map(() => random.below(2 ** 23));
    expect(encodeToken(binding(), uneven).length).toBeLessThan(1_100);
  });

  it.each([
    ["filter", binding("c", 1, prefix("b/"))],
    ["kind of filter", binding("c", 1, { kind: "key", key: utf8("a/") })],
    ["tenant", binding("c", 2)],
    ["cluster", binding("d")],
  ])("of another %s are refused", (_, other) => {
    const token = encodeToken(other, [7]);
    expect(() => decodeToken(token, binding(), 1)).toThrow(/belongs to another watch/);
    expect([...decodeToken(token, other, 1)]).toEqual([7]);
  });

  it("have one form only: whatever else decodes is refused", () => {
    fc.assert(
      fc.property(vector, fc.nat(), fc.integer({ min: 1, max: 63 }), (revisions, at, by) => {
        const token = encodeToken(binding(), revisions);
        const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        const place = at % token.length;
        const other = alphabet[(alphabet.indexOf(token[place]!) + by) % 64]!;
        const changed = token.slice(0, place) + other + token.slice(place + 1);
        expect(() => decodeToken(changed, binding(), revisions.length)).toThrow(RequestRefused);
      }),
    );
  });

  it.each(["", "AQ", "AQ==", "!", "A".repeat(RESUME_TOKEN_SIZE_MAX + 1), "A".repeat(40)])(
    "that are none are refused: %s",
    (token) => {
      expect(() => decodeToken(token, binding(), 1)).toThrow(/none that this server gave/);
      expect(() => decodeToken(token, binding(), VSHARD_COUNT)).toThrow(/none that this server/);
    },
  );

  it("of one vshard and of all are not taken for one another", () => {
    const one = encodeToken(binding(), [5]);
    const all = encodeToken(binding(), new Array<number>(VSHARD_COUNT).fill(5));
    expect(() => decodeToken(one, binding(), VSHARD_COUNT)).toThrow(RequestRefused);
    expect(() => decodeToken(all, binding(), 1)).toThrow(RequestRefused);
  });
});
