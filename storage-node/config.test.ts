import { describe, expect, it } from "vitest";
import { loadConfig } from "#shared/runtime/config.ts";
import { storageNodeConfig } from "./config.ts";

const TLS = ["--tls-ca", "ca.pem", "--tls-cert", "cert.pem", "--tls-key", "key.pem"];
const EXPOSED = ["--listen", "0.0.0.0:7400"];

const load = (...argv: readonly string[]) => {
  const readFile = (): string => "";
  return loadConfig(storageNodeConfig, { argv, env: {}, readFile }).config;
};

describe("the settings of a storage node", () => {
  it("allow a listener that others can reach under TLS, or when it is asked for", () => {
    expect(load(...EXPOSED, ...TLS)).toMatchObject({ tlsCa: "ca.pem", tlsKey: "key.pem" });
    expect(load(...EXPOSED, "--insecure-listen").insecureListen).toBe(true);
    expect(() => load(...EXPOSED)).toThrow("give --tls-ca, --tls-cert and --tls-key");
  });

  it("refuse TLS in parts", () => {
    expect(() => load(...TLS.slice(2))).toThrow("TLS needs all of");
    expect(() => load(...EXPOSED, ...TLS.slice(0, 4))).toThrow("TLS needs all of");
  });
});
