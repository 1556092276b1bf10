/**
 * What keys held when everything about them was known: no write is under way any more, so they never change
 * again. Looked at again later, after more faults.
 */
import type { Random } from "#shared/random.ts";
import type { KeyOperation, KeyState } from "#test/linearizability/operation.ts";
import { ClientConnection } from "#test/torture/load/connection.ts";
import { readReply } from "#test/torture/load/outcome.ts";

const READS_AT_ONCE = 8;
const PAUSE_MS = 50;

export class SettledKeys {
  readonly #states = new Map<string, KeyState>();

  get size(): number {
    return this.#states.size;
  }

  /** The last operation of each history has to be a read after all writes. */
  add(histories: ReadonlyMap<string, readonly KeyOperation[]>): void {
    for (const [key, history] of histories) {
      const outcome = history.at(-1)?.outcome;
      if (outcome?.kind === "absent") this.#states.set(key, { revision: 0, value: "" });
      if (outcome?.kind === "found") {
        this.#states.set(key, { revision: outcome.revision, value: outcome.value });
      }
    }
  }

  /** Reads up to `sample` of them; @returns what differs. */
  async verify(
    urls: readonly string[],
    random: Random,
    sample: number,
    untilMs: number,
  ): Promise<readonly string[]> {
    const left = [...this.#states];
    while (left.length > sample) left.splice(random.below(left.length), 1);
    const wrong: string[] = [];
    const read = async (): Promise<void> => {
      const connection = new ClientConnection();
      for (let next = left.pop(); next !== undefined; next = left.pop()) {
        const found = await readUntil(connection, urls, next[0], untilMs);
        const expected = `${next[1].value} at ${next[1].revision}`;
        if (found === undefined) wrong.push(`${next[0]}: cannot be read any more`);
        else if (`${found.value} at ${found.revision}` !== expected) {
          wrong.push(`${next[0]}: held ${expected}, now ${found.value} at ${found.revision}`);
        }
      }
      connection.close();
    };
    await Promise.all(Array.from({ length: READS_AT_ONCE }, read));
    return wrong;
  }
}

async function readUntil(
  connection: ClientConnection,
  urls: readonly string[],
  key: string,
  untilMs: number,
): Promise<KeyState | undefined> {
  for (let turn = 0; turn === 0 || performance.now() < untilMs; turn++) {
    const reply = await connection.send(urls[turn % urls.length]!, {
      method: "GET",
      path: `/v1/kv/${encodeURIComponent(key)}`,
      headers: { "Minikv-Timeout": "5s" },
      body: undefined,
      timeoutMs: 7_000,
    });
    const { outcome } = readReply({ kind: "get" }, reply);
    if (outcome.kind === "absent") return { revision: 0, value: "" };
    if (outcome.kind === "found") return { revision: outcome.revision, value: outcome.value };
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  return undefined;
}
