import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import { originForm, parseQuery, percentDecode } from "./request-target.ts";

const decode = (text: string): number[] => [...percentDecode(text, "the key")];

describe("percentDecode()", () => {
  it("gives back any bytes that were percent-encoded", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.boolean(), (bytes, upper) => {
        const hex = [...bytes].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
        expect(decode(upper ? hex.toUpperCase() : hex)).toEqual([...bytes]);
      }),
    );
  });

  it("agrees with encodeURIComponent() on any text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        expect(decode(encodeURIComponent(text))).toEqual([...utf8(text)]);
      }),
    );
  });

  it("takes bare characters, dots, slashes and backslashes for themselves", () => {
    expect(decode("../a\\b+{c}\xff")).toEqual([...Buffer.from("../a\\b+{c}\xff", "latin1")]);
  });

  it.each(["%", "%a", "a%2", "%zz", "%2g", "%%41", "%+1", "%:0", "% 1"])("refuses %j", (text) => {
    expect(() => decode(text)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });

  it("refuses a bare #, which a client should have escaped or cut off", () => {
    expect(() => decode("a#b")).toThrow(/%23/);
    expect(decode("a%23b")).toEqual([...utf8("a#b")]);
  });
});

describe("originForm()", () => {
  it.each([
    ["/v1/kv/..", "/v1/kv/.."],
    ["http://host:80/v1/kv/a?b", "/v1/kv/a?b"],
    ["HTTPS://host/x//y", "/x//y"],
    ["http://host", "/"],
    ["http://host?x", "/?x"],
    ["*", "*"],
  ])("turns %s into %s", (target, expected) => {
    expect(originForm(target)).toBe(expected);
  });
});

describe("parseQuery()", () => {
  it("decodes known parameters", () => {
    const query = parseQuery("a=1&b=%C3%A4&&c", ["a", "b", "c"]);
    expect([...query]).toEqual([
      ["a", "1"],
      ["b", "ä"],
      ["c", ""],
    ]);
  });

  it("refuses an unknown parameter and suggests the one that was meant", () => {
    expect(() => parseQuery("tll=5", ["ttl", "key64"])).toThrow(
      'unknown query parameter "tll"; did you mean ttl? (known here: ttl, key64)',
    );
  });

  it("refuses a parameter that is given twice, bad escapes and bytes that are not UTF-8", () => {
    expect(() => parseQuery("a=1&a=1", ["a"])).toThrow("given twice");
    expect(() => parseQuery("a=%4", ["a"])).toThrow("hexadecimal");
    expect(() => parseQuery("a=%ff", ["a"])).toThrow("UTF-8");
  });
});
