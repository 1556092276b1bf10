/** Certificates as OpenSSL sees them: Node reads and checks with it. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { describe, expect, it } from "vitest";
import { addressBytes, der, time } from "./der.ts";
import { createAuthority, validForDays } from "./x509.ts";

const HOSTS = ["localhost", "127.0.0.1", "::1", "node-1.example"];

describe("createAuthority()", () => {
  const authority = createAuthority("test authority", validForDays(30));
  const ca = new X509Certificate(authority.ca);
  const issued = authority.issue("gateway", HOSTS);
  const cert = new X509Certificate(issued.cert);

  it("makes an authority that signs itself", () => {
    expect(ca.ca).toBe(true);
    expect(ca.subject).toBe("CN=test authority");
    expect(ca.verify(ca.publicKey)).toBe(true);
    expect(ca.checkPrivateKey(createPrivateKey(authority.key))).toBe(true);
    expect(ca.validToDate.getTime() - Date.now()).toBeGreaterThan(29 * 86_400_000);
  });

  it("issues certificates for names and addresses, which are no authorities", () => {
    expect(cert.ca).toBe(false);
    expect(cert.verify(ca.publicKey)).toBe(true);
    expect(cert.checkIssued(ca)).toBe(true);
    expect(cert.checkPrivateKey(createPrivateKey(issued.key))).toBe(true);
    for (const host of ["localhost", "node-1.example"]) expect(cert.checkHost(host)).toBe(host);
    for (const address of ["127.0.0.1", "::1"]) expect(cert.checkIP(address)).toBe(address);
    expect(cert.checkHost("elsewhere.example")).toBeUndefined();
    expect(cert.keyUsage).toEqual(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
  });

  it("gives each certificate a key and a serial number of its own", () => {
    const other = new X509Certificate(authority.issue("gateway", HOSTS).cert);
    expect(other.serialNumber).not.toBe(cert.serialNumber);
    expect(other.publicKey.equals(cert.publicKey)).toBe(false);
  });

  it("issues for any term", () => {
    const past = { fromMs: Date.UTC(2020, 0, 1), toMs: Date.UTC(2051, 1, 2, 3, 4, 5) };
    const { validFromDate, validToDate } = new X509Certificate(
      authority.issue("old", HOSTS, past).cert,
    );
    expect(validFromDate.getTime()).toBe(past.fromMs);
    expect(validToDate.getTime()).toBe(past.toMs);
  });
});

describe("DER", () => {
  it("writes lengths in the fewest bytes", () => {
    expect([...der(4, new Uint8Array(0x7f)).subarray(0, 2)]).toEqual([4, 0x7f]);
    expect([...der(4, new Uint8Array(0x80)).subarray(0, 3)]).toEqual([4, 0x81, 0x80]);
    expect([...der(4, new Uint8Array(0x123)).subarray(0, 4)]).toEqual([4, 0x82, 0x01, 0x23]);
    expect(() => der(4, new Uint8Array(0x1_0000))).toThrow(RangeError);
  });

  it("writes times in the form of their century", () => {
    expect(time(Date.UTC(2049, 11, 31)).toString("latin1", 2)).toBe("491231000000Z");
    expect(time(Date.UTC(2050, 0, 1)).toString("latin1", 2)).toBe("20500101000000Z");
  });

  it.each([
    ["10.0.0.255", "0a0000ff"],
    ["::1", "00000000000000000000000000000001"],
    ["2001:db8::5:6", "20010db8000000000000000000050006"],
    ["::", "00000000000000000000000000000000"],
    ["1:2:3:4:5:6:7:8", "00010002000300040005000600070008"],
  ])("writes %s as bytes", (address, hex) => {
    expect(addressBytes(address).toString("hex")).toBe(hex);
  });
});
