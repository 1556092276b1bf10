/**
 * Load by wrk: one thread, so that one core stays with the server on a machine of two.
 *
 * The requests are prepared as files, cut around the key, and joined by load.lua; see there.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "#shared/assert.ts";
import type { Children } from "./children.ts";
import { authorityOf, type Target } from "./client.ts";
import { type Dataset, keyAt } from "./dataset.ts";
import {
  batchKeys,
  KEYS_PER_REQUEST,
  LOAD_TIMEOUT_S,
  type LoadGenerator,
  type LoadOrder,
  type LoadResult,
  WRITE_SHARE,
} from "./load.ts";
import { type HttpRequest, renderRaw } from "./protocol.ts";

/** Beyond the duration of the load: starting, preparing and reporting. */
const WRK_OVERHEAD_MS = 30_000;

/** `directory` holds the prepared requests and is the caller's to remove. */
export function wrkGenerator(input: {
  readonly path: string;
  readonly description: string;
  readonly directory: string;
  readonly children: Children;
}): LoadGenerator {
  return {
    description: input.description,
    run: async (order, signal) => {
      const pieces = await mkdtemp(join(input.directory, "requests-"));
      try {
        await writePieces(pieces, order);
        const { code, stdout, stderr } = await input.children.run(
          input.path,
          wrkArguments(order, pieces),
          { timeoutMs: order.durationS * 1000 + WRK_OVERHEAD_MS, signal },
        );
        if (code !== 0) throw new Error(`wrk failed with ${code}: ${stderr}${stdout}`);
        return parseWrkOutput(stdout);
      } finally {
        await rm(pieces, { recursive: true, force: true });
      }
    },
  };
}

function wrkArguments(order: LoadOrder, pieces: string): string[] {
  const { target, dataset } = order;
  const width = Buffer.byteLength(target.protocol.keyText(keyAt(0)));
  return [
    "-t1",
    `-c${order.connections}`,
    `-d${order.durationS}s`,
    `--timeout=${LOAD_TIMEOUT_S}s`,
    `--script=${join(import.meta.dirname, "load.lua")}`,
    `http://${authorityOf(target)}`,
    "--",
    pieces,
    String(WRITE_SHARE[order.work]),
    String(order.seed),
    String(width),
    String(dataset.values.length),
    order.work === "batch" ? String(batchKeys(0, dataset.keyCount).length) : "0",
    target.protocol.partialFailure,
  ];
}

async function writePieces(directory: string, order: LoadOrder): Promise<void> {
  const { target, dataset, work } = order;
  const { protocol } = target;
  const key = keyAt(0);
  const text = protocol.keyText(key);
  const cut = (request: HttpRequest): CutRequest =>
    cutAtKey(renderRaw(request, authorityOf(target)), text);
  const puts = dataset.values.map((value) => cut(protocol.put({ key, value })));
  const get = cut(work === "scan" ? protocol.scan(key, KEYS_PER_REQUEST) : protocol.get(key));
  const head = puts[0]!.head;
  assert(
    puts.every((put) => put.head.equals(head)),
    "values of one size have one request head",
  );
  const keys = Array.from({ length: dataset.keyCount }, (_, index) =>
    protocol.keyText(keyAt(index)),
  ).join("");
  assert(keys.length === text.length * dataset.keyCount, "texts of keys have one length");
  await Promise.all([
    writeFile(join(directory, "keys"), keys),
    writeFile(join(directory, "put-head"), head),
    ...puts.map((put, index) => writeFile(join(directory, `put-tail-${index + 1}`), put.tail)),
    ...(work === "batch" ? batchFiles(directory, target, dataset) : []),
    writeFile(join(directory, "get-head"), get.head),
    writeFile(join(directory, "get-tail"), get.tail),
  ]);
}

/** Batches with the keys cut out of them, one for each value to begin with. */
function batchFiles(directory: string, target: Target, dataset: Dataset): Promise<void>[] {
  const { protocol } = target;
  const { values } = dataset;
  const keys = batchKeys(0, dataset.keyCount).map(keyAt);
  return values.map((_, first) => {
    const entries = keys.map((key, i) => ({ key, value: values[(first + i) % values.length]! }));
    const raw = renderRaw(protocol.batch(entries), authorityOf(target)).toString();
    const pieces = cutAtKeys(raw, keys.map(protocol.keyText));
    return writeFile(join(directory, `batch-${first + 1}`), pieces.join("\0"));
  });
}

/** What stands between the keys of a request, which come in this order. */
export function cutAtKeys(raw: string, keyTexts: readonly string[]): readonly string[] {
  const pieces: string[] = [];
  let rest = raw;
  for (const text of keyTexts) {
    const start = rest.indexOf(text);
    assert(start >= 0, "a request contains its keys in their order");
    pieces.push(rest.slice(0, start));
    rest = rest.slice(start + text.length);
  }
  return [...pieces, rest];
}

export type CutRequest = { readonly head: Buffer; readonly tail: Buffer };

/** What stands before and behind the key in a request. The key's first place counts. */
export function cutAtKey(raw: Buffer, keyText: string): CutRequest {
  const start = raw.indexOf(keyText);
  assert(start >= 0, "a request contains its key");
  return { head: raw.subarray(0, start), tail: raw.subarray(start + Buffer.byteLength(keyText)) };
}

/**
 * The figures in the line that load.lua writes at the end.
 * @throws when the line is missing or lacks a figure
 */
export function parseWrkOutput(stdout: string): LoadResult {
  const line = /^RESULT (\{.*\})$/m.exec(stdout)?.[1];
  if (line === undefined) throw new Error(`wrk printed no result: ${stdout}`);
  const parsed = JSON.parse(line) as Readonly<Record<string, unknown>>;
  const figure = (name: string): number => {
    const value = parsed[name];
    if (typeof value !== "number") throw new Error(`the result of wrk lacks ${name}: ${line}`);
    return value;
  };
  return {
    requests: figure("requests"),
    durationMs: figure("duration") / 1000,
    p50Ms: figure("p50") / 1000,
    p90Ms: figure("p90") / 1000,
    p99Ms: figure("p99") / 1000,
    p999Ms: figure("p999") / 1000,
    maxMs: figure("max") / 1000,
    errors: {
      status: figure("status"),
      socket: figure("connect") + figure("read") + figure("write"),
      timeout: figure("timeout"),
    },
  };
}

/** The version in the first line of `wrk --version`, which exits with 1. */
export function parseWrkVersion(output: string): string {
  return /^wrk (?:debian\/)?(\S+)/m.exec(output)?.[1] ?? "of unknown version";
}
