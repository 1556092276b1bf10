/**
 * Somebody who guesses: well-formed keys with the id of one that exists and a wrong secret, so many a second,
 * from many addresses of this machine, so that each address alone stays below what is throttled for long.
 */
import { Agent, request } from "node:http";
import { formatApiKey, makeApiKey, parseApiKey } from "#gateway/auth/api-key.ts";
import { systemRandom } from "#shared/random.ts";
import type { Target } from "./client.ts";

const ADDRESSES = 200;
const TICK_MS = 10;
const TIMEOUT_MS = 10_000;

export type WrongKeys = {
  /** Ends it; how many requests were answered, by status. */
  stop(): ReadonlyMap<number, number>;
};

/** `key` is one that the server knows. */
export function sendWrongKeys(target: Target, key: string, perSecond: number): WrongKeys {
  const known = parseApiKey(key);
  if (known === undefined) throw new RangeError("the key that is guessed at is no API key");
  const random = systemRandom();
  const agents = Array.from(
    { length: ADDRESSES },
    (_, i) => new Agent({ keepAlive: true, maxSockets: 1, localAddress: `127.0.1.${i + 1}` }),
  );
  const answers = new Map<number, number>();
  let sent = 0;
  const startedMs = performance.now();
  const one = (): void => {
    const agent = agents[sent++ % ADDRESSES]!;
    const { secret } = makeApiKey(random);
    const headers = { Authorization: `Bearer ${formatApiKey({ id: known.id, secret })}` };
    const { hostname: host, port } = target;
    const outgoing = request({
      host,
      port,
      agent,
      headers,
      path: "/v1/kv/guess",
      timeout: TIMEOUT_MS,
    });
    outgoing.on("error", () => undefined);
    outgoing.on("timeout", () => outgoing.destroy());
    outgoing.on("response", (incoming) => {
      const status = incoming.statusCode ?? 0;
      answers.set(status, (answers.get(status) ?? 0) + 1);
      incoming.resume();
    });
    outgoing.end();
  };
  const timer = setInterval(() => {
    const due = ((performance.now() - startedMs) / 1000) * perSecond;
    while (sent < due) one();
  }, TICK_MS);
  return {
    stop: () => {
      clearInterval(timer);
      for (const agent of agents) agent.destroy();
      return answers;
    },
  };
}
