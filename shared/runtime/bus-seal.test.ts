import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import { BUS_SENDERS_KEPT_MAX } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { NatsBus } from "./bus.ts";
import { loadSealKeys, SEAL_OVERHEAD_BYTES, SealedBus } from "./bus-seal.ts";
import { FakeNats } from "./testing/fake-nats.ts";

const directory = mkdtempSync(join(tmpdir(), "minikv-seal-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const keyText = (byte: number): string => Buffer.alloc(32, byte).toString("base64");
const keysOf = (...bytes: readonly number[]) =>
  loadSealKeys({ natsSealKey: bytes.map(keyText).join(","), natsSealKeyFile: "" });

/** A sealed bus on a server that delivers to it what it publishes. */
async function fixture(keys = keysOf(1), seed = 1) {
  const nats = new FakeNats();
  const random = new SeededRandom(seed);
  const plain = new NatsBus({
    ...{ servers: ["a:1"], dial: nats.dial, clock: new ManualClock(), random },
    onState: () => {},
  });
  plain.start();
  await new Promise((resolve) => setImmediate(resolve));
  let told = 0;
  const bus = new SealedBus(plain, { keys, random, onRefused: () => told++ });
  const heard: string[] = [];
  bus.subscribe("s", (payload) => heard.push(Buffer.from(payload).toString()));
  return { nats, bus, heard, told: () => told };
}

/** What a bus with these keys sends on `s`. */
async function sealed(text: string, keys = keysOf(1), seed = 7): Promise<Uint8Array> {
  const { nats, bus } = await fixture(keys, seed);
  bus.publish("s", Buffer.from(text));
  return nats.published[0]!.payload;
}

describe("SealedBus", () => {
  it("opens what another process has sealed, and shows none of it to the server", async () => {
    const message = await sealed("a secret");
    const { nats, bus, heard } = await fixture();
    nats.deliver("s", message);
    nats.deliver("s", await sealed(""));
    expect(heard).toEqual(["a secret", ""]);
    expect(Buffer.from(message).includes("secret")).toBe(false);
    expect(message.length).toBe("a secret".length + SEAL_OVERHEAD_BYTES);
    expect(bus.figures().messagesRefused).toBe(0);
  });

  it("seals the same twice in different ways, and two processes do", async () => {
    const { nats, bus } = await fixture();
    bus.publish("s", Buffer.from("x"));
    bus.publish("s", Buffer.from("x"));
    const messages = [...nats.published.map(({ payload }) => payload), await sealed("x")];
    expect(new Set(messages.map((message) => Buffer.from(message).toString("hex"))).size).toBe(3);
  });

  it("refuses a message with any byte changed, cut short, of another subject, or not sealed", async () => {
    const message = await sealed("batch");
    const { nats, bus, heard } = await fixture();
    let refused = 0;
    for (let at = 0; at < message.length; at++) {
      const changed = Uint8Array.from(message);
      changed[at]! ^= 1;
      nats.deliver("s", changed);
      nats.deliver("s", message.subarray(0, at));
      refused += 2;
    }
    bus.subscribe("other", (payload) => heard.push(`other ${payload.length}`));
    nats.deliver("other", message);
    nats.deliver("s", Buffer.from("batch"));
    expect(bus.figures().messagesRefused).toBe(refused + 2);
    expect(heard).toEqual([]);
  });

  it("opens under each of its keys, and nothing under any other", async () => {
    const { nats, bus, heard, told } = await fixture(keysOf(2, 1));
    nats.deliver("s", await sealed("old", keysOf(1)));
    nats.deliver("s", await sealed("new", keysOf(2)));
    nats.deliver("s", await sealed("foreign", keysOf(3)));
    expect(heard).toEqual(["old", "new"]);
    expect(bus.figures().messagesRefused).toBe(1);
    expect(told()).toBe(1);
  });

  it("goes on opening when more processes have sent than it keeps keys of", async () => {
    const { nats, heard } = await fixture();
    for (let seed = 10; seed < BUS_SENDERS_KEPT_MAX + 20; seed++) {
      nats.deliver("s", await sealed("x", keysOf(1), seed));
    }
    nats.deliver("s", await sealed("first again", keysOf(1), 10));
    expect(heard).toHaveLength(BUS_SENDERS_KEPT_MAX + 11);
    expect(heard.at(-1)).toBe("first again");
  });

  it("counts its own bytes in what there is room for", async () => {
    const { nats, bus } = await fixture();
    expect(bus.payloadBytesMax).toBe(nats.payloadBytesMax - SEAL_OVERHEAD_BYTES);
    expect(bus.hasRoom(bus.payloadBytesMax)).toBe(true);
    expect(bus.hasRoom(bus.payloadBytesMax + 1)).toBe(false);
    expect(bus.publish("s", new Uint8Array(bus.payloadBytesMax + 1))).toBe(false);
    expect(bus.figures().messagesDropped).toBe(1);
    nats.break("gone");
    await new Promise((resolve) => setImmediate(resolve));
    expect(bus.payloadBytesMax).toBe(0);
    expect(bus.publish("s", new Uint8Array(1))).toBe(false);
  });
});

describe("loadSealKeys()", () => {
  const file = (text: string, mode = 0o600): string => {
    const path = join(directory, `${Math.random()}`);
    writeFileSync(path, text);
    chmodSync(path, mode);
    return path;
  };
  const fromFile = (path: string) => loadSealKeys({ natsSealKey: "", natsSealKeyFile: path });

  it("reads one key a line from a file, or none at all", () => {
    expect(fromFile(file(`${keyText(1)}\n\n${keyText(2)}\n`))).toHaveLength(2);
    expect(loadSealKeys({ natsSealKey: "", natsSealKeyFile: "" })).toEqual([]);
  });

  it.each([
    "",
    "short",
    `${keyText(1)}!`,
    keyText(1).slice(0, -1),
    Array(9).fill(keyText(1)).join(),
  ])("refuses %j without repeating it", (text) => {
    const path = file(text);
    expect(() => fromFile(path)).toThrow(`nats-seal-key-file ${path}: `);
    try {
      fromFile(path);
    } catch (error) {
      if (text !== "") expect(String(error)).not.toContain(text);
    }
  });

  it("refuses a file that others can read", () => {
    expect(() => fromFile(file(keyText(1), 0o644))).toThrow("chmod 600");
  });
});
