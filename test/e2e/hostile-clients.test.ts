/**
 * Clients that hold on to connections and memory: slow senders, slow readers, aborted uploads, many
 * idle connections. Others are served meanwhile, and what they held is free afterwards.
 */
import { connect as connectSocket, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { RawClient } from "#gateway/testing/raw-client.ts";
import { HTTP_HEADERS_TIMEOUT_MS } from "#shared/limits.ts";
import { type Deployment, describeEachDeployment, startAllInOne, startPair } from "./harness.ts";
import { HttpClient, type ProblemBody } from "./http-client.ts";
import { canCountHandles, heldBytes, MEASURED, openHandles } from "./process-usage.ts";

const MiB = 1024 * 1024;
const HOST = "Host: localhost\r\n";

const portOf = ({ url }: Deployment): number => Number(new URL(url).port);

function severeLines(server: Deployment): readonly unknown[] {
  return server.logRecords().filter(({ level }) => level === "error" || level === "fatal");
}

/** A connected socket whose errors are expected. */
async function openSocket(port: number): Promise<Socket> {
  const socket = connectSocket(port, "127.0.0.1");
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  socket.on("error", () => undefined);
  return socket;
}

/** `count` runs of `task`, `width` of them at a time. */
async function inParallel(
  count: number,
  width: number,
  task: (number: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await task(next++);
  };
  await Promise.all(Array.from({ length: width }, worker));
}

/** 200 connections that send a byte now and then; the server must serve others and end them. */
async function holdWithSlowSenders(server: Deployment): Promise<void> {
  const startedMs = performance.now();
  const slow = Array.from({ length: 200 }, (_, number) => {
    const raw = new RawClient(portOf(server));
    const [start, drip] =
      number % 2 === 0
        ? [`GET /v1/kv/slow HTTP/1.1\r\n${HOST}X-Slow: `, "x"]
        : [`PUT /v1/kv/slow HTTP/1.1\r\n${HOST}Content-Length: 1000\r\n\r\n`, "x"];
    raw.send(start);
    const timer = setInterval(() => raw.send(drip), 500);
    raw.socket.once("close", () => clearInterval(timer));
    return raw;
  });
  const client = new HttpClient(server.url);
  try {
    for (let count = 0; count < 20; count++) {
      const put = await client.put(`/v1/kv/meanwhile-${count}`, "v");
      expect(put.status).toBe(201);
      expect((await client.get(`/v1/kv/meanwhile-${count}`)).status).toBe(200);
    }
    const slowHeaders = slow.filter((_, number) => number % 2 === 0);
    for (const raw of slowHeaders) {
      const response = await raw.response();
      const problem = JSON.parse(response.body) as ProblemBody;
      expect([response.status, problem.code]).toEqual([408, "REQUEST_TIMEOUT"]);
      await raw.closed;
    }
    expect(performance.now() - startedMs).toBeGreaterThanOrEqual(HTTP_HEADERS_TIMEOUT_MS);
  } finally {
    for (const { socket } of slow) socket.destroy();
  }
  expect((await client.get("/v1/kv/slow")).status).toBe(404);
  client.close();
  expect(severeLines(server)).toEqual([]);
}

/** Started before the other tests, whose time it shares: most of it is the server's own patience. */
let slowSenders: Promise<unknown> = Promise.resolve();
beforeAll(async () => {
  const deployments = await Promise.all([startAllInOne(), startPair()]);
  slowSenders = Promise.all(deployments.map(holdWithSlowSenders));
  // The test that awaits it reports a failure.
  slowSenders.catch(() => undefined);
});

describeEachDeployment("clients that hold on", (start) => {
  let server: Deployment;
  let client: HttpClient;

  beforeAll(async () => {
    server = await start({ env: MEASURED });
    client = new HttpClient(server.url);
    // So that the first large request is not what memory is compared with.
    await client.put("/v1/kv/large", Buffer.alloc(MiB, "x"));
  });
  afterAll(() => {
    client.close();
    expect(server.gatewayProcess.exit).toBeUndefined();
    expect(severeLines(server)).toEqual([]);
  });

  const serves = async (): Promise<void> => {
    const put = await client.put("/v1/kv/serves", Buffer.alloc(MiB, "y"));
    expect([200, 201]).toContain(put.status);
    expect((await client.get("/v1/kv/serves")).body.length).toBe(MiB);
  };

  /** Sockets are closed some time after their clients are gone. */
  const expectHandlesBelow = async (bound: number): Promise<void> => {
    const count = () => openHandles(server.gatewayProcess);
    await expect.poll(count, { timeout: 20_000 }).toBeLessThan(bound);
  };
  const expectHeldBelow = async (bound: number): Promise<void> => {
    const count = () => heldBytes(server.gatewayProcess);
    await expect.poll(count, { timeout: 20_000, interval: 200 }).toBeLessThan(bound);
  };

  it("500 aborted uploads store nothing and leave nothing behind", async () => {
    const { gatewayProcess } = server;
    const handlesBefore = canCountHandles ? openHandles(gatewayProcess) : 0;
    const heldBefore = await heldBytes(gatewayProcess);
    // Together 293 MiB, more than the gateway may hold of bodies: if they were not given back,
    // later uploads would be refused.
    const part = Buffer.alloc(600 * 1024, "a");
    await inParallel(500, 20, async (number) => {
      const socket = await openSocket(portOf(server));
      const framing = number % 2 === 0 ? `Content-Length: ${MiB}` : "Transfer-Encoding: chunked";
      socket.write(`PUT /v1/kv/aborted-${number % 10} HTTP/1.1\r\n${HOST}${framing}\r\n\r\n`);
      if (number % 2 === 1) socket.write(`${MiB.toString(16)}\r\n`);
      await new Promise((resolve) => socket.write(part, resolve));
      if (number % 4 < 2) socket.resetAndDestroy();
      else socket.destroy();
    });
    await serves();
    for (let number = 0; number < 10; number++) {
      expect((await client.get(`/v1/kv/aborted-${number}`)).status).toBe(404);
    }
    if (canCountHandles) await expectHandlesBelow(handlesBefore + 10);
    await expectHeldBelow(heldBefore + 30 * MiB);
  });

  it("answers are not piled up for readers that do not read", async () => {
    const { gatewayProcess } = server;
    const heldBefore = await heldBytes(gatewayProcess);
    const get = `GET /v1/kv/large HTTP/1.1\r\n${HOST}\r\n`;
    const sockets: Socket[] = [];
    for (let count = 0; count < 20; count++) {
      const socket = await openSocket(portOf(server));
      socket.pause();
      // Together 1,000 MiB of answers.
      socket.write(get.repeat(50));
      sockets.push(socket);
    }
    await sleep(500);
    await serves();
    await expectHeldBelow(heldBefore + 100 * MiB);
    for (const socket of sockets) socket.destroy();
    await serves();
    await expectHeldBelow(heldBefore + 30 * MiB);
  });

  it("1,000 idle connections do not keep others from being served", async () => {
    const { gatewayProcess } = server;
    const handlesBefore = canCountHandles ? openHandles(gatewayProcess) : 0;
    const sockets: Socket[] = [];
    await inParallel(1_000, 50, async () => void sockets.push(await openSocket(portOf(server))));
    await serves();
    if (canCountHandles) {
      // Connected says the kernel; the server takes them one by one.
      const count = () => openHandles(gatewayProcess);
      await expect.poll(count, { timeout: 20_000 }).toBeGreaterThan(handlesBefore + 900);
    }
    for (const socket of sockets) socket.destroy();
    await serves();
    if (canCountHandles) await expectHandlesBelow(handlesBefore + 10);
  });
});

it("slow senders are ended with 408 while others are served (all-in-one and pair)", async () => {
  await slowSenders;
});
