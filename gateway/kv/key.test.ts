import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import { isKvTarget, keyJsonMember, parseKvTarget } from "./key.ts";

const keyOf = (target: string): number[] => [...parseKvTarget(target, ["key64"]).key];
const anyKey = fc.uint8Array({ minLength: 1, maxLength: 1024 });
const refused = (code: string) => expect.objectContaining({ code, outcome: "not_applied" });

describe("parseKvTarget()", () => {
  it("finds the same bytes in the path and in key64", () => {
    fc.assert(
      fc.property(anyKey, fc.boolean(), (key, padded) => {
        const escaped = [...key].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
        const digits = key.toBase64({ alphabet: "base64url", omitPadding: !padded });
        expect(keyOf(`/v1/kv/${escaped}`)).toEqual([...key]);
        expect(keyOf(`/v1/kv?key64=${digits}`)).toEqual([...key]);
      }),
    );
  });

  it.each([
    ["/v1/kv/a/b", "a/b"],
    ["/v1/kv/a%2Fb", "a/b"],
    ["/v1/kv//a/", "/a/"],
    ["/v1/kv/..", ".."],
    ["/v1/kv/../..", "../.."],
    ["/v1/kv/%2e%2E", ".."],
    ["/v1/kv/.", "."],
    ["/v1/kv/a\\b", "a\\b"],
    ["/v1/kv/%00", "\0"],
    ["/v1/kv/a+b", "a+b"],
    ["/v1/kv/{tag}x", "{tag}x"],
    ["/v1/kv/a%3Fb", "a?b"],
    ["/v1/kv/%C3%A4", "ä"],
  ])("takes %s for the key %j", (target, key) => {
    expect(keyOf(target)).toEqual([...utf8(key)]);
  });

  it("takes 1,024 bytes and refuses one more, however they are spelt", () => {
    for (const spelling of ["k", "%6b"]) {
      expect(keyOf(`/v1/kv/${spelling.repeat(1024)}`)).toHaveLength(1024);
      expect(() => keyOf(`/v1/kv/${spelling.repeat(1025)}`)).toThrow(
        expect.objectContaining({ code: "KEY_TOO_LONG", limit: 1024, actual: 1025 }),
      );
    }
  });

  it.each([
    "/v1/kv",
    "/v1/kv/",
    "/v1/kv?key64=",
    "/v1/kv?key64=a",
    "/v1/kv?key64=YQ===",
    "/v1/kv?key64=YR",
    "/v1/kv?key64=Y+Q",
    "/v1/kv?key64=Y%0AQ",
    "/v1/kv/a?key64=YQ",
    "/v1/kv/%",
    "/v1/kv/a%2",
    "/v1/kv/a?x=1",
  ])("refuses %s", (target) => {
    expect(() => keyOf(target)).toThrow(refused("INVALID_ARGUMENT"));
  });

  it.each(["/v1/kv", "/v1/kv/", "/v1/kv/?limit=10", "/v1/kv?limit=10"])(
    "says that a key is missing, whatever else is asked for: %s",
    (target) => {
      expect(() => keyOf(target)).toThrow("a key is needed");
    },
  );

  it("refuses a target that only looks like the route after decoding", () => {
    expect(() => keyOf("/v1/k%76/a")).toThrow(refused("ROUTE_NOT_FOUND"));
  });
});

describe("isKvTarget()", () => {
  it.each([
    ["/v1/kv", true],
    ["/v1/kv/a", true],
    ["/v1/kv?x", true],
    ["/v1/kvs", false],
    ["/v1/k", false],
    ["/v1/limits", false],
  ])("says of %s: %s", (target, expected) => {
    expect(isKvTarget(target)).toBe(expected);
  });
});

describe("keyJsonMember()", () => {
  it("shows UTF-8 keys as text and others in base64url, so that they can be told apart", () => {
    fc.assert(
      fc.property(fc.oneof(anyKey, fc.string({ minLength: 1 }).map(utf8)), (key) => {
        const shown = JSON.parse(`{${keyJsonMember(key)}}`) as { key?: string; key64?: string };
        const bytes =
          shown.key === undefined
            ? Uint8Array.fromBase64(shown.key64!, { alphabet: "base64url" })
            : utf8(shown.key);
        expect(Object.keys(shown)).toHaveLength(1);
        expect([...bytes]).toEqual([...key]);
      }),
    );
  });
});
