import { describe, expect, it } from "vitest";
import { refuseExposedGateway } from "./exposure.ts";

const OUTSIDE = { host: "0.0.0.0", port: 8080 };
const BARE = { listen: OUTSIDE, insecureListen: false, hasTls: false, hasAuth: false };

describe("refuseExposedGateway()", () => {
  it("takes a listener that only this machine can reach, whatever it lacks", () => {
    for (const host of ["127.0.0.1", "::1", "localhost"]) {
      expect(refuseExposedGateway({ ...BARE, listen: { host, port: 1 } })).toBeUndefined();
    }
  });

  it("takes one beyond this machine with TLS and authentication, or when told so", () => {
    expect(refuseExposedGateway({ ...BARE, hasTls: true, hasAuth: true })).toBeUndefined();
    expect(refuseExposedGateway({ ...BARE, insecureListen: true })).toBeUndefined();
  });

  it("refuses every other, and names what is missing", () => {
    const bare = refuseExposedGateway(BARE);
    expect(bare).toContain("0.0.0.0:8080");
    expect(bare).toContain("TLS (--https-cert and --https-key) and authentication (--auth");
    const open = refuseExposedGateway({ ...BARE, hasTls: true });
    expect(open).toContain("without authentication");
    expect(open).toContain("--insecure-listen");
    const plain = refuseExposedGateway({ ...BARE, hasAuth: true });
    expect(plain).toContain("without TLS");
    expect(plain).not.toContain("authentication");
  });
});
