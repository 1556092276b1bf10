/**
 * Clients that work on a few keys at once and write down what they asked and what they were told,
 * for `linearizability.ts`.
 *
 * Also checks what the register model leaves out: that a revision names one value of its key.
 */
import { expect } from "vitest";
import type { Random } from "#shared/random.ts";
import { type Answer, type HttpClient, jsonOf, type ProblemBody } from "./http-client.ts";
import type { HistoryEntry, RegisterOperation, RegisterValue } from "./linearizability.ts";

export type HistoryOptions = {
  readonly client: HttpClient;
  readonly random: Random;
  /** Paths; they must not exist yet. */
  readonly keys: readonly string[];
  readonly clients: number;
  readonly operationsPerClient: number;
};

/** What a client believes a key to hold; undefined when it does not know. */
type Seen = { readonly etag: string; readonly value: string } | "absent" | undefined;

class Recorder {
  readonly entries: HistoryEntry[] = [];
  readonly #client: HttpClient;
  readonly #path: string;
  readonly #values = new Map<string, string>();

  constructor(client: HttpClient, path: string) {
    this.#client = client;
    this.#path = path;
  }

  async get(): Promise<Seen> {
    let seen: Seen;
    await this.#record(
      () => this.#client.get(this.#path),
      (answer) => {
        if (answer.status === 404) {
          seen = "absent";
          return { kind: "read", value: undefined };
        }
        expect(answer.status).toBe(200);
        const value = answer.body.toString();
        seen = this.#bind(answer, value);
        return { kind: "read", value };
      },
      // A read without an answer says nothing.
      undefined,
    );
    return seen;
  }

  async put(value: string): Promise<Seen> {
    const operation: RegisterOperation = { kind: "write", value };
    let seen: Seen;
    await this.#record(
      () => this.#client.put(this.#path, value),
      (answer) => {
        expect([200, 201]).toContain(answer.status);
        seen = this.#bind(answer, value);
        return operation;
      },
      operation,
    );
    return seen;
  }

  /** Stores `value`, or deletes the key when it is undefined, if the key still is as seen. */
  async swap(known: NonNullable<Seen>, value: RegisterValue): Promise<Seen> {
    const condition: Record<string, string> =
      known === "absent" ? { "If-None-Match": "*" } : { "If-Match": known.etag };
    const expected = known === "absent" ? undefined : known.value;
    let seen: Seen;
    await this.#record(
      () =>
        value === undefined
          ? this.#client.delete(this.#path, condition)
          : this.#client.put(this.#path, value, condition),
      (answer) => {
        const succeeded = answer.status < 300;
        if (!succeeded) expect(answer.status).toBe(412);
        else seen = value === undefined ? "absent" : this.#bind(answer, value);
        return { kind: "swap", expected, value, succeeded };
      },
      { kind: "swap", expected, value, succeeded: true },
    );
    return seen;
  }

  /** A revision names one value for ever. */
  #bind(answer: Answer, value: string): NonNullable<Seen> {
    const etag = answer.headers.etag!;
    expect([etag, this.#values.get(etag) ?? value]).toEqual([etag, value]);
    this.#values.set(etag, value);
    return { etag, value };
  }

  /** `unknown` is what is recorded, without an end, when it is not known whether it happened. */
  async #record(
    request: () => Promise<Answer>,
    toOperation: (answer: Answer) => RegisterOperation,
    unknown: RegisterOperation | undefined,
  ): Promise<void> {
    const startedAt = performance.now();
    const answer = await request().catch(() => undefined);
    const endedAt = performance.now();
    if (answer !== undefined && answer.status < 500) {
      this.entries.push({ operation: toOperation(answer), startedAt, endedAt });
      return;
    }
    const isRefused =
      answer !== undefined && (jsonOf(answer) as ProblemBody).outcome === "not_applied";
    if (unknown === undefined || isRefused) return;
    this.entries.push({ operation: unknown, startedAt, endedAt: Number.POSITIVE_INFINITY });
  }
}

/** Runs the clients to their end. @returns the history of each key, by its path. */
export async function recordHistory(
  options: HistoryOptions,
): Promise<ReadonlyMap<string, readonly HistoryEntry[]>> {
  const { client, random, keys, clients, operationsPerClient } = options;
  const recorders = keys.map((path) => new Recorder(client, path));
  const run = async (clientNumber: number): Promise<void> => {
    const seen: Seen[] = [];
    for (let count = 0; count < operationsPerClient; count++) {
      const key = random.below(keys.length);
      const recorder = recorders[key]!;
      const value = `${clientNumber}-${count}`;
      const known = seen[key];
      const choice = random.below(10);
      if (known === undefined || choice < 3) seen[key] = await recorder.get();
      else if (choice < 4) seen[key] = await recorder.put(value);
      else if (choice < 5 && known !== "absent") seen[key] = await recorder.swap(known, undefined);
      else seen[key] = await recorder.swap(known, value);
    }
  };
  await Promise.all(Array.from({ length: clients }, (_, clientNumber) => run(clientNumber)));
  return new Map(keys.map((path, index) => [path, recorders[index]!.entries]));
}
