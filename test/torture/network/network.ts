/**
 * The network of a cluster under test: a proxy for each storage node, and rules for its links.
 *
 * Storage nodes advertise the address of their proxy, so nodes and gateways reach them through it
 * alone. Who dialled is found by process id; so every direction between any two processes can be cut,
 * slowed or narrowed by itself, without privileges. Linux only (`socket-owner.ts`).
 */
import { Worker } from "node:worker_threads";
import type { NetworkFigures, NetworkPause, NetworkReply, NetworkRequest } from "./messages.ts";
import { type Layer, merge } from "./rules.ts";

const CLOSE_TIMEOUT_MS = 3_000;

export class Network {
  readonly #worker: Worker;
  readonly #waiting: ((reply: NetworkReply) => void)[] = [];
  readonly #layers = new Map<number, Layer>();
  #lastLayer = 0;
  /** Told when nothing was carried for a while; in milliseconds since 1970. */
  onPause: (fromMs: number, untilMs: number) => void = () => {};

  constructor() {
    this.#worker = new Worker(new URL("./network-thread.ts", import.meta.url));
    this.#worker.on("message", (message: NetworkReply | NetworkPause) => {
      if (message.kind === "paused") this.onPause(message.fromMs, message.untilMs);
      else this.#waiting.shift()!(message);
    });
    this.#worker.on("error", (error) => {
      throw error;
    });
  }

  #ask(request: NetworkRequest): Promise<NetworkReply> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#worker.postMessage(request);
    });
  }

  /** @returns the port under which the node is to be reached. */
  async open(node: string): Promise<number> {
    const reply = await this.#ask({ kind: "open", node });
    if (reply.kind !== "opened") throw new Error(`the network answered ${reply.kind}`);
    return reply.port;
  }

  async setTarget(node: string, port: number | undefined): Promise<void> {
    await this.#ask({ kind: "target", node, port });
  }

  /** Whom connections of `pid` come from, from now on. */
  async setProcess(name: string, pid: number): Promise<void> {
    await this.#ask({ kind: "process", name, pid });
  }

  /** Adds a cause; @returns how to take it away again. */
  async add(layer: Layer): Promise<() => Promise<void>> {
    const id = ++this.#lastLayer;
    this.#layers.set(id, layer);
    await this.#send();
    return async () => {
      if (this.#layers.delete(id)) await this.#send();
    };
  }

  /** Takes all causes away. */
  async heal(): Promise<void> {
    this.#layers.clear();
    await this.#send();
  }

  /** Breaks what `source` has open to `node` now; undefined for everybody. */
  async reset(source: string | undefined, node: string): Promise<void> {
    await this.#ask({ kind: "reset", source, node });
  }

  async figures(): Promise<NetworkFigures> {
    const reply = await this.#ask({ kind: "figures" });
    if (reply.kind !== "figures") throw new Error(`the network answered ${reply.kind}`);
    return reply.figures;
  }

  /** In bounded time: a thread that does not answer is ended all the same. */
  async close(): Promise<void> {
    const tooLate = new Promise<void>((resolve) => setTimeout(resolve, CLOSE_TIMEOUT_MS).unref());
    await Promise.race([this.#ask({ kind: "close" }), tooLate]);
    await Promise.race([this.#worker.terminate(), tooLate]);
  }

  async #send(): Promise<void> {
    await this.#ask({ kind: "rules", rules: [...merge(this.#layers.values())] });
  }
}
