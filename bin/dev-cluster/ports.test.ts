import { createServer, type Server } from "node:net";
import { expect, it, onTestFinished } from "vitest";
import { SeededRandom } from "#shared/random.ts";
import { findFreePorts, isFree } from "./ports.ts";

const host = "127.0.0.1";

async function listening(port: number): Promise<Server> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(port, host, resolve));
  onTestFinished(() => new Promise<void>((resolve) => void server.close(() => resolve())));
  return server;
}

it("findFreePorts() takes ports below those of outgoing connections, ascending", async () => {
  const ports = await findFreePorts({ host, count: 5, random: new SeededRandom(process.pid) });
  expect(new Set(ports).size).toBe(5);
  for (const port of ports) {
    expect(port).toBeGreaterThanOrEqual(20_000);
    expect(port).toBeLessThan(32_768);
  }
});

it("findFreePorts() passes over ports that are in use or spoken for", async () => {
  const random = new SeededRandom(process.pid);
  const [from] = (await findFreePorts({ host, count: 1, random })) as [number];
  await listening(from);
  expect(await isFree({ host, port: from })).toBe(false);
  const taken = new Set([from + 1]);
  const [found] = (await findFreePorts({ host, count: 1, random, taken, from })) as [number];
  expect(found).toBeGreaterThan(from + 1);
  expect(await isFree({ host, port: found })).toBe(true);
});

it("findFreePorts() begins anew when it reaches the end", async () => {
  const taken = new Set([65_535]);
  const random = new SeededRandom(1);
  const [found] = (await findFreePorts({ host, count: 1, random, taken, from: 65_535 })) as [
    number,
  ];
  expect(found).toBeGreaterThanOrEqual(20_000);
  expect(found).toBeLessThan(32_768);
});

it("findFreePorts() gives up when there is none", async () => {
  const taken = new Set(Array.from({ length: 65_536 }, (_, port) => port));
  const search = findFreePorts({ host, count: 2, random: new SeededRandom(1), taken });
  await expect(search).rejects.toThrow("found only 0 of 2 free ports");
});
