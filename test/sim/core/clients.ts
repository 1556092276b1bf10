/**
 * Clients: they propose values, each only once, and wait for the entry at the index **and** of the
 * term that they were told; they read at any replica. What they are answered must be true.
 */
import type { LogIndex } from "#shared/ids.ts";
import type { Entry, ReadState, ReadToken } from "#storage-node/raft/types.ts";
import type { SimNode } from "./node.ts";
import { makeValue, numberOf } from "./values.ts";
import { violated } from "./violation.ts";
import type { World } from "./world.ts";

type Waiter = { readonly term: number; readonly value: number };

export class Clients {
  readonly #world: World;
  #values = 0;
  #tokens = 0;
  /** By replica id, then by index: who waits there for an answer. */
  readonly #waiters: (Map<LogIndex, Waiter> | undefined)[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  /** Where it was accepted. */
  propose(node: SimNode): LogIndex | undefined {
    const { random, options, statistics, history, trace } = this.#world;
    const value = this.#values + 1;
    const data = makeValue(value, random.below(options.valueSizeBytesMax));
    const result = node.raft.propose(data);
    if (result.kind !== "accepted") return undefined;
    this.#values = value;
    statistics.counts["proposals accepted"]++;
    history.accepted(value, result);
    trace?.note(`${node.id} accepts value ${value} at ${result.index}@${result.term}`);
    const waiters = (this.#waiters[node.id] ??= new Map());
    if (waiters.has(result.index)) statistics.counts["proposals overwritten"]++;
    waiters.set(result.index, { term: result.term, value });
    return result.index;
  }

  applied(node: SimNode, entry: Entry): void {
    const waiters = this.#waiters[node.id];
    const waiter = waiters?.get(entry.index);
    if (waiter === undefined) return;
    waiters!.delete(entry.index);
    const { counts } = this.#world.statistics;
    if (waiter.term !== entry.term) {
      counts["proposals overwritten"]++;
      return;
    }
    counts["proposals answered"]++;
    if (numberOf(entry.data) === waiter.value) return;
    const found = `${entry.index}@${entry.term} holds ${numberOf(entry.data)}`;
    violated("answered is committed", `${node.id} answers value ${waiter.value}, but ${found}`);
  }

  /** Outcome unknown: nobody is answered any more. */
  crashed(node: SimNode): void {
    this.#waiters[node.id]?.clear();
  }

  /** A snapshot says nothing about single entries: who waited for one is told "unknown". */
  skippedTo(node: SimNode, index: LogIndex): void {
    const waiters = this.#waiters[node.id];
    if (waiters === undefined) return;
    for (const at of waiters.keys()) if (at <= index) waiters.delete(at);
  }

  /** True when the read was taken. */
  read(node: SimNode): boolean {
    const { checker, statistics, trace } = this.#world;
    const token = ++this.#tokens as ReadToken;
    checker.readAsked(node, token);
    const { kind } = node.raft.readIndex(token);
    statistics.counts["reads asked"]++;
    trace?.note(`${node.id} is asked for read ${token}: ${kind}`);
    if (kind !== "pending") checker.readDropped(node, token);
    return kind === "pending";
  }

  readServed(node: SimNode, read: ReadState): void {
    this.#world.statistics.counts["reads served"]++;
    this.#world.trace?.note(`${node.id} serves read ${read.token} at ${read.index}`);
  }

  readDropped(node: SimNode, token: ReadToken): void {
    this.#world.statistics.counts["reads dropped"]++;
    this.#world.trace?.note(`${node.id} drops read ${token}`);
  }
}
