/** The listener under TLS: who gets through the handshake, and certificates replaced while it serves. */
import { X509Certificate } from "node:crypto";
import { Agent, request } from "node:https";
import { connect as connectPlain } from "node:net";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { describe, expect, it, onTestFinished } from "vitest";
import { createAuthority } from "#bin/certs/x509.ts";
import { checkHttpsMaterial, type HttpsMaterial } from "./http/https.ts";
import { type HttpServerLimits, startHttpServer } from "./server.ts";
import { testGateway } from "./testing/gateway.ts";
import { RawClient } from "./testing/raw-client.ts";

const HOST = "127.0.0.1";
const authority = createAuthority("test");

function materialOf(issuer = authority, clientCa?: Buffer): HttpsMaterial {
  const { cert, key } = issuer.issue("gateway", [HOST, "localhost"]);
  return { cert, key, clientCa };
}

async function start(tls: HttpsMaterial, limits: Partial<HttpServerLimits> = {}) {
  const { app } = testGateway();
  const server = await startHttpServer({ app, listen: { host: HOST, port: 0 }, limits, tls });
  onTestFinished(() => void server.close(0));
  return server;
}

type Dialled = { readonly socket: TLSSocket; readonly session: () => Buffer | undefined };

/** A handshake, with all that the server has to say right after it. @throws when there is none */
function dial(port: number, options: ConnectionOptions = {}): Promise<Dialled> {
  return new Promise((resolve, reject) => {
    let session: Buffer | undefined;
    const socket = connect({ host: HOST, port, ca: authority.ca, ...options });
    socket.on("session", (ticket: Buffer) => {
      session = ticket;
    });
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("closed")));
    onTestFinished(() => void socket.destroy());
    // A certificate that is refused under TLS 1.3 is so only after the client's part is done.
    socket.write("GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n");
    socket.once("data", () => resolve({ socket, session: () => session }));
  });
}

const serialOf = ({ socket }: Dialled): string => socket.getPeerCertificate().serialNumber;
const serialIn = ({ cert }: HttpsMaterial): string => new X509Certificate(cert).serialNumber;

function get(url: string, path: string, agent?: Agent) {
  return new Promise<{ status: number; headers: Record<string, unknown>; body: string }>(
    (resolve, reject) => {
      const outgoing = request(`${url}${path}`, { ca: authority.ca, ...(agent && { agent }) });
      outgoing.on("error", reject);
      outgoing.on("response", (incoming) => {
        let body = "";
        incoming.setEncoding("utf8").on("data", (piece) => (body += piece));
        incoming.on("end", () =>
          resolve({ status: incoming.statusCode!, headers: incoming.headers, body }),
        );
      });
      outgoing.end();
    },
  );
}

describe("startHttpServer() with TLS", () => {
  it("serves keys and all else, and tells browsers to come back by HTTPS", async () => {
    const { url } = await start(materialOf());
    expect(url).toMatch(/^https:/);
    const key = await get(url, "/v1/kv/nothing");
    const live = await get(url, "/health/live");
    expect([key.status, live.status]).toEqual([404, 200]);
    for (const { headers } of [key, live]) {
      expect(headers["strict-transport-security"]).toMatch(/^max-age=[1-9]/);
    }
  });

  it("answers plain HTTP in plain HTTP, with what to do", async () => {
    const { address } = await start(materialOf());
    const client = new RawClient(address.port);
    client.request("GET", "/health/live");
    const response = await client.response();
    expect(response.status).toBe(400);
    expect(response.body).toContain("https://");
    await client.closed;
  });

  it("takes no version below TLS 1.2", async () => {
    const { address } = await start(materialOf());
    const old = { minVersion: "TLSv1", maxVersion: "TLSv1.1" } as const;
    await expect(dial(address.port, { ...old, ciphers: "DEFAULT@SECLEVEL=0" })).rejects.toThrow();
  });

  it("lets no client in without a certificate of the authority that it is given", async () => {
    const { address } = await start(materialOf(authority, authority.ca));
    const stranger = createAuthority("stranger").issue("client", [HOST]);
    const { cert, key } = authority.issue("client", [HOST]);
    await expect(dial(address.port)).rejects.toThrow();
    await expect(dial(address.port, { cert: stranger.cert, key: stranger.key })).rejects.toThrow();
    expect((await dial(address.port, { cert, key })).socket.authorized).toBe(true);
  });

  it("does not let an expired client certificate in", async () => {
    const { address } = await start(materialOf(authority, authority.ca));
    const term = { fromMs: Date.now() - 2_000_000, toMs: Date.now() - 1_000_000 };
    const { cert, key } = authority.issue("client", [HOST], term);
    await expect(dial(address.port, { cert, key })).rejects.toThrow();
  });

  it("gives new connections a new certificate, and lets old ones go on", async () => {
    const first = materialOf();
    const server = await start(first);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    onTestFinished(() => agent.destroy());
    const old = await dial(server.address.port);
    const next = materialOf();
    server.replaceTls(next);
    const fresh = await dial(server.address.port);
    expect(serialOf(old)).toBe(serialIn(first));
    expect(serialOf(fresh)).toBe(serialIn(next));
    const answer = new Promise<string>((resolve) => {
      old.socket.once("data", (bytes: Buffer) => resolve(bytes.toString()));
    });
    old.socket.write("GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n");
    expect(await answer).toContain("200 OK");
  });

  it("resumes no session of before: its authority may be one that is no longer trusted", async () => {
    const server = await start(materialOf(authority, authority.ca));
    const { cert, key } = authority.issue("client", [HOST]);
    const options = { cert, key };
    const before = await dial(server.address.port, options);
    const session = before.session();
    expect(session).toBeDefined();
    const again = await dial(server.address.port, { ...options, session });
    expect(again.socket.isSessionReused()).toBe(true);
    const other = createAuthority("other");
    server.replaceTls(materialOf(authority, other.ca));
    await expect(
      dial(server.address.port, { ...options, session: again.session() ?? session }),
    ).rejects.toThrow();
    const trusted = other.issue("client", [HOST]);
    await dial(server.address.port, { cert: trusted.cert, key: trusted.key });
  });

  it("cuts a handshake that trickles in, and one that is open when it closes", async () => {
    const server = await start(materialOf(), { handshakeTimeoutMs: 200, closeGraceMs: 10 });
    const slow = connectPlain(server.address.port, HOST);
    slow.on("error", () => undefined);
    const hello = Buffer.from(`16030100c8010000c40303${"00".repeat(200)}`, "hex");
    let at = 0;
    const trickle = setInterval(() => slow.write(hello.subarray(at, ++at)), 50);
    onTestFinished(() => clearInterval(trickle));
    await new Promise<void>((resolve) => slow.once("close", () => resolve()));
    // Long before the last byte.
    expect(at).toBeLessThan(hello.length);
    clearInterval(trickle);

    const patient = await start(materialOf(), { closeGraceMs: 10 });
    const open = connectPlain(patient.address.port, HOST);
    open.on("error", () => undefined);
    await new Promise<void>((resolve) => open.once("connect", () => resolve()));
    const cut = new Promise<void>((resolve) => open.once("close", () => resolve()));
    await patient.close(100);
    await cut;
  });

  it("refuses material that its clients could only find out about", () => {
    const { cert } = materialOf();
    const { key } = materialOf();
    expect(() => checkHttpsMaterial({ cert, key, clientCa: undefined })).toThrow();
  });
});
