/** What comes over the bus, before anybody knows who sent it, and where the bus is. */

import { SeededRandom } from "#shared/random.ts";
import type { Bus, BusHandler } from "#shared/runtime/bus.ts";
import { loadSealKeys, SealedBus } from "#shared/runtime/bus-seal.ts";
import { formatHostPort, isLoopback } from "#shared/runtime/config-value.ts";
import { natsSettings, parseNatsUrl, refuseNatsConfig } from "#shared/runtime/nats-settings.ts";
import { type FuzzTarget, holds, latin1Text, textSamples } from "#test/fuzz/target.ts";

const DEFAULTS = Object.fromEntries(
  Object.entries(natsSettings).map(([name, { default: value }]) => [name, value]),
) as Parameters<typeof refuseNatsConfig>[0];

const natsUrl: FuzzTarget = {
  name: "nats-url",
  samples: textSamples(
    "nats://127.0.0.1:4222",
    "tls://a.example,tls://b.example:1",
    "nats://[::1]:7/, nats://localhost",
  ),
  words: [
    "nats://",
    "tls://",
    "ws://",
    "@",
    "user:secret@",
    ",",
    ":",
    "[",
    "]",
    "/",
    "?",
    "#",
    "127.0.0.1",
  ],
  check: (input) => {
    const text = latin1Text(input);
    const parsed = parseNatsUrl(text);
    const refusal = refuseNatsConfig({ ...DEFAULTS, natsUrl: text });
    if (parsed === undefined) {
      holds(text === "" || refusal !== undefined, "what cannot be read is refused");
      return false;
    }
    holds(!text.includes("@"), "credentials are no part of a URL");
    const scheme = parsed.tls ? "tls" : "nats";
    const shown = parsed.servers.map((server) => `${scheme}://${formatHostPort(server)}`).join();
    const again = parseNatsUrl(shown);
    holds(JSON.stringify(again) === JSON.stringify(parsed), "it is read as it is shown");
    const isNear = parsed.servers.every(({ host }) => isLoopback(host));
    holds(isNear || refusal !== undefined, "without credentials only this machine is allowed");
    return true;
  },
};

const SUBJECT = "minikv.c.changes.7";
const keys = loadSealKeys({
  natsSealKey: [1, 2].map((byte) => Buffer.alloc(32, byte).toString("base64")).join(),
  natsSealKeyFile: "",
});

/** A bus that gives what is published to `onSent`, and what comes in to the handler. */
function sealedBus(seed: number, onSent: (message: Uint8Array) => void) {
  let handler: BusHandler = () => {};
  const nothing = {
    ...{ connected: 1, connects: 0, connectFailures: 0, messagesSent: 0, bytesSent: 0 },
    ...{ messagesDropped: 0, messagesReceived: 0, bytesReceived: 0, messagesRefused: 0 },
    bytesWaiting: 0,
  };
  const bus: Bus = {
    isConnected: true,
    payloadBytesMax: 1_000_000,
    hasRoom: () => true,
    publish: (_, message) => {
      onSent(message);
      return true;
    },
    subscribe: (_, given) => {
      handler = given;
      return () => {};
    },
    figures: () => nothing,
  };
  const sealed = new SealedBus(bus, { keys, random: new SeededRandom(seed), onRefused: () => {} });
  return { sealed, deliver: (message: Uint8Array) => handler(message) };
}

const authentic = new Map<string, string>();
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

const sealedMessage: FuzzTarget = {
  name: "sealed-message",
  samples: (seed) => {
    const samples: Uint8Array[] = [];
    let text = "";
    const { sealed } = sealedBus(seed, (message) => {
      authentic.set(hex(message), hex(Buffer.from(text)));
      samples.push(message);
    });
    for (text of ["", "a", "a message of some length"]) sealed.publish(SUBJECT, Buffer.from(text));
    return samples;
  },
  check: (input) => {
    let opened: Uint8Array | undefined;
    const { sealed, deliver } = sealedBus(1, () => {});
    sealed.subscribe(SUBJECT, (payload) => {
      opened = payload;
    });
    deliver(input);
    holds(
      (opened && hex(opened)) === authentic.get(hex(input)),
      "what was sealed is opened, and nothing else",
    );
    return opened !== undefined;
  },
};

export const BUS_TARGETS: readonly FuzzTarget[] = [natsUrl, sealedMessage];
