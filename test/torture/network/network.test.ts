/** The network between processes, with real sockets and a real process at one end. */
import { type ChildProcess, spawn } from "node:child_process";
import { createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Network } from "./network.ts";
import { bothWays, linkName, merge } from "./rules.ts";
import { inodeOfConnection } from "./socket-owner.ts";

/** A process that keeps a connection, says what it is told to say, and tells what it hears. */
const DIALLER = `
const net = require("node:net");
let socket;
const dial = (port) => {
  socket = net.connect(port, "127.0.0.1");
  socket.on("data", (d) => process.send({ heard: d.toString() }));
  socket.on("error", () => {});
  socket.on("close", () => process.send({ closed: true }));
};
process.on("message", (m) => {
  if (m.dial) dial(m.dial);
  if (m.say) socket.write(m.say);
});
process.send({ ready: true });
`;

type Told = { readonly heard?: string; readonly closed?: boolean; readonly ready?: boolean };

const echoOf = (text: string): string => text.replaceAll(/./g, (c) => `<${c}>`);

class Dialler {
  readonly child: ChildProcess;
  heard = "";
  closed = 0;
  ready = false;

  constructor() {
    this.child = spawn(process.execPath, ["-e", DIALLER], {
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    this.child.on("message", (told: Told) => {
      this.heard += told.heard ?? "";
      if (told.closed) this.closed++;
      if (told.ready) this.ready = true;
    });
  }

  say(text: string): void {
    this.child.send({ say: text });
  }

  async dial(port: number): Promise<void> {
    await expect.poll(() => this.ready, { timeout: 20_000 }).toBe(true);
    this.child.send({ dial: port });
  }
}

describe.skipIf(process.platform !== "linux")("the network", () => {
  let network: Network;
  let server: Server;
  let dialler: Dialler;
  let port: number;
  let heard = "";
  let sockets: Socket[] = [];

  beforeEach(async () => {
    heard = "";
    sockets = [];
    network = new Network();
    server = createServer((socket) => {
      sockets.push(socket);
      socket.on("error", () => {});
      socket.on("data", (data) => {
        heard += data.toString();
        socket.write(echoOf(data.toString()));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    port = await network.open("n1");
    await network.setTarget("n1", address.port);
    dialler = new Dialler();
    await network.setProcess("g1", dialler.child.pid!);
  });

  afterEach(async () => {
    dialler.child.kill("SIGKILL");
    await network.close();
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  const everythingIsHeard = async (text: string): Promise<void> => {
    await expect.poll(() => heard, { timeout: 20_000 }).toBe(text);
    await expect.poll(() => dialler.heard, { timeout: 20_000 }).toBe(echoOf(text));
  };
  it("carries bytes both ways, and knows who dialled", async () => {
    await dialler.dial(port);
    dialler.say("a");
    await everythingIsHeard("a");
    expect(await network.figures()).toEqual({ connections: 1, unknownSources: 0 });
  });

  it("keeps one direction silent, and delivers when it is well again", async () => {
    await dialler.dial(port);
    dialler.say("a");
    await everythingIsHeard("a");
    const heal = await network.add([[linkName("n1", "g1"), { block: "silent" }]]);
    dialler.say("b");
    await expect.poll(() => heard, { timeout: 20_000 }).toBe("ab");
    await sleep(200);
    expect(dialler.heard).toBe("<a>");
    await heal();
    await everythingIsHeard("ab");
    expect(dialler.closed).toBe(0);
  });

  it("leaves links alone that no rule is for", async () => {
    await network.add(bothWays([["g2", "n1"]], { block: "reset" }));
    await dialler.dial(port);
    dialler.say("a");
    await everythingIsHeard("a");
  });

  it("lets a new connection lead nowhere while its link is silent", async () => {
    const heal = await network.add(bothWays([["g1", "n1"]], { block: "silent" }));
    await dialler.dial(port);
    dialler.say("a");
    await sleep(200);
    expect([heard, dialler.closed, sockets.length]).toEqual(["", 0, 0]);
    await heal();
    await everythingIsHeard("a");
  });

  it("does not let a silent link tell of the end of a connection", async () => {
    await dialler.dial(port);
    dialler.say("a");
    await everythingIsHeard("a");
    const heal = await network.add([[linkName("n1", "g1"), { block: "silent" }]]);
    sockets[0]!.destroy();
    await sleep(200);
    expect(dialler.closed).toBe(0);
    await heal();
    await expect.poll(() => dialler.closed, { timeout: 20_000 }).toBe(1);
  });

  it("breaks connections, and refuses new ones until it is healed", async () => {
    await dialler.dial(port);
    dialler.say("a");
    await everythingIsHeard("a");
    await network.add(bothWays([["g1", "n1"]], { block: "reset" }));
    await expect.poll(() => dialler.closed, { timeout: 20_000 }).toBe(1);
    await dialler.dial(port);
    await expect.poll(() => dialler.closed, { timeout: 20_000 }).toBe(2);
    await network.heal();
    await dialler.dial(port);
    dialler.say("b");
    await everythingIsHeard("ab");
  });

  it("breaks what is open, once", async () => {
    await dialler.dial(port);
    dialler.say("a");
    await everythingIsHeard("a");
    await network.reset("g2", "n1");
    dialler.say("b");
    await everythingIsHeard("ab");
    await network.reset("g1", "n1");
    await expect.poll(() => dialler.closed, { timeout: 20_000 }).toBe(1);
  });

  it("delays and narrows", async () => {
    await dialler.dial(port);
    dialler.say("a");
    await everythingIsHeard("a");
    await network.add([[linkName("g1", "n1"), { delayMs: 150, bytesPerSecond: 100 }]]);
    const begunMs = performance.now();
    dialler.say("b");
    dialler.say("c");
    await everythingIsHeard("abc");
    expect(performance.now() - begunMs).toBeGreaterThan(150);
  });

  it("refuses connections to a node that is nowhere", async () => {
    await network.setTarget("n1", undefined);
    await dialler.dial(port);
    await expect.poll(() => dialler.closed, { timeout: 20_000 }).toBe(1);
  });
});

describe("merge()", () => {
  it("takes the worst block, all delays, the narrowest width", () => {
    const link = linkName("a", "b");
    const rules = merge([
      [[link, { block: "reset", delayMs: 5 }]],
      [[link, { block: "silent", bytesPerSecond: 1000 }]],
      [[link, { delayMs: 7, bytesPerSecond: 500 }]],
      [[linkName("b", "a"), { delayMs: 1 }]],
    ]);
    expect(rules.get(link)).toEqual({ block: "reset", delayMs: 12, bytesPerSecond: 500 });
    expect(rules.get("b>a")).toEqual({ delayMs: 1 });
    expect(merge([[[link, {}]]]).get(link)).toEqual({});
  });
});

describe("inodeOfConnection()", () => {
  const TABLE = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 179 1 0
   1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 02:000A 00000000     0        0 4711 2 0
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 02:000A 00000000     0        0 4712 2 0
   3: 0100007F:C351 0100007F:1F90 06 00000000:00000000 02:000A 00000000     0        0 0 2 0
`;

  it("finds the dialling side's own socket", () => {
    expect(inodeOfConnection(TABLE, 50_000, 8080)).toBe("4711");
  });

  it("finds nothing for a socket without an owner, or that is not there", () => {
    expect(inodeOfConnection(TABLE, 50_001, 8080)).toBeUndefined();
    expect(inodeOfConnection(TABLE, 50_000, 8081)).toBeUndefined();
  });
});
