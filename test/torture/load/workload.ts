/**
 * Clients that work on a few hot keys and many others, and write down what they asked and were told.
 *
 * Each client does one thing at a time, over connections of its own, through one gateway or hopping
 * between them; after an error it goes on as somebody new would. Keys belong to one run: none may exist
 * before it.
 */
import { SeededRandom } from "#shared/random.ts";
import type {
  Action,
  KeyOperation,
  Outcome,
  WriteCondition,
} from "#test/linearizability/operation.ts";
import { ClientConnection, type Request } from "./connection.ts";
import { readReply } from "./outcome.ts";
import { makeValue, valueId } from "./value.ts";

const KiB = 1024;

export type WorkloadOptions = {
  readonly urls: readonly string[];
  readonly seed: number;
  /** In front of all keys and values; unique among the runs on a server. */
  readonly name: string;
  readonly clients: number;
  readonly hotKeys: number;
  readonly coldKeys: number;
  /** Pause of a client between two operations, at random up to this. */
  readonly thinkMsMax: number;
  /** Deadlines that requests ask for; each takes one of them. */
  readonly timeoutsMs: readonly number[];
  /** Told of each write that was answered as carried out. */
  readonly onAcknowledged?: (key: string) => void;
};

/** Of 100 operations, so many are on hot keys. */
const HOT_PERCENT = 65;
/** Of 100 clients, so many hop between gateways. */
const HOPPING_PERCENT = 50;
/** After this much longer than the deadline, the client cuts the connection. */
const PATIENCE_MS = 2_000;
const ERROR_PAUSE_MS_MAX = 60;

/** What a client believes a key to be at: a revision, 0 for absent, undefined for nothing known. */
type Known = Map<string, number | undefined>;

export class Workload {
  readonly histories = new Map<string, KeyOperation[]>();
  /** By `kind outcome`. */
  readonly counts = new Map<string, number>();
  /** By error code, or `lost` and `not sent`. */
  readonly errors = new Map<string, number>();
  readonly complaints: string[] = [];
  readonly keys: readonly string[];
  readonly #options: WorkloadOptions;
  #values = 0;

  constructor(options: WorkloadOptions) {
    const { name, hotKeys, coldKeys } = options;
    this.#options = options;
    this.keys = Array.from({ length: hotKeys + coldKeys }, (_, i) =>
      i < hotKeys ? `${name}/hot-${i}` : `${name}/cold-${i - hotKeys}`,
    );
    for (const key of this.keys) this.histories.set(key, []);
  }

  get operations(): number {
    let sum = 0;
    for (const count of this.counts.values()) sum += count;
    return sum;
  }

  /** Runs all clients until `isOver`, which each asks before each operation. */
  async run(isOver: () => boolean): Promise<void> {
    const random = new SeededRandom(this.#options.seed);
    const clients = Array.from({ length: this.#options.clients }, (_, number) =>
      this.#client(number, new SeededRandom(random.below(2 ** 32)), isOver),
    );
    await Promise.all(clients);
  }

  /** Reads every key once, as part of the history; bounded. @returns keys that gave no answer. */
  async readAll(untilMs: number): Promise<readonly string[]> {
    const left = [...this.keys];
    const failed: string[] = [];
    const random = new SeededRandom(this.#options.seed + 1);
    const reader = async (number: number): Promise<void> => {
      const connection = new ClientConnection();
      for (let key = left.pop(); key !== undefined; key = left.pop()) {
        let isKnown = false;
        while (!isKnown && performance.now() < untilMs) {
          const url = this.#urlOf(random, undefined);
          const outcome = await this.#operate(connection, `reader-${number}`, url, key, {
            kind: "get",
          });
          isKnown = outcome.kind === "found" || outcome.kind === "absent";
          if (!isKnown) await pause(ERROR_PAUSE_MS_MAX);
        }
        if (!isKnown) failed.push(key);
      }
      connection.close();
    };
    await Promise.all(Array.from({ length: 8 }, (_, number) => reader(number)));
    return failed;
  }

  async #client(number: number, random: SeededRandom, isOver: () => boolean): Promise<void> {
    const { urls, thinkMsMax } = this.#options;
    const isHopping = random.below(100) < HOPPING_PERCENT;
    const home = isHopping ? undefined : urls[random.below(urls.length)]!;
    const connection = new ClientConnection();
    const known: Known = new Map();
    while (!isOver()) {
      const key = this.#randomKey(random);
      const action = this.#randomAction(random, known.get(key), number);
      const url = this.#urlOf(random, home);
      const timeoutMs = this.#randomTimeout(random);
      const outcome = await this.#operate(connection, `c${number}`, url, key, action, timeoutMs);
      known.set(key, revisionAfter(outcome));
      const isFailed = outcome.kind === "unknown" || outcome.kind === "notApplied";
      const pauseMs = random.float() * (isFailed ? ERROR_PAUSE_MS_MAX : thinkMsMax);
      if (pauseMs >= 1) await pause(pauseMs);
    }
    connection.close();
  }

  #urlOf(random: SeededRandom, home: string | undefined): string {
    const { urls } = this.#options;
    return home ?? urls[random.below(urls.length)]!;
  }

  #randomTimeout(random: SeededRandom): number {
    const { timeoutsMs } = this.#options;
    return timeoutsMs[random.below(timeoutsMs.length)]!;
  }

  #randomKey(random: SeededRandom): string {
    const { hotKeys, coldKeys } = this.#options;
    const isHot = hotKeys > 0 && (coldKeys === 0 || random.below(100) < HOT_PERCENT);
    return this.keys[isHot ? random.below(hotKeys) : hotKeys + random.below(coldKeys)]!;
  }

  #randomAction(random: SeededRandom, known: number | undefined, client: number): Action {
    const choice = random.below(100);
    if (choice < 30 || (known === undefined && choice < 70)) return { kind: "get" };
    const condition = conditionOf(known, choice);
    if (choice < 40) {
      return condition?.kind === "revision" ? { kind: "delete", condition } : { kind: "delete" };
    }
    const { name } = this.#options;
    const value = valueId(`${name}-${client}-${++this.#values}`, randomSize(random));
    return condition === undefined ? { kind: "put", value } : { kind: "put", value, condition };
  }

  async #operate(
    connection: ClientConnection,
    client: string,
    url: string,
    key: string,
    action: Action,
    timeoutMs = 5_000,
  ): Promise<Outcome> {
    const calledAt = performance.now();
    const reply = await connection.send(url, toRequest(key, action, timeoutMs));
    const returnedAt = performance.now();
    const { outcome, error, complaint } = readReply(action, reply);
    const who = `${client} at ${new URL(url).port}${error === undefined ? "" : `, ${error}`}`;
    this.histories.get(key)!.push({ action, outcome, calledAt, returnedAt, client: who });
    count(this.counts, `${action.kind} ${outcome.kind}`);
    if (error !== undefined) count(this.errors, error);
    if (complaint !== undefined) this.complaints.push(`${key}: ${complaint}`);
    if (outcome.kind === "stored" || outcome.kind === "deleted")
      this.#options.onAcknowledged?.(key);
    return outcome;
  }
}

function toRequest(key: string, action: Action, timeoutMs: number): Request {
  const condition = action.kind === "get" ? undefined : action.condition;
  const headers: Record<string, string> = { "Minikv-Timeout": `${timeoutMs}ms` };
  if (condition?.kind === "absent") headers["If-None-Match"] = "*";
  if (condition?.kind === "revision") headers["If-Match"] = `"${condition.revision}"`;
  const method = action.kind === "get" ? "GET" : action.kind === "put" ? "PUT" : "DELETE";
  return {
    method,
    path: `/v1/kv/${encodeURIComponent(key)}`,
    headers,
    body: action.kind === "put" ? makeValue(action.value) : undefined,
    timeoutMs: timeoutMs + PATIENCE_MS,
  };
}

/** Half of the writes whose key is known are conditional. */
function conditionOf(known: number | undefined, choice: number): WriteCondition | undefined {
  if (known === undefined || choice % 2 === 0) return undefined;
  return known === 0 ? { kind: "absent" } : { kind: "revision", revision: known };
}

function revisionAfter(outcome: Outcome): number | undefined {
  switch (outcome.kind) {
    case "found":
    case "stored":
      return outcome.revision;
    case "absent":
    case "deleted":
      return 0;
    case "refused":
    case "unknown":
    case "notApplied":
      return undefined;
    default:
      return outcome satisfies never;
  }
}

/** Mostly small, so that there are many; some large. */
function randomSize(random: SeededRandom): number {
  const kind = random.below(100);
  if (kind < 85) return 24 + random.below(400);
  return kind < 98 ? random.below(4 * KiB) : random.below(64 * KiB);
}

export function count(counts: Map<string, number>, name: string, by = 1): void {
  counts.set(name, (counts.get(name) ?? 0) + by);
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
