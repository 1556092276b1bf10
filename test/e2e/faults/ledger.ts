/**
 * What the server has promised: for every key the last acknowledged state, and at most one write
 * whose fate is unknown. `verify` reads all keys and compares.
 *
 * A key has one write at a time, so after a crash only two states are allowed: the acknowledged one,
 * with the very revision that was acknowledged, or that of the write in doubt, whole. Once a read has
 * shown which, the doubt is over for good. So the number of changes of each vshard is known exactly,
 * and since a vshard's revision counts its changes, `audit` finds a lost or a doubled one.
 */
import { utf8 } from "#shared/bytes.ts";
import { DEFAULT_TENANT, Space, type VshardId } from "#shared/ids.ts";
import { vshardOf } from "#shared/vshard.ts";
import { type Answer, type KvClient, problemField, type Result } from "./kv-client.ts";
import { makePayload, verifyPayload } from "./payload.ts";

/** Reads under way at once while verifying. */
const READS_PARALLEL = 16;

/** Undefined stands for a key that does not exist. */
type Sequence = number | undefined;

type KeyState = {
  /** Of the acknowledged state. */
  sequence: Sequence;
  /** The highest one seen of this key. */
  revision: number;
  nextSequence: number;
  /** State after the write in doubt; absent without one. */
  doubt: { readonly sequence: Sequence } | undefined;
  busy: boolean;
};

/** How a write ended, as far as the client can know. */
export type Fate = "applied" | "notApplied" | "unknown";

export class Ledger {
  readonly #client: KvClient;
  readonly #keys = new Map<string, KeyState>();
  /** Changes by vshard. */
  readonly #changes = new Map<VshardId, number>();
  acknowledgedCount = 0;
  doubtCount = 0;

  constructor(client: KvClient) {
    this.#client = client;
  }

  get keys(): readonly string[] {
    return [...this.#keys.keys()];
  }

  /** No write of `key` is under way or in doubt. */
  isSettled(key: string): boolean {
    const state = this.#keys.get(key);
    return state === undefined || (!state.busy && state.doubt === undefined);
  }

  exists(key: string): boolean {
    return this.#keys.get(key)?.sequence !== undefined;
  }

  /** Puts a new value, conditionally on the state known, and books what becomes of it. */
  async put(
    key: string,
    sizeBytes: number,
    conditional = false,
  ): Promise<{ fate: Fate; result: Result }> {
    const state = this.#begin(key);
    const sequence = state.nextSequence++;
    const body = makePayload({ key, sequence }, sizeBytes);
    const headers = conditional ? conditionOf(state) : {};
    const result = await this.#client.send("PUT", key, { body, headers });
    const fate = fateOf(result, [state.sequence === undefined ? 201 : 200]);
    if (fate === "applied") this.#requireNewer(key, state, result as Answer);
    this.#book(key, state, fate, sequence);
    return { fate, result };
  }

  async delete(key: string): Promise<{ fate: Fate; result: Result }> {
    const state = this.#begin(key);
    const result = await this.#client.send("DELETE", key);
    const existed = state.sequence !== undefined;
    const fate = fateOf(result, [existed ? 204 : 404]);
    // Deleting what does not exist changes nothing, whether or not it was carried out.
    if (existed) this.#book(key, state, fate, undefined);
    state.busy = false;
    return { fate, result };
  }

  #begin(key: string): KeyState {
    if (!this.isSettled(key)) throw new Error(`${key} has a write under way or in doubt`);
    let state = this.#keys.get(key);
    if (state === undefined) {
      state = { sequence: undefined, revision: 0, nextSequence: 1, doubt: undefined, busy: false };
      this.#keys.set(key, state);
    }
    state.busy = true;
    return state;
  }

  #book(key: string, state: KeyState, fate: Fate, sequence: Sequence): void {
    state.busy = false;
    if (fate === "unknown") {
      state.doubt = { sequence };
      this.doubtCount++;
    }
    if (fate !== "applied") return;
    state.sequence = sequence;
    this.acknowledgedCount++;
    this.countChanges(key, 1);
  }

  /** For changes that were made beside this ledger. */
  countChanges(key: string, count: number): void {
    const vshard = shardOf(key);
    this.#changes.set(vshard, (this.#changes.get(vshard) ?? 0) + count);
  }

  #requireNewer(key: string, state: KeyState, answer: Answer): void {
    const { revision } = answer;
    if (revision === undefined || !(revision > state.revision)) {
      throw new Error(`${key}: revision ${revision} was answered after ${state.revision}`);
    }
    state.revision = revision;
  }

  /**
   * Compares every key with what was promised, and settles the doubts.
   *
   * @throws Error with all that differs.
   */
  async verify(): Promise<void> {
    const failures: string[] = [];
    const waiting = [...this.#keys];
    const readNext = async (): Promise<void> => {
      for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
        const [key, state] = next;
        try {
          this.#compare(key, state, await this.#client.answer("GET", key));
        } catch (error) {
          failures.push(String(error));
        }
      }
    };
    await Promise.all(Array.from({ length: READS_PARALLEL }, readNext));
    if (failures.length > 0) {
      throw new Error(`${failures.length} keys differ:\n${failures.slice(0, 20).join("\n")}`);
    }
  }

  #compare(key: string, state: KeyState, answer: Answer): void {
    const told = `acknowledged ${state.sequence} at revision ${state.revision}`;
    const doubted = state.doubt === undefined ? "nothing" : String(state.doubt.sequence);
    const context = `${key}: ${told}, ${doubted} in doubt`;
    if (state.busy) throw new Error(`${context}; a write is under way`);
    if (answer.status !== 200 && answer.status !== 404) {
      throw new Error(`${context}; answered ${answer.status} ${answer.body.toString("utf8")}`);
    }
    const found = answer.status === 404 ? undefined : verifyPayload(key, answer.body);
    const revision = answer.revision ?? 0;
    const { doubt } = state;
    state.doubt = undefined;
    if (found === state.sequence) {
      if (found !== undefined && revision !== state.revision) {
        throw new Error(`${context}; found at revision ${revision}`);
      }
      return;
    }
    if (doubt === undefined || found !== doubt.sequence) {
      throw new Error(`${context}; found ${found} at revision ${revision}`);
    }
    if (found !== undefined && revision <= state.revision) {
      throw new Error(`${context}; the one in doubt was found at revision ${revision}`);
    }
    state.sequence = found;
    state.revision = Math.max(state.revision, revision);
    this.countChanges(key, 1);
  }

  /**
   * Writes once more to each vshard in use and compares its revision with the changes counted.
   * Only after `verify`, without other writers.
   */
  async audit(): Promise<void> {
    const keyOfShard = new Map(this.keys.map((key) => [shardOf(key), key]));
    for (const [vshard, key] of keyOfShard) {
      const before = this.#changes.get(vshard) ?? 0;
      const { fate, result } = await this.put(key, 100);
      if (fate !== "applied") throw new Error(`audit of ${key}: ${JSON.stringify(result)}`);
      const revision = this.#keys.get(key)!.revision;
      if (revision !== before + 1) {
        throw new Error(
          `vshard ${vshard} is at revision ${revision} after ${before + 1} changes; key ${key}`,
        );
      }
    }
  }
}

export function shardOf(key: string): VshardId {
  return vshardOf({ tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8(key) });
}

function conditionOf(state: KeyState): Record<string, string> {
  return state.sequence === undefined
    ? { "If-None-Match": "*" }
    : { "If-Match": `"${state.revision}"` };
}

/** Statuses that a busy, full, starting or dying server may answer besides success. */
const EXPECTED_FAILURES = [503, 504, 507];

/** @throws Error for an answer that nothing explains. */
export function fateOf(result: Result, expected: readonly number[]): Fate {
  if (result.kind === "notSent") return "notApplied";
  if (result.kind === "lost") return "unknown";
  if (expected.includes(result.status)) return "applied";
  if (EXPECTED_FAILURES.includes(result.status)) {
    return problemField(result, "outcome") === "not_applied" ? "notApplied" : "unknown";
  }
  throw new Error(`unexpected answer ${result.status}: ${result.body.toString("utf8", 0, 500)}`);
}
