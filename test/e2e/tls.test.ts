/** Storage node and gateway as two processes under mutual TLS, with certificates from files. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { createAuthority } from "#storage-node/transport/testing/certificates.ts";
import { gatewayArguments } from "#test/processes/cluster-arguments.ts";
import {
  SERVES_GRPC,
  SERVES_HTTP,
  spawnMinikv,
  temporaryDirectory,
  waitForReadiness,
} from "./harness.ts";
import { HttpClient } from "./http-client.ts";

const HOST = "127.0.0.1";

/** Writes what a member of the authority's cluster needs; the settings that name it. */
function tlsFlags(directory: string, name: string, authority = createAuthority("e2e")) {
  const path = (kind: string): string => join(directory, `${name}-${kind}.pem`);
  const material = authority.issue(HOST);
  for (const kind of ["ca", "cert", "key"] as const) writeFileSync(path(kind), material[kind]);
  return ["ca", "cert", "key"].flatMap((kind) => [`--tls-${kind}`, path(kind)]);
}

function startGateway(storage: string, ...more: readonly string[]) {
  const listen = `${HOST}:0`;
  return spawnMinikv(gatewayArguments(listen, [storage], more));
}

describe("minikv under mutual TLS", () => {
  it("serves through a gateway with a certificate of the authority, and no other", async () => {
    const directory = temporaryDirectory();
    const authority = createAuthority("e2e");
    const node = spawnMinikv([
      ...["storage-node", "--listen", `${HOST}:0`, "--data-dir", join(directory, "data")],
      ...tlsFlags(directory, "node", authority),
    ]);
    const address = await node.printed(SERVES_GRPC);
    const trusted = startGateway(address, ...tlsFlags(directory, "gateway", authority));
    const strange = startGateway(address, ...tlsFlags(directory, "stranger"));
    const bare = startGateway(address);
    const url = await trusted.printed(SERVES_HTTP);
    await waitForReadiness(url, 200);
    const client = new HttpClient(url);
    expect((await client.put("/v1/kv/secret", "1")).status).toBe(201);
    expect((await client.get("/v1/kv/secret")).body.toString()).toBe("1");
    client.close();
    for (const gateway of [strange, bare]) {
      const other = new HttpClient(await gateway.printed(SERVES_HTTP));
      const patience = { "Minikv-Timeout": "500ms" };
      expect((await other.get("/v1/kv/secret", patience)).status).toBe(503);
      other.close();
    }
  });

  it("is refused with files that cannot be used", async () => {
    const directory = temporaryDirectory();
    const flags = tlsFlags(directory, "node");
    writeFileSync(flags[3]!, "no certificate");
    const node = spawnMinikv(["storage-node", "--data-dir", join(directory, "data"), ...flags]);
    expect(await node.exited).toMatchObject({ code: 2 });
    expect(node.stderr).toContain("TLS cannot use");
  });
});
