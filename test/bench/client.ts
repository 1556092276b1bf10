/**
 * A small HTTP client for what surrounds the slices: waiting for a server, storing the data before
 * the first slice, and checking what is stored. Its speed is no figure; every wait has a bound.
 */
import { Agent, request as httpRequest } from "node:http";
import { SeededRandom } from "#shared/random.ts";
import { type Dataset, firstValueOf, keyAt } from "./dataset.ts";
import type { Entry, HttpRequest, Protocol } from "./protocol.ts";

const FILL_CONNECTIONS = 32;
const FILL_TIMEOUT_MS = 10 * 60_000;
const REQUEST_TIMEOUT_MS = 30_000;
const CHECKED_KEYS = 64;

/** Where a server listens and how it is spoken to. */
export type Target = {
  readonly protocol: Protocol;
  readonly hostname: string;
  readonly port: number;
};

export const authorityOf = ({ hostname, port }: Target): string => `${hostname}:${port}`;

export type Answer = { readonly status: number; readonly body: Buffer };

/**
 * Sends one request and reads the whole answer.
 * @throws when there is no answer within `timeoutMs` of silence, or `signal` is aborted
 */
export function exchange(
  target: Target,
  request: HttpRequest,
  options: {
    readonly agent?: Agent;
    readonly timeoutMs?: number;
    readonly signal?: AbortSignal | undefined;
  } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest({
      host: target.hostname,
      port: target.port,
      method: request.method,
      path: request.path,
      headers: { ...request.headers, "Content-Length": request.body?.length ?? 0 },
      timeout: options.timeoutMs ?? REQUEST_TIMEOUT_MS,
      ...(options.agent === undefined ? {} : { agent: options.agent }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    outgoing.on("timeout", () => outgoing.destroy(new Error(`no answer to ${request.path}`)));
    outgoing.on("error", reject);
    outgoing.on("response", (incoming) => {
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.on("error", reject);
      incoming.on("end", () =>
        resolve({ status: incoming.statusCode ?? 0, body: Buffer.concat(chunks) }),
      );
    });
    outgoing.end(request.body);
  });
}

/**
 * Stores every key of the dataset.
 * @throws at the first answer that is no success
 */
export async function fill(target: Target, dataset: Dataset, signal: AbortSignal): Promise<void> {
  const { protocol } = target;
  const perRequest = protocol.fillEntriesMax(dataset.valueSizeBytes);
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(FILL_TIMEOUT_MS)]);
  const agent = new Agent({ keepAlive: true, maxSockets: FILL_CONNECTIONS });
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < dataset.keyCount) {
      bounded.throwIfAborted();
      const entries: Entry[] = [];
      for (; entries.length < perRequest && next < dataset.keyCount; next++) {
        entries.push({ key: keyAt(next), value: firstValueOf(dataset, next) });
      }
      const { status, body } = await exchange(target, protocol.fill(entries), { agent });
      if (status < 200 || status > 299) {
        throw new Error(`${protocol.server} answered ${status} to a write: ${excerpt(body)}`);
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: FILL_CONNECTIONS }, worker));
  } finally {
    agent.destroy();
  }
}

/**
 * Reads random keys and compares them with the values that can be there. Guards against figures of a
 * server that answers quickly and wrongly.
 * @throws at the first key that is absent or has another value
 */
export async function checkStored(target: Target, dataset: Dataset, seed: number): Promise<void> {
  const { protocol } = target;
  const random = new SeededRandom(seed);
  for (let checked = 0; checked < CHECKED_KEYS; checked++) {
    const key = keyAt(random.below(dataset.keyCount));
    const { status, body } = await exchange(target, protocol.get(key));
    const value = status === 200 ? protocol.valueOf(body) : undefined;
    if (value === undefined || !dataset.values.some((known) => known.equals(value))) {
      throw new Error(
        `${protocol.server} answered ${status} and not a value that was stored to a read of ${key}`,
      );
    }
  }
}

function excerpt(body: Buffer): string {
  return body.subarray(0, 300).toString();
}
