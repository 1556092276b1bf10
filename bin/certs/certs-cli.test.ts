import { X509Certificate } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSecureContext } from "node:tls";
import { afterAll, describe, expect, it } from "vitest";
import { runCertsCli } from "./certs-cli.ts";

const parent = mkdtempSync(join(tmpdir(), "minikv-certs-"));
afterAll(() => rmSync(parent, { recursive: true, force: true }));

async function run(...argv: readonly string[]) {
  let out = "";
  let error = "";
  const code = await runCertsCli(argv, {
    out: (text) => void (out += text),
    error: (text) => void (error += text),
  });
  return { code, out, error };
}

describe("minikv certs dev", () => {
  const directory = join(parent, "certs");
  const read = (name: string): Buffer => readFileSync(join(directory, name));

  it("makes an authority and what it signs, with keys for their owner alone", async () => {
    const hosts = ["--host", "kv.example", "--host", "10.1.2.3"];
    const { code, out, error } = await run("dev", "--dir", directory, ...hosts);
    expect({ code, error }).toEqual({ code: 0, error: "" });
    expect(out).toContain(`curl --cacert ${join(directory, "ca.pem")}`);
    const ca = new X509Certificate(read("ca.pem"));
    for (const name of ["gateway", "storage-node", "client"]) {
      const cert = new X509Certificate(read(`${name}.pem`));
      expect(cert.verify(ca.publicKey)).toBe(true);
      expect(cert.checkHost("localhost")).toBe("localhost");
      expect(cert.checkHost("kv.example")).toBe("kv.example");
      for (const ip of ["127.0.0.1", "::1", "10.1.2.3"]) expect(cert.checkIP(ip)).toBe(ip);
      createSecureContext({ cert: read(`${name}.pem`), key: read(`${name}-key.pem`) });
      expect(statSync(join(directory, `${name}-key.pem`)).mode & 0o777).toBe(0o600);
    }
    expect(statSync(join(directory, "ca-key.pem")).mode & 0o777).toBe(0o600);
    expect(out).not.toContain("PRIVATE");
  });

  it("replaces nothing", async () => {
    const before = readdirSync(directory).map((name) => read(name).toString());
    const { code, error } = await run("dev", "--dir", directory);
    expect(code).toBe(1);
    expect(error).toContain("nothing is replaced");
    expect(readdirSync(directory).map((name) => read(name).toString())).toEqual(before);
  });

  it("names a directory that cannot be made, once, and why", async () => {
    const { code, error } = await run("dev", "--dir", join(directory, "ca.pem", "below"));
    expect(code).toBe(1);
    expect(error.split(directory)).toHaveLength(2);
    expect(error).toContain("below: there is a file where a directory is needed");
  });

  it("says what it needs", async () => {
    expect((await run("--help")).out).toContain("Usage: minikv certs dev");
    for (const wrong of [
      [],
      ["prod"],
      ["dev", "--host", "a b"],
      ["dev", "--host", ""],
      ["dev", "x"],
    ]) {
      expect((await run(...wrong)).code).toBe(2);
    }
    expect(readdirSync(parent)).toEqual(["certs"]);
  });
});
