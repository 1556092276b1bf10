/** Connections of HTTP/2 that are slow, idle or at their end. Timeouts are shortened. */
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { connect, type TLSSocket } from "node:tls";
import { describe, expect, it, onTestFinished } from "vitest";
import type { ProblemBody } from "#gateway/testing/gateway.ts";
import { responseOf } from "#gateway/testing/http2-client.ts";
import {
  END_HEADERS,
  FRAME,
  frame,
  headersFrame,
  request,
  uint32,
} from "#gateway/testing/http2-frames.ts";
import { startHttp2, testAuthority, testMaterial } from "#gateway/testing/http2-server.ts";
import { AUDIT_STREAMS_MAX } from "#shared/audit-limits.ts";
import { utf8 } from "#shared/bytes.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";

const CANCEL = 8;
const NO_ERROR = 0;
const GET = request("GET", "/v1/kv/a");
const turn = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const LARGE = Buffer.alloc(1024 * 1024, "x");

it("streams of routes of Hono end with their client, though there is nothing to send", async () => {
  const { client } = await startHttp2();
  const agent = client();
  for (let i = 0; i < 2 * AUDIT_STREAMS_MAX; i++) {
    const stream = agent.open({ path: "/admin/audit?follow=1" });
    const [head] = (await once(stream, "response")) as [{ ":status": number }];
    expect(head[":status"]).toBe(200);
    stream.close(CANCEL);
    await once(stream, "close");
    await agent.ask({ path: "/v1/limits" });
  }
});

describe("slow clients", () => {
  it("that do not finish their body get 408, and nothing is stored", async () => {
    const { frames, gateway } = await startHttp2({ headersTimeoutMs: 600, requestTimeoutMs: 600 });
    const client = await frames();
    for (const [stream, more] of [
      [1, []],
      [3, [["content-length", "10"]]],
    ] as const) {
      client.send(headersFrame(stream, request("PUT", "/v1/kv/a", more), END_HEADERS));
      client.send(frame(FRAME.data, 0, stream, Buffer.from("abc")));
    }
    for (const stream of [1, 3]) {
      await expect.poll(() => client.bodyOf(stream), { timeout: 5_000 }).toContain("}");
      const problem = JSON.parse(client.bodyOf(stream)) as ProblemBody;
      expect(problem).toMatchObject({ code: "REQUEST_TIMEOUT", outcome: "not_applied" });
      await expect.poll(() => client.resetCode(stream)).toBe(NO_ERROR);
    }
    expect(gateway.storage.calls).toEqual([]);
    expect(gateway.app.gateway.bodyBudget.heldBytes).toBe(0);
  });

  it("that trickle a body nobody reads have its stream reset", async () => {
    const { frames, hold, gateway } = await startHttp2({
      headersTimeoutMs: 60,
      requestTimeoutMs: 60,
    });
    const release = hold();
    const client = await frames();
    client.send(headersFrame(1, GET, END_HEADERS));
    await expect.poll(() => client.resetCode(1), { timeout: 5_000 }).toBe(CANCEL);
    expect(gateway.storage.calls[0]!.options.cancellation?.isCancelled).toBe(true);
    release();
  });

  it("whose window never opens have their stream cut, and what it held is free", async () => {
    const { frames, client, gateway } = await startHttp2({ stallTimeoutMs: 100 });
    await client().ask({ method: "PUT", path: "/v1/kv/a", body: LARGE });
    const slow = await frames(frame(FRAME.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0])));
    const { answerBudget } = gateway.app.gateway;
    slow.send(headersFrame(1, GET));
    await expect.poll(() => answerBudget.heldBytes).toBe(LARGE.length);
    await expect.poll(() => slow.resetCode(1)).toBe(CANCEL);
    expect(answerBudget.heldBytes).toBe(0);
    expect(slow.bodyOf(1)).toBe("");
  });

  it("that open it byte by byte are cut too", async () => {
    const { frames, client, gateway } = await startHttp2({ stallTimeoutMs: 150 });
    await client().ask({ method: "PUT", path: "/v1/kv/a", body: LARGE });
    const slow = await frames(frame(FRAME.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0])));
    slow.send(headersFrame(1, GET));
    const drip = setInterval(() => slow.send(frame(FRAME.window, 0, 1, uint32(1))), 10);
    onTestFinished(() => clearInterval(drip));
    await expect.poll(() => slow.resetCode(1)).toBe(CANCEL);
    clearInterval(drip);
    expect(slow.bodyOf(1).length).toBeGreaterThan(0);
    expect(gateway.app.gateway.answerBudget.heldBytes).toBe(0);
  });

  it("that take pieces now and then are not", async () => {
    const { frames, client } = await startHttp2({ stallTimeoutMs: 300 });
    await client().ask({ method: "PUT", path: "/v1/kv/a", body: LARGE.subarray(0, 500_000) });
    const slow = await frames(frame(FRAME.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0])));
    slow.send(frame(FRAME.window, 0, 0, uint32(2 ** 30)), headersFrame(1, GET));
    for (let part = 0; part < 8; part++) {
      await turn(100);
      slow.send(frame(FRAME.window, 0, 1, uint32(70_000)));
    }
    await expect.poll(() => slow.bodyOf(1).length).toBe(500_000);
    expect(slow.resetCode(1)).toBeUndefined();
  });

  it("that do not read their socket are cut in the end", async () => {
    const limits = { stallTimeoutMs: 100, keepAliveTimeoutMs: 100 };
    const { frames, client, gateway, server } = await startHttp2(limits);
    const writer = client();
    await writer.ask({ method: "PUT", path: "/v1/kv/a", body: LARGE });
    writer.close();
    const wide = frame(FRAME.settings, 0, 0, Buffer.from([0, 4, 0x7f, 0xff, 0xff, 0xff]));
    const slow = await frames(wide);
    slow.socket.pause();
    slow.send(frame(FRAME.window, 0, 0, uint32(2 ** 30)));
    for (let count = 0; count < 60; count++) slow.send(headersFrame(2 * count + 1, GET));
    await expect.poll(() => gateway.storage.calls.length).toBe(61);
    await expect.poll(() => gateway.app.gateway.answerBudget.heldBytes).toBe(0);
    // Nothing is left to be cut.
    await turn(400);
    expect(await server.close(0)).toEqual({ connectionsCut: 0 });
  });

  it("are refused values when too much waits for clients that do not read", async () => {
    const answerBytesInFlightMax = 1.5 * LARGE.length;
    const { frames, client, gateway } = await startHttp2(
      {},
      { limits: { answerBytesInFlightMax } },
    );
    const quick = client();
    await quick.ask({ method: "PUT", path: "/v1/kv/a", body: LARGE });
    const slow = await frames(frame(FRAME.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0])));
    slow.send(headersFrame(1, GET));
    await expect.poll(() => gateway.app.gateway.answerBudget.heldBytes).toBe(LARGE.length);
    const refused = await quick.ask({ path: "/v1/kv/a" });
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
    slow.socket.destroy();
    await expect.poll(() => gateway.app.gateway.answerBudget.heldBytes).toBe(0);
    expect((await quick.ask({ path: "/v1/kv/a" })).body.length).toBe(LARGE.length);
  });
});

describe("idle connections", () => {
  it("are told to go, and closed", async () => {
    const { client } = await startHttp2({ keepAliveTimeoutMs: 80 });
    const agent = client();
    expect((await agent.ask({ path: "/v1/kv/a" })).status).toBe(404);
    await agent.closed;
    expect(agent.goawayCode).toBe(NO_ERROR);
  });

  it("are not kept by pings, nor by headers that do not end", async () => {
    const { frames } = await startHttp2({ keepAliveTimeoutMs: 80 });
    const [pings, half] = await Promise.all([frames(), frames()]);
    half.send(headersFrame(1, GET, 1));
    const timer = setInterval(() => pings.send(frame(FRAME.ping, 0, 0, Buffer.alloc(8))), 10);
    onTestFinished(() => clearInterval(timer));
    await Promise.all([pings.closed, half.closed]);
  });

  it("stay while a request runs", async () => {
    const { client, hold } = await startHttp2({ keepAliveTimeoutMs: 40, stallTimeoutMs: 40 });
    const release = hold();
    const answer = client().ask({ path: "/v1/kv/a" });
    await turn(200);
    release();
    expect((await answer).status).toBe(404);
  });

  it("that never begin, or do not confirm the settings, are cut", async () => {
    const { frames, server } = await startHttp2({ headersTimeoutMs: 80 });
    const silent = await frames("");
    const strange = await frames("");
    strange.send(Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    const deaf = await frames();
    deaf.agrees = false;
    deaf.send(headersFrame(1, GET));
    await Promise.all([silent.closed, strange.closed, deaf.closed]);
    expect(deaf.bodyOf(1)).toContain("KEY_NOT_FOUND");
    expect(await server.close(0)).toEqual({ connectionsCut: 0 });
  });
});

describe("the end of the server", () => {
  it("lets running requests end, tells clients, and takes no more", async () => {
    const { client, hold, gateway, server } = await startHttp2({ closeGraceMs: 40 });
    const [agent, idle] = [client(), client()];
    await idle.ask({ path: "/v1/limits" });
    const release = hold();
    const running = agent.ask({ path: "/v1/kv/a" });
    await expect.poll(() => gateway.storage.calls.length).toBe(1);
    const closed = server.close(10_000);
    await idle.closed;
    expect([agent.goawayCode, idle.goawayCode]).toEqual([NO_ERROR, NO_ERROR]);
    await expect(agent.ask({ path: "/v1/limits" })).rejects.toThrow();
    release();
    expect((await running).status).toBe(404);
    expect(await closed).toEqual({ connectionsCut: 0 });
  });

  it("tells of the last request that was carried out, and carries out none behind it", async () => {
    const { frames, hold, gateway, server } = await startHttp2({ closeGraceMs: 40 });
    const release = hold();
    const client = await frames();
    client.send(headersFrame(1, GET));
    await expect.poll(() => gateway.storage.calls.length).toBe(1);
    const closed = server.close(10_000);
    await expect.poll(() => client.goawayCode).toBe(NO_ERROR);
    expect(client.of(FRAME.goaway).at(-1)!.payload.readUInt32BE(0)).toBe(1);
    client.send(headersFrame(3, GET));
    await turn(60);
    release();
    await expect.poll(() => client.bodyOf(1)).toContain("KEY_NOT_FOUND");
    expect(await closed).toEqual({ connectionsCut: 0 });
    expect(gateway.storage.calls).toHaveLength(1);
  });

  it("ends a stream soon that begins while it ends", async () => {
    const { client, gateway, server } = await startHttp2({ closeGraceMs: 10 });
    for (let i = 0; i < 100; i++) {
      const input = { value: new Uint8Array(256 * 1024), contentType: "", ttlMs: 0 };
      const key = { tenant: DEFAULT_TENANT, key: utf8(`key-${i}`) };
      await gateway.storage.put(key, input, { deadlineMs: 0 });
    }
    const { gate } = gateway.app.gateway;
    const enter = gate.enter.bind(gate);
    onTestFinished(() => void (gate.enter = enter));
    const { promise: slow, resolve: goOn } = Promise.withResolvers<void>();
    let entered = 0;
    gate.enter = async (exchange) => {
      entered++;
      await slow;
      return enter(exchange);
    };
    const headers = { accept: "application/x-ndjson" };
    const asked = client().ask({ path: "/v1/kv", headers });
    await expect.poll(() => entered).toBe(1);
    const closed = server.close(10_000);
    await turn(80);
    goOn();
    const lines = (await asked).body.toString().trimEnd().split("\n");
    expect(JSON.parse(lines.at(-1)!)).toMatchObject({ error: { code: "UNAVAILABLE" } });
    expect(lines.length).toBeLessThan(50);
    expect(await closed).toEqual({ connectionsCut: 0 });
  });

  it("ends the stream of a route of Hono", async () => {
    const { client, server } = await startHttp2({ closeGraceMs: 10 });
    const stream = client().open({ path: "/admin/audit?follow=1" });
    const response = responseOf(stream);
    await new Promise((resolve) => stream.once("response", resolve));
    expect(await server.close(10_000)).toEqual({ connectionsCut: 0 });
    expect((await response).status).toBe(200);
  });

  it("cuts what does not end, and counts it", async () => {
    const { client, hold, gateway, server } = await startHttp2({ closeGraceMs: 10 });
    const release = hold();
    const [stuck, plain] = [client(), client()];
    const lost = stuck.ask({ path: "/v1/kv/a" });
    lost.catch(() => undefined);
    await plain.ask({ path: "/v1/limits" });
    await expect.poll(() => gateway.storage.calls.length).toBe(1);
    expect(await server.close(100)).toEqual({ connectionsCut: 1 });
    await expect(lost).rejects.toThrow();
    expect(gateway.storage.calls[0]!.options.cancellation?.isCancelled).toBe(true);
    release();
  });

  it("cuts an upload that is under way", async () => {
    const { client, server, gateway } = await startHttp2({ closeGraceMs: 10 });
    const stream = client().open({ method: "PUT", path: "/v1/kv/a" }, false);
    const lost = responseOf(stream);
    lost.catch(() => undefined);
    stream.write("part");
    await expect.poll(() => gateway.app.gateway.bodyBudget.heldBytes).toBe(4);
    expect(await server.close(50)).toEqual({ connectionsCut: 1 });
    await expect(lost).rejects.toThrow();
    expect(gateway.app.gateway.bodyBudget.heldBytes).toBe(0);
    expect(gateway.storage.calls).toEqual([]);
  });
});

it("certificates are replaced for new connections, while old ones go on", async () => {
  const { client, server } = await startHttp2();
  const serialOf = ({ session }: ReturnType<typeof client>): string =>
    (session.socket as TLSSocket).getPeerCertificate().serialNumber;
  const old = client();
  await old.ask({ path: "/v1/limits" });
  const before = serialOf(old);
  const next = testMaterial();
  server.replaceTls(next);
  const fresh = client();
  expect((await fresh.ask({ path: "/v1/limits" })).status).toBe(200);
  expect(serialOf(fresh)).toBe(new X509Certificate(next.cert).serialNumber);
  expect((await old.ask({ path: "/v1/limits" })).status).toBe(200);
  expect(serialOf(old)).toBe(before);
  // What was chosen by ALPN still is.
  const options = { host: "127.0.0.1", port: server.address.port, ca: testAuthority.ca };
  const socket = connect({ ...options, ALPNProtocols: ["h2"] });
  onTestFinished(() => void socket.destroy());
  await new Promise<void>((resolve) => socket.once("secureConnect", () => resolve()));
  expect(socket.alpnProtocol).toBe("h2");
});
