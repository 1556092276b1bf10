/** Many watches at once: in many groups, in one, and with much the same tokens. */
import { describe, expect, it } from "vitest";
import { WATCH_FLUSH_SLICE_MS } from "#shared/limits.ts";
import type { ResumeToken } from "./resume-token.ts";
import { FakeClient, openTestHub, query } from "./testing.ts";
import type { Watch } from "./watches.ts";

describe("Hub with a crowd", () => {
  it("writes to many groups in slices, between which others have their turn", async () => {
    const { open, write, advance, clock } = openTestHub();
    let spentMs = 0;
    const { monotonicMs } = clock;
    clock.monotonicMs = () => monotonicMs.call(clock) + spentMs;
    const clients = Array.from({ length: 20 }, () => new FakeClient());
    const told = (): number => clients.filter((one) => one.names().length === 2).length;
    const seen = new Set<number>();
    for (const [i, client] of clients.entries()) {
      await open(query({ prefix: "{t}".padEnd(3 + i, "x") }), client);
      const take = client.write.bind(client);
      client.write = (bytes) => {
        spentMs += WATCH_FLUSH_SLICE_MS / 4;
        clock.after(0, () => seen.add(told()));
        return take(bytes);
      };
    }
    await advance(1_000);
    seen.clear();
    write({ key: `{t}${"x".repeat(30)}` });
    await advance(1_000);
    expect([...seen]).toEqual([4, 8, 12, 16, 20]);
    write({ key: "{t}" });
    await advance(1_000);
    expect(clients[0]!.names().length).toBe(3);
  });

  describe("in the middle of a group's watches", () => {
    /** Of a group of 20 half have the first event, and there is a second one. */
    const openHalfway = async (between: (watches: readonly Watch[]) => void) => {
      const world = openTestHub({ bounds: { recentBytes: 10_000, clientBytes: 10 } });
      const { open, write, advance, clock } = world;
      let spentMs = 0;
      const { monotonicMs } = clock;
      clock.monotonicMs = () => monotonicMs.call(clock) + spentMs;
      const clients = Array.from({ length: 20 }, () => new FakeClient());
      const watches: Watch[] = [];
      for (const client of clients) watches.push(await open(query({ prefix: "{t}" }), client));
      await advance(1_000);
      let left = 10;
      for (const client of clients) {
        const take = client.write.bind(client);
        client.write = (bytes) => {
          if (--left === 0) {
            spentMs += WATCH_FLUSH_SLICE_MS;
            clock.after(0, () => {
              write({ key: "{t}2" });
              between(watches);
            });
          }
          return take(bytes);
        };
      }
      write({ key: "{t}1" });
      return { ...world, clients, watches };
    };
    const both = ["progress", "put {t}1", "put {t}2"];

    it("others have their turn, and each watch gets all of it once", async () => {
      const halfway: string[][] = [];
      const { clients, advance } = await openHalfway(() => {
        halfway.push(...clients.map((one) => one.names()));
      });
      await advance(200);
      expect(halfway.map(({ length }) => length)).toEqual(clients.map((_, i) => (i < 10 ? 2 : 1)));
      expect(clients.map((one) => one.names())).toEqual(clients.map(() => both));
      const tokens = clients.map((one) => one.lastToken());
      expect(new Set(tokens).size).toBe(1);
    });

    it("a watch that ends, falls behind or joins then misses nothing", async () => {
      const late = new FakeClient();
      const { clients, watches, advance, open, hub } = await openHalfway(() => {
        watches[18]!.finish({ kind: "drain" });
        void open(query({ prefix: "{t}" }), late);
      });
      clients[19]!.isFull = true;
      await advance(300);
      expect(clients[18]!.names()).toEqual([...both, "drain"]);
      expect(hub.figures().watchesBehind).toBe(1);
      clients[19]!.isFull = false;
      watches[19]!.drained();
      await advance(300);
      expect(clients[19]!.names().filter((name) => name !== "resync")).toEqual(both);
      expect(late.names()).toEqual(["progress"]);
    });
  });

  it("reads the log once for all who come with much the same tokens", async () => {
    const { hub, open, write, advance, log } = openTestHub({
      bounds: { recentBytes: 0, clientBytes: 10_000 },
    });
    const first = new FakeClient();
    const tokens: (ResumeToken | undefined)[] = [];
    await open(query({ prefix: "{t}" }), first);
    for (let i = 0; i < 40; i++) {
      await advance(100);
      tokens.push(first.lastToken());
      write({ key: `{t}${i}` });
    }
    await advance(100);
    log.reads = 0;
    const clients = Array.from({ length: 50 }, () => new FakeClient());
    const places = clients.map((_, i) => i % 4);
    for (const [i, client] of clients.entries()) {
      await open(query({ prefix: "{t}" }), client, tokens[places[i]!]);
    }
    await advance(1_000);
    for (const [i, client] of clients.entries()) {
      const puts = client.names().filter((name) => name !== "progress");
      expect(puts).toEqual(first.names().slice(1 + places[i]!));
    }
    expect(hub.figures().watchesBehind).toBe(0);
    expect(log.reads).toBeLessThan(4 * (40 / log.pieceMax + 1));
    // They are kept for a while only, and what is asked behind the last one is asked anew.
    await advance(2_000);
    const before = log.reads;
    const late = new FakeClient();
    await open(query({ prefix: "{t}" }), late, tokens[0]);
    await advance(1_000);
    expect(late.names().length).toBe(41);
    expect(log.reads).toBeGreaterThanOrEqual(before + 40 / log.pieceMax);
  });
});
