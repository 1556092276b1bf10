import { describe, expect, it } from "vitest";
import { createAuthority } from "#storage-node/transport/testing/certificates.ts";
import { ConfigError } from "./config.ts";
import { loadCredentials, serverNameOf } from "./grpc-credentials.ts";
import { hasTls, refusePartialTls, type TlsPaths } from "./tls-settings.ts";

const NONE: TlsPaths = { tlsCa: "", tlsCert: "", tlsKey: "" };
const ALL: TlsPaths = { tlsCa: "ca.pem", tlsCert: "cert.pem", tlsKey: "key.pem" };
const authority = createAuthority("test");

/** Reads from `files` by path. */
const reader =
  (files: Readonly<Record<string, Buffer>>) =>
  (path: string): Buffer => {
    const found = files[path];
    if (found === undefined) throw new Error(`ENOENT: ${path}`);
    return found;
  };

function filesOf({ ca, cert, key } = authority.issue("127.0.0.1")) {
  return { "ca.pem": ca, "cert.pem": cert, "key.pem": key };
}

describe("loadCredentials()", () => {
  it("reads nothing without paths", () => {
    const credentials = loadCredentials(NONE, reader({}));
    expect(credentials.channel._isSecure()).toBe(false);
  });

  it("makes both sides secure with the three files", () => {
    const credentials = loadCredentials(ALL, reader(filesOf()));
    expect(credentials.channel._isSecure()).toBe(true);
    expect(credentials.server._isSecure()).toBe(true);
  });

  it("names the setting whose file cannot be read", () => {
    const { "key.pem": _, ...files } = filesOf();
    const load = () => loadCredentials(ALL, reader(files));
    expect(load).toThrow(ConfigError);
    expect(load).toThrow("--tls-key: cannot read key.pem: ENOENT: key.pem");
  });

  it.each([
    ["a key of another certificate", { "key.pem": authority.issue("127.0.0.1").key }],
    ["a certificate that is none", { "cert.pem": Buffer.from("certificate") }],
    ["a key that is none", { "key.pem": Buffer.from("key") }],
  ])("refuses %s", (_, wrong) => {
    const load = () => loadCredentials(ALL, reader({ ...filesOf(), ...wrong }));
    expect(load).toThrow(ConfigError);
    expect(load).toThrow("TLS cannot use ca.pem, cert.pem, key.pem");
  });
});

describe("refusePartialTls()", () => {
  it("takes all or none", () => {
    expect(refusePartialTls(NONE)).toBeUndefined();
    expect(refusePartialTls(ALL)).toBeUndefined();
    expect(hasTls(NONE)).toBe(false);
    expect(hasTls(ALL)).toBe(true);
    for (const name of Object.keys(ALL)) {
      const partial = { ...ALL, [name]: "" };
      expect(refusePartialTls(partial)).toContain("--tls-ca");
      expect(hasTls(partial)).toBe(false);
    }
  });
});

describe("serverNameOf()", () => {
  it("gives a name to addresses only, and another one to each", () => {
    expect(serverNameOf("node-1.example:7400")).toEqual({});
    expect(serverNameOf("nonsense")).toEqual({});
    const names = ["127.0.0.1:1", "127.0.0.2:1", "[::1]:1"].map((address) => {
      return serverNameOf(address)["grpc.ssl_target_name_override"];
    });
    expect(new Set(names).size).toBe(3);
    for (const name of names) expect(name).toMatch(/^[0-9a-f]+\.address\.invalid$/);
    expect(serverNameOf("127.0.0.1:2")).toEqual(serverNameOf("127.0.0.1:1"));
  });
});
