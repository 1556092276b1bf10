/**
 * The bus over a real NATS server: what publishers send, what gateways hear of it, and what happens to both
 * when the server is slow or gone.
 */
import { createServer, type Socket } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "#shared/clock.ts";
import { BUS_WAITING_BYTES_MAX } from "#shared/limits.ts";
import { systemRandom } from "#shared/random.ts";
import { type BusState, NatsBus } from "#shared/runtime/bus.ts";
import { natsDial } from "#shared/runtime/nats.ts";
import { findProgram, skippedWithout } from "#test/processes/programs.ts";
import { batchOf, configOf, SEVEN, startGateway, startNats, startNode } from "./bus-fixture.ts";

const eventually = { timeout: 20_000, interval: 20 };
const range = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

describe.skipIf(findProgram("nats-server") === undefined)(
  `over NATS${skippedWithout("nats-server")}`,
  () => {
    it("each gateway hears of batches, in order and whole, and of heads", async () => {
      const nats = await startNats();
      const node = await startNode(configOf(nats));
      const gateways = [await startGateway(configOf(nats)), await startGateway(configOf(nats))];
      for (const { live } of gateways) {
        await expect.poll(() => live.silenceMs(SEVEN), eventually).toBeLessThan(2_000);
      }
      for (let turn = 0; turn < 50; turn++) {
        node.apply(3, 100);
        node.apply();
        await new Promise((resolve) => setImmediate(resolve));
      }
      for (const { revisions, batches, head } of gateways) {
        await expect.poll(() => revisions().length, eventually).toBe(200);
        expect(revisions()).toEqual(range(1, 200));
        expect(batches[0]).toEqual({
          ...batchOf(0, 4),
          changes: [...batchOf(0, 3, 100).changes, ...batchOf(3).changes],
        });
        await expect.poll(head, eventually).toBe(200);
      }
      expect(node.publisher.figures()).toEqual({ changesPublished: 200, changesDropped: 0 });
    });

    it("nodes of another cluster are not heard", async () => {
      const nats = await startNats();
      const gateway = await startGateway(configOf(nats));
      const other = await startNode(configOf(nats), "minikv-2");
      const own = await startNode(configOf(nats));
      await expect.poll(() => gateway.live.silenceMs(SEVEN), eventually).toBeLessThan(2_000);
      other.apply(5);
      own.apply(1);
      await expect.poll(() => gateway.revisions(), eventually).toEqual([1]);
      expect(gateway.head()).toBeLessThan(2);
    });

    it("starts without a server, and finds it when it comes", async () => {
      const nats = await startNats();
      await nats.kill9();
      const node = await startNode(configOf(nats));
      const gateway = await startGateway(configOf(nats));
      await expect
        .poll(() => node.bus.bus.figures().connectFailures, eventually)
        .toBeGreaterThan(3);
      node.apply(10);
      expect(node.publisher.figures()).toEqual({ changesPublished: 0, changesDropped: 10 });
      expect(node.bus.messages()).toEqual([
        expect.objectContaining({ level: "warn", reason: "connection refused" }),
      ]);
      expect(gateway.live.silenceMs(SEVEN)).toBe(Number.POSITIVE_INFINITY);
      await nats.restart();
      // What was dropped is told by the head alone.
      await expect.poll(() => gateway.head(), eventually).toBe(10);
      node.apply();
      await expect.poll(() => gateway.revisions(), eventually).toEqual([11]);
    });

    it("a server that is killed and started again is found again, subscriptions and all", async () => {
      const nats = await startNats();
      const node = await startNode(configOf(nats));
      const gateway = await startGateway(configOf(nats));
      await expect.poll(() => gateway.live.silenceMs(SEVEN), eventually).toBeLessThan(2_000);
      for (let round = 1; round <= 3; round++) {
        await nats.kill9();
        await expect.poll(() => node.bus.bus.isConnected, eventually).toBe(false);
        node.apply();
        await nats.restart();
        await expect.poll(() => gateway.head(), eventually).toBe(2 * round - 1);
        node.apply();
        await expect.poll(() => gateway.revisions().at(-1), eventually).toBe(2 * round);
      }
      // One loss and at most two reasons of each outage.
      expect(node.bus.lines.length).toBeLessThanOrEqual(1 + 3 * 3);
    });

    it("a server that stops reading costs dropped messages, bounded memory and no time", async () => {
      const nats = await startNats();
      const node = await startNode(configOf(nats));
      const gateway = await startGateway(configOf(nats));
      await expect.poll(() => gateway.live.silenceMs(SEVEN), eventually).toBeLessThan(2_000);
      nats.pause();
      // Four times what may wait.
      const changes = 100 * Math.ceil((4 * BUS_WAITING_BYTES_MAX) / 400_000);
      for (let sent = 0; sent < changes; sent += 100) {
        node.apply(100, 4_000);
        await new Promise((resolve) => setImmediate(resolve));
        expect(node.bus.bus.figures().bytesWaiting).toBeLessThanOrEqual(BUS_WAITING_BYTES_MAX);
      }
      expect(node.publisher.figures().changesDropped).toBeGreaterThan(changes / 2);
      await expect.poll(() => node.bus.bus.isConnected, eventually).toBe(false);
      expect(node.bus.messages().at(-1)).toMatchObject({ reason: "the server does not answer" });
      nats.resume();
      await expect.poll(() => gateway.head(), eventually).toBe(changes);
      node.apply();
      await expect.poll(() => gateway.revisions().at(-1), eventually).toBe(changes + 1);
    });

    it("what accepts connections and is no NATS server, or says nothing, is told as such", async () => {
      const nats = await startNats();
      await nats.kill9();
      let greeting = "SSH-2.0\r\n";
      const sockets = new Set<Socket>();
      const stranger = createServer((socket) => {
        sockets.add(socket);
        socket.on("error", () => {});
        socket.on("close", () => sockets.delete(socket));
        if (greeting !== "") socket.write(greeting);
      });
      await new Promise<void>((resolve) => stranger.listen(nats.port, "127.0.0.1", resolve));
      onTestFinished(() => void stranger.close());
      const states: BusState[] = [];
      const bus = new NatsBus({
        servers: [nats.address],
        dial: natsDial({ config: configOf(nats), tls: false, name: "t", connectTimeoutMs: 300 }),
        ...{ clock: systemClock(), random: systemRandom() },
        onState: (state) => states.push(state),
      });
      bus.start();
      const told = (reason: string) => expect.objectContaining({ kind: "disconnected", reason });
      await expect
        .poll(() => states, eventually)
        .toEqual([told("what answers there is no NATS server")]);
      greeting = "INFO {}\r\n";
      await expect.poll(() => states, eventually).toHaveLength(2);
      greeting = "";
      await expect
        .poll(() => states, eventually)
        .toContainEqual(told("the server does not answer"));
      // No attempt leaves a socket behind.
      await expect.poll(() => sockets.size, eventually).toBe(0);
      await bus.close(100);
    });
  },
);
