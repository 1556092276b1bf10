/** HTTPS, its certificates replaced, and the audit log, with real processes and files. */
import { spawnSync } from "node:child_process";
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { describe, expect, it, onTestFinished } from "vitest";
import { ROOT } from "#test/processes/minikv.ts";
import { SERVES_HTTP, spawnMinikv, temporaryDirectory } from "./harness.ts";
import type { ServerProcess } from "./server-process.ts";

/** `minikv …` to its end. */
function minikv(...args: readonly string[]) {
  return spawnSync(join(ROOT, "bin", "minikv"), args, { encoding: "utf8", timeout: 30_000 });
}

type Certificates = { readonly directory: string; readonly path: (name: string) => string };

function makeCertificates(parent: string, name: string): Certificates {
  const directory = join(parent, name);
  const path = (file: string): string => join(directory, file);
  expect(minikv("certs", "dev", "--dir", directory).status).toBe(0);
  return { directory, path };
}

type Answer = { readonly status: number; readonly body: string; readonly issuer: string };

/** One request; by default over a connection of its own. */
function ask(
  url: string,
  {
    method = "GET",
    body,
    ca,
    agent,
  }: {
    readonly method?: string;
    readonly body?: string;
    readonly ca: string;
    readonly agent?: Agent;
  },
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { method, ca: readFileSync(ca), agent: agent ?? false, timeout: 20_000 };
    const outgoing = request(url, options, (incoming) => {
      const socket = incoming.socket as TLSSocket;
      const { fingerprint256 } = socket.getPeerCertificate();
      let text = "";
      incoming.setEncoding("utf8").on("data", (piece: string) => {
        text += piece;
      });
      incoming.on("end", () =>
        resolve({ status: incoming.statusCode!, body: text, issuer: fingerprint256 }),
      );
    });
    outgoing.on("error", reject);
    outgoing.on("timeout", () => outgoing.destroy(new Error("no answer")));
    outgoing.end(body);
  });
}

async function untilLogged(server: ServerProcess, text: string): Promise<void> {
  await expect.poll(() => server.stderr, { timeout: 20_000 }).toContain(text);
}

describe("minikv dev with HTTPS and an audit log", () => {
  it("serves, takes new certificates on SIGHUP, and keeps a log that finds what is removed", async () => {
    const directory = temporaryDirectory();
    const certs = makeCertificates(directory, "certs");
    const next = makeCertificates(directory, "next");
    const log = join(directory, "audit.log");
    const flags = [
      ...["dev", "--listen", "127.0.0.1:0", "--data-dir", join(directory, "data")],
      ...["--https-cert", certs.path("gateway.pem"), "--https-key", certs.path("gateway-key.pem")],
      ...["--audit-file", log, "--audit-data", "writes", "--audit-required", "--auth", "off"],
    ];
    const server = spawnMinikv(flags);
    const url = await server.printed(SERVES_HTTP);
    expect(url).toMatch(/^https:/);
    const ca = certs.path("ca.pem");
    const put = { method: "PUT", body: "the-value", ca };
    expect((await ask(`${url}/v1/kv/the-key`, put)).status).toBe(201);
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: readFileSync(ca) });
    onTestFinished(() => agent.destroy());
    const before = await ask(`${url}/v1/kv/the-key`, { ca, agent });
    expect(before.body).toBe("the-value");

    // A pair that does not fit is not taken over; the one that does is, and old connections go on.
    copyFileSync(next.path("gateway.pem"), certs.path("gateway.pem"));
    server.signal("SIGHUP");
    await untilLogged(server, "cannot use what changed");
    expect((await ask(`${url}/health/live`, { ca })).issuer).toBe(before.issuer);
    copyFileSync(next.path("gateway-key.pem"), certs.path("gateway-key.pem"));
    server.signal("SIGHUP");
    await untilLogged(server, "HTTPS certificate replaced");
    await expect(ask(`${url}/health/live`, { ca })).rejects.toThrow();
    const after = await ask(`${url}/health/live`, { ca: next.path("ca.pem") });
    expect(after.issuer).not.toBe(before.issuer);
    expect((await ask(`${url}/v1/kv/the-key`, { ca, agent })).issuer).toBe(before.issuer);

    const admin = { method: "POST", ca: next.path("ca.pem") };
    expect((await ask(`${url}/admin/rebalance`, admin)).status).toBe(200);
    const streamed = await ask(`${url}/admin/audit`, { ca: next.path("ca.pem") });
    agent.destroy();
    expect((await server.stop()).code).toBe(0);

    const text = readFileSync(log, "utf8");
    const lines = text.trimEnd().split("\n");
    const events = lines.map((line) => (JSON.parse(line) as { readonly event: string }).event);
    expect(events).toEqual(["open", "data", "admin", "close"]);
    expect(text.startsWith(streamed.body)).toBe(true);
    for (const secret of ["the-key", "the-value", "PRIVATE KEY"])
      expect(text).not.toContain(secret);

    const whole = minikv("audit", "verify", log);
    expect({ status: whole.status, error: whole.stderr }).toEqual({ status: 0, error: "" });
    writeFileSync(log, `${lines.toSpliced(1, 1).join("\n")}\n`);
    const removed = minikv("audit", "verify", log);
    expect(removed.status).toBe(1);
    expect(removed.stderr).toContain(`${log}:2: is number 3, and line 2 is missing before it`);
  });

  it("goes on with its chain after kill -9 in the middle of a line, and says so", async () => {
    const directory = temporaryDirectory();
    const log = join(directory, "audit.log");
    const start = () =>
      spawnMinikv([
        ...["dev", "--listen", "127.0.0.1:0", "--data-dir", join(directory, "data")],
        ...["--audit-file", log, "--auth", "off"],
      ]);
    const first = start();
    const url = await first.printed(SERVES_HTTP);
    expect((await fetch(`${url}/admin/rebalance`, { method: "POST" })).status).toBe(200);
    await expect.poll(() => readFileSync(log, "utf8")).toContain("rebalance");
    await first.kill9();
    writeFileSync(log, '{"seq":3,"time":"20', { flag: "a" });
    const second = start();
    await second.printed(SERVES_HTTP);
    expect((await second.stop()).code).toBe(0);
    const lines = readFileSync(log, "utf8").trimEnd().split("\n");
    expect(JSON.parse(lines[2]!)).toMatchObject({ seq: 3, event: "open", torn_bytes: 19 });
    expect(readdirSync(directory).some((name) => name.startsWith("audit.log.torn-"))).toBe(true);
    expect(minikv("audit", "verify", log).status).toBe(0);
  });

  it("refuses to start with files that it cannot use", async () => {
    const directory = temporaryDirectory();
    const certs = makeCertificates(directory, "certs");
    const wrong = spawnMinikv([
      ...["gateway", "--https-cert", certs.path("gateway.pem")],
      ...["--https-key", certs.path("client-key.pem")],
    ]);
    expect((await wrong.exited).code).toBe(2);
    expect(wrong.stderr).toContain("HTTPS cannot use");
    const log = join(directory, "audit.log");
    writeFileSync(log, "no audit log\n");
    const data = ["--data-dir", join(directory, "data")];
    const strange = spawnMinikv(["dev", "--listen", "127.0.0.1:0", ...data, "--audit-file", log]);
    expect((await strange.exited).code).toBe(2);
    expect(strange.stderr).toContain("no line of an audit log");
  });
});
