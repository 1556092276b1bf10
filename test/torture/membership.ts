/**
 * Nodes that come and go while everything else goes on: one joins, takes its share, then one of all is
 * drained, removed, and its data thrown away. Again and again.
 *
 * Under faults each step may take long. A drain that is not over in time is cancelled, as an operator
 * might do, and another node is drained later.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "#shared/random.ts";
import { adminRequest, waitForStatus } from "./cluster/admin.ts";
import type { Cluster } from "./cluster/cluster.ts";
import type { Totals } from "./totals.ts";

const SHARE_TIMEOUT_MS = 180_000;
const DRAIN_TIMEOUT_MS = 300_000;
const REST_MS_MAX = 20_000;
const RETRY_MS = 1_000;
/** Replicas after which a new node counts as taking part. */
const SHARE_LEAST = 16;

export type MembershipOptions = {
  readonly cluster: Cluster;
  readonly random: Random;
  readonly totals: Totals;
  readonly log: (text: string) => void;
  readonly isOver: () => boolean;
};

export class Membership {
  readonly #options: MembershipOptions;
  readonly #urls: readonly string[];
  /** Ids by the name of the node. */
  readonly #ids = new Map<string, number>();
  #lastName: number;

  constructor(options: MembershipOptions) {
    const { cluster } = options;
    this.#options = options;
    this.#urls = cluster.gateways.map(({ url }) => url);
    this.#lastName = cluster.nodes.length;
  }

  async run(): Promise<void> {
    const { cluster, random, isOver } = this.#options;
    for (const { name } of cluster.nodes) this.#ids.set(name, await cluster.idOf(name));
    while (!isOver()) {
      await this.#join();
      await this.#rest(random.below(REST_MS_MAX));
      const names = cluster.nodes.map(({ name }) => name);
      if (!isOver()) await this.#drain(names[random.below(names.length)]!);
      await this.#rest(random.below(REST_MS_MAX));
    }
  }

  async #join(): Promise<void> {
    const { cluster, totals, log } = this.#options;
    const name = `n${++this.#lastName}`;
    log(`${name} joins`);
    await cluster.join(name);
    const id = await this.#joinedId(name);
    if (id === undefined) return;
    this.#ids.set(name, id);
    const hasShare = await this.#until(SHARE_TIMEOUT_MS, id, (replicas) => replicas >= SHARE_LEAST);
    log(
      `${name} is node ${id}${hasShare ? ", and holds replicas" : ", and holds few replicas yet"}`,
    );
    if (hasShare) totals.joins++;
  }

  /** It may be killed on its way. */
  async #joinedId(name: string): Promise<number | undefined> {
    const { cluster, isOver } = this.#options;
    while (!isOver()) {
      const id = await cluster.idOf(name).catch(() => undefined);
      if (id !== undefined) return id;
      await sleep(RETRY_MS);
    }
    return undefined;
  }

  async #drain(name: string): Promise<void> {
    const { cluster, totals, log, isOver } = this.#options;
    const id = this.#ids.get(name);
    if (id === undefined) return;
    log(`${name}, node ${id}, is drained`);
    if (await this.#change("POST", `/admin/nodes/${id}/drain`)) totals.drainsBegun++;
    const isEmpty = await this.#until(DRAIN_TIMEOUT_MS, id, (replicas) => replicas === 0);
    if (!isEmpty) {
      if (isOver()) return;
      totals.cancelledDrains++;
      log(`${name} is not empty in time; its drain is cancelled`);
      await this.#change("DELETE", `/admin/nodes/${id}/drain`);
      return;
    }
    cluster.node(name).process.mayEnd = true;
    if (!(await this.#change("DELETE", `/admin/nodes/${id}`))) return;
    await cluster.retire(name);
    totals.drains++;
    log(`${name} was empty, and is gone`);
  }

  /** @returns whether it was accepted; a repeated one may find it done already. */
  async #change(method: "POST" | "DELETE", path: string): Promise<boolean> {
    const { log, isOver } = this.#options;
    for (let turn = 0; !isOver(); turn++) {
      const url = this.#urls[turn % this.#urls.length]!;
      const { status, body } = await adminRequest(url, method, path);
      if (status === 200) return true;
      if (status >= 400 && status < 500) {
        log(`${method} ${path}: ${status} ${String(body.detail)}`);
        return status === 404;
      }
      await sleep(RETRY_MS);
    }
    return false;
  }

  async #until(
    timeoutMs: number,
    id: number,
    accept: (replicas: number) => boolean,
  ): Promise<boolean> {
    const { isOver } = this.#options;
    const found = await waitForStatus(this.#urls, timeoutMs, ({ nodes }) => {
      if (isOver()) return false;
      const node = nodes.find((one) => one.id === id);
      return node !== undefined && accept(node.replicas) ? true : undefined;
    });
    return found === true;
  }

  async #rest(ms: number): Promise<void> {
    const untilMs = performance.now() + ms;
    while (!this.#options.isOver() && performance.now() < untilMs) await sleep(100);
  }
}
