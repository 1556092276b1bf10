import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { exchangeWith } from "#gateway/testing/limits.ts";
import { limitedNetwork, Networks, normalAddress } from "./address.ts";
import { ClientAddresses } from "./client-address.ts";

describe("normalAddress()", () => {
  it.each([
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["::FFFF:192.0.2.1", "192.0.2.1"],
    ["2001:DB8::1", "2001:db8::1"],
    ["fe80::1%eth0", "fe80::1"],
  ])("reads %s as %s", (text, expected) => {
    expect(normalAddress(text)).toBe(expected);
  });

  it.each(["", "localhost", "192.0.2", "192.0.2.256", "1.2.3.4:80", "[::1]", "::g", "unknown"])(
    "refuses %j",
    (text) => {
      expect(normalAddress(text)).toBeUndefined();
    },
  );
});

describe("limitedNetwork()", () => {
  it.each([
    ["192.0.2.1", "192.0.2.1"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"],
    ["2001:db8:1:2::9", "2001:db8:1:2::"],
    ["2001:0db8:0001:0002::9", "2001:db8:1:2::"],
    ["2001:db8::9", "2001:db8:0:0::"],
    ["::1", "0:0:0:0::"],
    ["::", "0:0:0:0::"],
    ["1::192.0.2.1", "1:0:0:0::"],
    ["1:2:3:4:5:6:192.0.2.1", "1:2:3:4::"],
    ["1:2:3:4:5:6:7::", "1:2:3:4::"],
  ])("limits %s as %s", (address, expected) => {
    expect(limitedNetwork(address)).toBe(expected);
  });
});

describe("Networks", () => {
  const networks = new Networks(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"]);

  it.each(["10.1.2.3", "192.0.2.7", "2001:db8:5::1", "::1"])("has %s", (address) => {
    expect(networks.has(address)).toBe(true);
  });

  it.each(["11.0.0.0", "192.0.2.8", "2001:db9::1", "::2"])("has not %s", (address) => {
    expect(networks.has(address)).toBe(false);
  });

  it.each([
    "",
    "10.0.0.0/33",
    "10.0.0.0/",
    "10.0.0.0/-1",
    "x/8",
    "::1/129",
    "10.0.0/8",
    "1.2.3.4/8/8",
  ])("refuses %j", (text) => {
    expect(() => new Networks([text])).toThrow(RangeError);
  });
});

describe("ClientAddresses", () => {
  const proxies = new Networks(["10.0.0.0/8", "2001:db8:ffff::/48"]);
  const forwardedFor = new ClientAddresses(proxies, "x-forwarded-for");
  const forwarded = new ClientAddresses(proxies, "forwarded");
  const address = (addresses: ClientAddresses, header: string, peer = "10.0.0.1") =>
    addresses.of(
      exchangeWith({ "x-forwarded-for": header, forwarded: "for=203.0.113.66", ...{} }, peer),
    );

  it("believes only trusted proxies", () => {
    expect(address(forwardedFor, "198.51.100.1", "192.0.2.1")).toBe("192.0.2.1");
    expect(address(forwardedFor, "198.51.100.1", "::ffff:10.0.0.1")).toBe("198.51.100.1");
    expect(forwardedFor.of(exchangeWith({}, "10.0.0.1"))).toBe("10.0.0.1");
  });

  it.each([
    ["198.51.100.1", "198.51.100.1"],
    ["1.1.1.1, 198.51.100.1", "198.51.100.1"],
    ["1.1.1.1, 198.51.100.1, 10.9.9.9", "198.51.100.1"],
    ["1.1.1.1,198.51.100.1:4711,10.9.9.9:80", "198.51.100.1"],
    ["1.1.1.1, [2001:db8::5]:443", "2001:db8::5"],
    ["1.1.1.1, 2001:db8::5", "2001:db8::5"],
    ["10.1.1.1, 10.2.2.2", "10.1.1.1"],
    ["1.1.1.1, nonsense", "10.0.0.1"],
    ["1.1.1.1, nonsense, 10.3.3.3", "10.3.3.3"],
    ["1.1.1.1, ", "10.0.0.1"],
  ])("reads X-Forwarded-For %j from the right: %s", (header, expected) => {
    expect(address(forwardedFor, header)).toBe(expected);
  });

  it.each([
    ["for=198.51.100.1", "198.51.100.1"],
    ["for=1.1.1.1, for=198.51.100.1;proto=https, For=10.9.9.9", "198.51.100.1"],
    ['for=1.1.1.1, by=203.0.113.1;for="[2001:db8::5]:4711"', "2001:db8::5"],
    ["for=1.1.1.1, for=unknown", "10.0.0.1"],
    ["for=1.1.1.1, for=_hidden", "10.0.0.1"],
    ["for=1.1.1.1, proto=https", "10.0.0.1"],
  ])("reads Forwarded %j from the right: %s", (header, expected) => {
    expect(forwarded.of(exchangeWith({ forwarded: header }, "10.0.0.1"))).toBe(expected);
  });

  it("does not look at the header that the proxies do not write", () => {
    const exchange = exchangeWith({ forwarded: "for=1.1.1.1" }, "10.0.0.1");
    expect(forwardedFor.of(exchange)).toBe("10.0.0.1");
  });

  it("is not led astray by whatever a client writes to the left", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 80 }), (text) => {
        const header = `${text}, 198.51.100.1, 10.5.5.5`;
        expect(address(forwardedFor, header)).toBe("198.51.100.1");
      }),
    );
  });

  it("looks at a bounded number of addresses", () => {
    const header = ["1.1.1.1", ...Array.from({ length: 100 }, () => "10.1.1.1")].join(",");
    expect(address(forwardedFor, header)).toBe("10.1.1.1");
  });
});
