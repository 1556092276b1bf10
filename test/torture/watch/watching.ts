/**
 * The watchers of one round: some stay where they are, some reconnect all the time, some read slowly. They begin
 * before the load does, and at the end each of them has to have come as far as the change logs go.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { SeededRandom } from "#shared/random.ts";
import type { KeyOperation } from "#test/linearizability/operation.ts";
import {
  changesByKey,
  judgeLog,
  judgeWatcher,
  type Told,
} from "#test/torture/checks/watch-histories.ts";
import { type SeenChange, Watcher } from "./watcher.ts";

export type WatchingOptions = {
  readonly urls: readonly string[];
  readonly seed: number;
  /** All keys of the round begin with it and a slash. */
  readonly name: string;
};

type Kind = {
  readonly name: string;
  readonly prefix: string;
  readonly ops?: readonly SeenChange["op"][];
  readonly hasValues: boolean;
  readonly isRestless: boolean;
  readonly isSlow: boolean;
};

const calm = { hasValues: false, isRestless: false, isSlow: false };
const KINDS: readonly Kind[] = [
  { ...calm, name: "all", prefix: "" },
  { ...calm, name: "values", prefix: "", hasValues: true },
  { ...calm, name: "restless", prefix: "", isRestless: true },
  { ...calm, name: "restless-values", prefix: "hot-", isRestless: true, hasValues: true },
  { ...calm, name: "slow", prefix: "", isSlow: true, hasValues: true },
  { ...calm, name: "slow-restless", prefix: "", isSlow: true, isRestless: true },
  { ...calm, name: "hot", prefix: "hot-" },
  { ...calm, name: "deletes", prefix: "", ops: ["delete"], isRestless: true },
];
const START_MS_MAX = 60_000;
const POLL_MS = 100;

export class Watching {
  readonly #options: WatchingOptions;
  readonly #random: SeededRandom;
  readonly #watchers: readonly { readonly watcher: Watcher; readonly told: Told }[];
  #since = "";

  constructor(options: WatchingOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    this.#watchers = KINDS.map((kind) => {
      const watcher = this.#watcher(kind);
      const prefix = this.#prefixOf(kind);
      const wants = ({ key, op }: SeenChange): boolean =>
        key.startsWith(prefix) && (kind.ops === undefined || kind.ops.includes(op));
      return { watcher, told: { name: kind.name, seen: watcher.seen, wants } };
    });
  }

  get events(): number {
    return this.#watchers.reduce((sum, { watcher }) => sum + watcher.seen.length, 0);
  }

  get connections(): number {
    return this.#watchers.reduce((sum, { watcher }) => sum + watcher.connections, 0);
  }

  get resyncs(): number {
    return this.#watchers.reduce((sum, { watcher }) => sum + watcher.resyncs, 0);
  }

  /** Resolves when each of them has to see all that is written from now on. */
  async start(): Promise<void> {
    const begun = Promise.all(this.#watchers.map(({ watcher }) => watcher.start()));
    const isBegun = await Promise.race([begun.then(() => true), sleep(START_MS_MAX, false)]);
    if (!isBegun) throw new Error("a watch does not begin");
    this.#since = this.#watchers[0]!.watcher.token;
  }

  /**
   * At rest: nothing changes any more. `last` are keys, one of each vshard, that were written last of all.
   * Watchers have until then to come to the end; what is missing is a violation.
   */
  async finish(
    last: readonly string[],
    histories: ReadonlyMap<string, readonly KeyOperation[]>,
    untilMs: number,
  ): Promise<readonly string[]> {
    const log = await this.#readLog(last, untilMs);
    const violations: string[] = [];
    if (log === undefined) violations.push("liveness: the change logs cannot be read to their end");
    else {
      await this.#untilAllSeen(log, untilMs);
      for (const { told } of this.#watchers) violations.push(...judgeWatcher(told, log));
      const told = this.#watchers.flatMap(({ watcher }) => watcher.seen);
      violations.push(...judgeLog(histories, log, told));
    }
    for (const { watcher } of this.#watchers) {
      violations.push(...watcher.complaints.map((what) => `watcher ${watcher.name}: ${what}`));
      watcher.stop();
    }
    return violations;
  }

  /** Read from where the round began, past everything that gateways have in memory. */
  async #readLog(
    last: readonly string[],
    untilMs: number,
  ): Promise<readonly SeenChange[] | undefined> {
    const reader = this.#watcher({ ...calm, name: "log", prefix: "" }, this.#since);
    void reader.start();
    const missing = new Set(last);
    let looked = 0;
    while (missing.size > 0 && performance.now() < untilMs) {
      for (; looked < reader.seen.length; looked++) missing.delete(reader.seen[looked]!.key);
      if (missing.size > 0) await sleep(POLL_MS);
    }
    reader.stop();
    return missing.size > 0 ? undefined : reader.seen;
  }

  async #untilAllSeen(log: readonly SeenChange[], untilMs: number): Promise<void> {
    for (const { told } of this.#watchers) {
      const wanted = countOf(log.filter(told.wants));
      while (countOf(told.seen) < wanted && performance.now() < untilMs) await sleep(POLL_MS);
    }
  }

  #watcher(kind: Kind, since?: string): Watcher {
    const { urls } = this.#options;
    const query: Record<string, string> = { prefix: this.#prefixOf(kind) };
    if (kind.ops !== undefined) query.ops = kind.ops.join(",");
    if (kind.hasValues) query.values = "true";
    return new Watcher({
      ...{ urls, query, name: kind.name, isRestless: kind.isRestless, isSlow: kind.isSlow },
      random: new SeededRandom(this.#random.below(2 ** 32)),
      ...(since === undefined ? {} : { since }),
    });
  }

  #prefixOf = ({ prefix }: Kind): string => `${this.#options.name}/${prefix}`;
}

const countOf = (seen: readonly SeenChange[]): number => {
  let count = 0;
  for (const changes of changesByKey(seen).values()) count += changes.size;
  return count;
};
