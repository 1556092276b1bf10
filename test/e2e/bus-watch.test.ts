/**
 * A watch through a gateway that hears of changes over NATS: nothing is missed when the bus is killed in the
 * middle of writes, hangs, or never was there.
 */
import { expect, it, onTestFinished } from "vitest";
import type { NatsServer } from "#test/processes/nats-server.ts";
import { findProgram, skippedWithout } from "#test/processes/programs.ts";
import { startNats } from "./bus-fixture.ts";
import { type Cluster, startCluster } from "./cluster-harness.ts";

const eventually = { timeout: 40_000, interval: 20 };

/** Keys and revisions of a prefix's `put` events, in the order in which they come. */
async function watch(url: string, prefix: string) {
  const ended = new AbortController();
  const answer = await fetch(`${url}/v1/watch?prefix=${prefix}`, { signal: ended.signal });
  expect(answer.status).toBe(200);
  const events: string[] = [];
  let isReady = false;
  const read = async (): Promise<void> => {
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of answer.body!) {
      text += decoder.decode(chunk, { stream: true });
      const blocks = text.split("\n\n");
      text = blocks.pop()!;
      for (const block of blocks) {
        const event = /^event: ?(.*)$/m.exec(block)?.[1];
        const data = /^data: ?(.*)$/m.exec(block)?.[1];
        isReady ||= event === "progress";
        if (event !== "put" || data === undefined) continue;
        const { key, revision } = JSON.parse(data) as { key: string; revision: number };
        events.push(`${key}@${revision}`);
      }
    }
  };
  void read().catch(() => {});
  onTestFinished(() => ended.abort());
  await expect.poll(() => isReady, eventually).toBe(true);
  return events;
}

async function write(url: string, key: string, value: string): Promise<string> {
  const answer = await fetch(`${url}/v1/kv/${key}`, { method: "PUT", body: value });
  await answer.arrayBuffer();
  expect(answer.ok).toBe(true);
  return `${key}@${Number(answer.headers.get("etag")!.replaceAll('"', ""))}`;
}

/** Writes without a pause until it is told to stop, then says what was answered. */
function writing(url: string, prefix: string) {
  let stopped = false;
  const answered: string[] = [];
  const run = async (): Promise<void> => {
    for (let i = 0; !stopped; i++) {
      answered.push(await write(url, `${prefix}${i % 40}`, `value ${i}`));
    }
  };
  const running = run();
  const more = (count: number) =>
    expect.poll(() => answered.length, eventually).toBeGreaterThan(answered.length + count);
  return {
    answered,
    more,
    stop: async () => {
      stopped = true;
      await running;
    },
  };
}

/** That a gateway has had so far. */
async function busMessages(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^minikv_gateway_bus_messages_total(?:\{.*\})? (\d+)/m.exec(text)?.[1] ?? 0);
}

/** Two gateways; nodes and gateways have the bus. */
async function startWithBus(nats: NatsServer): Promise<Cluster> {
  const bus = ["--nats-url", nats.url];
  const cluster = await startCluster({ gateways: 2, nodeArgs: () => bus, gatewayArgs: bus });
  onTestFinished(() => cluster.close());
  return cluster;
}

const title = `a watcher at another gateway misses nothing, whatever becomes of the bus${skippedWithout("nats-server")}`;

it.skipIf(findProgram("nats-server") === undefined)(title, async () => {
  const nats = await startNats();
  const cluster = await startWithBus(nats);
  const [writer, reader] = cluster.gateways;
  await expect.poll(() => cluster.logs(), eventually).toContain("connected to the bus");
  const events = await watch(reader!.url, "w/");
  const writes = writing(writer!.url, "w/");
  await writes.more(50);
  // It is the bus that they came over.
  const { length } = writes.answered;
  await expect.poll(() => busMessages(reader!.url), eventually).toBeGreaterThan(length / 2);
  await nats.kill9();
  await writes.more(50);
  await nats.restart();
  await writes.more(50);
  nats.pause();
  await writes.more(50);
  nats.resume();
  await writes.more(20);
  await nats.kill9();
  await writes.more(20);
  await writes.stop();
  const seen = () => new Set(events);
  await expect
    .poll(() => writes.answered.filter((event) => !seen().has(event)), eventually)
    .toEqual([]);
  // In order for each key; what comes twice comes from an earlier position on.
  const first = [...seen()];
  for (const key of new Set(first.map((event) => event.split("@")[0]))) {
    const revisions = first
      .filter((event) => event.startsWith(`${key}@`))
      .map((event) => Number(event.split("@")[1]));
    expect(revisions).toEqual([...revisions].sort((a, b) => a - b));
  }
  expect(first.length).toBe(writes.answered.length);
});
