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

/** What a client knows of a key: the last value it saw and its entity tag. */
type Seen = { readonly etag: string; readonly value: string };

class Recorder {
  readonly entries: HistoryEntry[] = [];
  readonly #client: HttpClient;
  readonly #path: string;
  readonly #values = new Map<string, string>();

  constructor(client: HttpClient, path: string) {
    this.#client = client;
    this.#path = path;
  }

  async get(): Promise<Seen | undefined> {
    let seen: Seen | undefined;
    await this.#record(
      () => this.#client.get(this.#path),
      (answer) => {
        if (answer.status === 404) return { kind: "read", value: undefined };
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

  async put(value: string): Promise<void> {
    const operation: RegisterOperation = { kind: "write", value };
    await this.#record(
      () => this.#client.put(this.#path, value),
      (answer) => {
        expect([200, 201]).toContain(answer.status);
        this.#bind(answer, value);
        return operation;
      },
      operation,
    );
  }

  async create(value: string): Promise<void> {
    await this.#swap(undefined, value, () =>
      this.#client.put(this.#path, value, { "If-None-Match": "*" }),
    );
  }

  async replace(seen: Seen, value: string): Promise<void> {
    await this.#swap(seen.value, value, () =>
      this.#client.put(this.#path, value, { "If-Match": seen.etag }),
    );
  }

  async delete(seen: Seen): Promise<void> {
    await this.#swap(seen.value, undefined, () =>
      this.#client.delete(this.#path, { "If-Match": seen.etag }),
    );
  }

  async #swap(
    expected: RegisterValue,
    value: RegisterValue,
    request: () => Promise<Answer>,
  ): Promise<void> {
    await this.#record(
      request,
      (answer) => {
        const succeeded = answer.status < 300;
        if (!succeeded) expect(answer.status).toBe(412);
        else if (value !== undefined) this.#bind(answer, value);
        return { kind: "swap", expected, value, succeeded };
      },
      { kind: "swap", expected, value, succeeded: true },
    );
  }

  /** A revision names one value for ever. */
  #bind(answer: Answer, value: string): Seen {
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
    const seen: (Seen | undefined)[] = [];
    for (let count = 0; count < operationsPerClient; count++) {
      const key = random.below(keys.length);
      const recorder = recorders[key]!;
      const value = `${clientNumber}-${count}`;
      const known = seen[key];
      const choice = random.below(10);
      if (choice < 4) seen[key] = await recorder.get();
      else if (choice < 6) await recorder.put(value);
      else if (known === undefined) await recorder.create(value);
      else if (choice < 9) await recorder.replace(known, value);
      else await recorder.delete(known);
    }
  };
  await Promise.all(Array.from({ length: clients }, (_, clientNumber) => run(clientNumber)));
  return new Map(keys.map((path, index) => [path, recorders[index]!.entries]));
}
