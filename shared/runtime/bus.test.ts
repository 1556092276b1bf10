import { describe, expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import {
  BUS_ANSWER_TIMEOUT_MS,
  BUS_BACKOFF_MS_MAX,
  BUS_PING_INTERVAL_MS,
  BUS_REASONS_TOLD_MAX,
} from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { type BusState, NatsBus } from "./bus.ts";
import { FakeNats } from "./testing/fake-nats.ts";

const utf8 = (text: string): Uint8Array => Buffer.from(text);

function fixture(options: { servers?: readonly string[]; waitingBytesMax?: number } = {}) {
  const nats = new FakeNats();
  const clock = new ManualClock();
  const states: BusState[] = [];
  const bus = new NatsBus({
    servers: options.servers ?? ["a:1"],
    dial: nats.dial,
    clock,
    random: new SeededRandom(1),
    onState: (state) => states.push(state),
    ...(options.waitingBytesMax === undefined ? {} : { waitingBytesMax: options.waitingBytesMax }),
  });
  /** Lets promises settle, then time pass, in steps. */
  const pass = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 50) {
      await settle();
      clock.advance(Math.min(50, ms - passed));
    }
    await settle();
  };
  return { nats, clock, states, bus, pass };
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("NatsBus", () => {
  it("starts without a server, tries for ever, and tells each reason once", async () => {
    const { nats, states, bus, pass } = fixture();
    nats.refusal = "connection refused";
    bus.start();
    await pass(60_000);
    expect(states).toEqual([{ kind: "disconnected", reason: "connection refused" }]);
    // Never faster than half the longest pause, once that is reached, and never slower than it.
    expect(nats.attempts).toBeGreaterThan(60_000 / BUS_BACKOFF_MS_MAX);
    expect(nats.attempts).toBeLessThan(60_000 / (BUS_BACKOFF_MS_MAX / 2) + 10);
    nats.refusal = "Authorization Violation";
    await pass(10_000);
    nats.refusal = undefined;
    await pass(BUS_BACKOFF_MS_MAX);
    expect(states.slice(1)).toEqual([
      { kind: "disconnected", reason: "Authorization Violation" },
      { kind: "connected", server: "a:1" },
    ]);
  });

  it("tells only so many different reasons of one outage, and nothing unprintable", async () => {
    const { nats, states, bus, pass } = fixture();
    let attempt = 0;
    nats.onAttempt = () => {
      nats.refusal = `reason ${attempt++}\n\u001b[31m`;
    };
    bus.start();
    await pass(60_000);
    expect(states).toHaveLength(BUS_REASONS_TOLD_MAX);
    expect(states[0]).toEqual({ kind: "disconnected", reason: "reason 0 [31m" });
  });

  it("drops what cannot be sent, and does not send it later", async () => {
    const { nats, bus, pass } = fixture();
    expect(bus.publish("s", utf8("before"))).toBe(false);
    bus.start();
    await pass(0);
    expect(bus.publish("s", utf8("one"))).toBe(true);
    nats.break("gone");
    await pass(0);
    expect(bus.isConnected).toBe(false);
    expect(bus.publish("s", utf8("while away"))).toBe(false);
    await pass(BUS_BACKOFF_MS_MAX);
    expect(bus.publish("s", utf8("two"))).toBe(true);
    expect(nats.texts()).toEqual(["one", "two"]);
    expect(bus.figures()).toMatchObject({ messagesSent: 2, messagesDropped: 2, connects: 2 });
  });

  it("subscriptions hold over reconnects, until they are ended", async () => {
    const { nats, bus, pass } = fixture();
    const heard: string[] = [];
    const end = bus.subscribe("s", (payload) => heard.push(Buffer.from(payload).toString()));
    bus.start();
    await pass(0);
    nats.deliver("s", utf8("one"));
    nats.break("gone");
    await pass(BUS_BACKOFF_MS_MAX);
    nats.deliver("s", utf8("two"));
    end();
    nats.deliver("s", utf8("three"));
    nats.break("gone again");
    await pass(BUS_BACKOFF_MS_MAX);
    expect(nats.subjects()).toEqual([]);
    expect(heard).toEqual(["one", "two"]);
  });

  it("sends no more than a bound ahead of the server, and goes on when that has it all", async () => {
    const { nats, bus, pass } = fixture({ waitingBytesMax: 200_000 });
    bus.start();
    await pass(0);
    nats.answers = false;
    const message = new Uint8Array(10_000);
    let sent = 0;
    for (let i = 0; i < 100; i++) if (bus.publish("s", message)) sent++;
    expect(sent).toBeGreaterThan(10);
    expect(sent).toBeLessThanOrEqual(20);
    expect(bus.hasRoom(message.length)).toBe(false);
    expect(bus.figures().bytesWaiting).toBeLessThanOrEqual(200_000);
    expect(bus.figures().messagesDropped).toBe(100 - sent);
    nats.answers = true;
    await pass(0);
    expect(bus.publish("s", message)).toBe(true);
  });

  it("cuts a server that does not answer, says so, and dials again", async () => {
    const { nats, states, bus, pass } = fixture();
    bus.start();
    await pass(10 * BUS_PING_INTERVAL_MS);
    expect(states).toHaveLength(1);
    nats.answers = false;
    await pass(BUS_ANSWER_TIMEOUT_MS + 2 * BUS_PING_INTERVAL_MS);
    expect(states[1]).toEqual({ kind: "disconnected", reason: "the server does not answer" });
    nats.answers = true;
    await pass(BUS_BACKOFF_MS_MAX);
    expect(states[2]).toEqual({ kind: "connected", server: "a:1" });
    expect(nats.open).toBe(1);
  });

  it("tries its servers in turns", async () => {
    const { nats, bus, pass } = fixture({ servers: ["a:1", "b:2", "c:3"] });
    nats.refusal = "connection refused";
    bus.start();
    await pass(20_000);
    const tried = nats.dialled.slice(0, 6);
    expect(new Set(tried.slice(0, 3))).toEqual(new Set(["a:1", "b:2", "c:3"]));
    expect(tried.slice(3)).toEqual(tried.slice(0, 3));
  });

  it("tells once on a connection that something is not permitted", async () => {
    const { nats, states, bus, pass } = fixture();
    bus.start();
    await pass(0);
    nats.refuse('Permissions Violation for Publish to "x"');
    nats.refuse('Permissions Violation for Publish to "x"');
    expect(states.filter(({ kind }) => kind === "refused")).toHaveLength(1);
  });

  it("close() lets what was sent leave, waits no longer than it is told, and ends attempts", async () => {
    const { nats, bus, pass } = fixture();
    bus.start();
    await pass(0);
    bus.publish("s", utf8("last"));
    await bus.close(1_000);
    expect(nats.texts()).toEqual(["last"]);
    expect(nats.open).toBe(0);

    const hung = fixture();
    hung.bus.start();
    await hung.pass(0);
    hung.nats.answers = false;
    let closed = false;
    void hung.bus.close(1_000).then(() => {
      closed = true;
    });
    await hung.pass(900);
    expect(closed).toBe(false);
    await hung.pass(100);
    expect(closed).toBe(true);
    expect(hung.nats.open).toBe(0);

    const waiting = fixture();
    waiting.nats.refusal = "connection refused";
    waiting.bus.start();
    await waiting.pass(500);
    await waiting.bus.close(1_000);
    const { attempts } = waiting.nats;
    await waiting.pass(10_000);
    expect(waiting.nats.attempts).toBe(attempts);
  });

  it("closes a connection that comes about when it is closed already", async () => {
    const { nats, bus, pass } = fixture();
    bus.start();
    await bus.close(1_000);
    await pass(0);
    expect(nats.dialled).toHaveLength(1);
    expect(nats.open).toBe(0);
  });
});
