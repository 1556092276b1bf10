/** The text forms of settings. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  defaultValue,
  formatHostPort,
  formatValue,
  isLoopback,
  parseFileValue,
  parseHostPort,
  parseSetting,
  type Setting,
} from "./config-value.ts";

const common = { key: "x", description: "" } as const;
const bytes: Setting = { ...common, type: "bytes", default: 0, min: 0, max: 2 ** 50 };
const duration: Setting = { ...common, type: "duration", default: 0, min: 0, max: 2 ** 40 };
const int: Setting = { ...common, type: "int", default: 1, min: 1, max: 9 };
const bool: Setting = { ...common, type: "bool", default: false };
const choice: Setting = { ...common, type: "enum", values: ["a", "b"], default: "a" };
const listen: Setting = { ...common, type: "listen", default: "127.0.0.1:0" };
const addresses: Setting = { ...common, type: "addresses", default: "a:1" };
const path: Setting = { ...common, type: "path", default: "./data" };
const ids: Setting = {
  ...common,
  type: "string",
  default: "a",
  pattern: /^[a-z]+$/,
  form: "letters",
};

describe("parseSetting()", () => {
  it.each([
    [bytes, "0", 0],
    [bytes, "512", 512],
    [bytes, "64MiB", 64 * 2 ** 20],
    [bytes, "1.5 KiB", 1536],
    [bytes, "2GB", 2e9],
    [duration, "10s", 10_000],
    [duration, "250ms", 250],
    [duration, "1.5h", 5_400_000],
    [int, "9", 9],
    [bool, "true", true],
    [choice, "b", "b"],
    [path, "/var/lib/minikv", "/var/lib/minikv"],
    [ids, "abc", "abc"],
    [listen, "[::1]:8080", { host: "::1", port: 8080 }],
    [
      addresses,
      "a:1, b:2",
      [
        { host: "a", port: 1 },
        { host: "b", port: 2 },
      ],
    ],
  ] as const)("reads %j %j", (setting, text, value) => {
    expect(parseSetting(setting, text)).toEqual({ kind: "ok", value });
  });

  it.each([
    [bytes, "lots"],
    [bytes, "-1"],
    [bytes, "1 MiBB"],
    [bytes, "2048TiB"],
    [bytes, ""],
    [duration, "10"],
    [duration, "10 minutes"],
    [int, "0"],
    [int, "10"],
    [int, "1.5"],
    [int, "1e1"],
    [bool, "yes"],
    [choice, "c"],
    [path, ""],
    [path, "a\0b"],
    [ids, "A"],
    [listen, "8080"],
    [listen, ":8080"],
    [listen, "a:65536"],
    [listen, "::1:80"],
    [addresses, ""],
    [addresses, "a:1,,b:2"],
    [addresses, "a:1,a:1"],
    [addresses, "a:0"],
  ] as const)("refuses %j %j", (setting, text) => {
    expect(parseSetting(setting, text).kind).toBe("error");
  });

  it("reads back every size and duration that formatValue() writes", () => {
    fc.assert(
      fc.property(fc.constantFrom(bytes, duration), fc.nat({ max: 2 ** 30 }), (setting, value) => {
        const text = formatValue(setting, value);
        expect(parseSetting(setting, text)).toEqual({ kind: "ok", value });
      }),
    );
  });
});

describe("parseFileValue()", () => {
  it("takes the file's own numbers, booleans and arrays", () => {
    expect(parseFileValue(int, 3)).toEqual({ kind: "ok", value: 3 });
    expect(parseFileValue(bytes, 4096)).toEqual({ kind: "ok", value: 4096 });
    expect(parseFileValue(bool, true)).toEqual({ kind: "ok", value: true });
    const value = [{ host: "a", port: 1 }];
    expect(parseFileValue(addresses, ["a:1"])).toEqual({ kind: "ok", value });
  });

  it.each([
    [int, 3.5],
    [int, true],
    [bool, 1],
    // A number would not say whether seconds or milliseconds are meant.
    [duration, 10],
    [addresses, ["a:1", 2]],
    [listen, { host: "a" }],
    [ids, 1],
  ] as const)("refuses for %j %j", (setting, value) => {
    expect(parseFileValue(setting, value).kind).toBe("error");
  });
});

describe("defaultValue()", () => {
  it("reads addresses, and throws for a default that is none", () => {
    expect(defaultValue(addresses)).toEqual([{ host: "a", port: 1 }]);
    expect(() => defaultValue({ ...addresses, default: "a" })).toThrow(TypeError);
  });
});

describe("parseHostPort()", () => {
  it("is the inverse of formatHostPort()", () => {
    for (const text of ["localhost:0", "10.0.0.1:65535", "[2001:db8::1]:80", "a-b.c_d:1"]) {
      expect(formatHostPort(parseHostPort(text, 0)!)).toBe(text);
    }
  });
});

describe("isLoopback()", () => {
  it("takes what only this machine can reach", () => {
    for (const host of ["127.0.0.1", "127.255.0.9", "::1", "localhost"]) {
      expect(isLoopback(host), host).toBe(true);
    }
  });
  it("refuses everything else, also names that look like it", () => {
    for (const host of ["0.0.0.0", "::", "10.0.0.1", "127.999.0.1", "127.0.0.1.example.org"]) {
      expect(isLoopback(host), host).toBe(false);
    }
  });
});
