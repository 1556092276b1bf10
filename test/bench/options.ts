/**
 * The command line of the benchmark.
 *
 * Everything that shapes the load is an option with a default, and all of it is printed and written
 * to the result file: figures without their conditions are worth nothing. Wrong use is an ordinary
 * outcome here, told with what was meant.
 */
import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { didYouMean } from "#shared/runtime/suggest.ts";

/**
 * What clients do: write, read, or each request one or the other with equal chance; write a hundred keys
 * with each request, or list as many.
 */
export const WORKS = ["put", "get", "mixed", "batch", "scan"] as const;
export type Work = (typeof WORKS)[number];
/** What is measured unless told otherwise: the others say little about single requests. */
const WORKS_DEFAULT: readonly Work[] = ["put", "get", "mixed"];

export const GENERATORS = ["auto", "wrk", "autocannon"] as const;

/** One run of the benchmark, checked. */
export type BenchOptions = {
  readonly works: readonly Work[];
  readonly connections: readonly number[];
  readonly valueSizesBytes: readonly number[];
  /** Length of one measured slice. */
  readonly durationS: number;
  /** Unmeasured load on each server before the slices of a figure. */
  readonly warmupS: number;
  /** How often minikv and etcd alternate for one figure. */
  readonly pairs: number;
  readonly keysMax: number;
  readonly idleS: number;
  readonly seed: number;
  readonly generator: (typeof GENERATORS)[number];
  readonly etcd: boolean;
  /** minikv with everything on that guards data, against minikv with nothing of it, instead of etcd. */
  readonly secure: boolean;
  /** minikv with one request in a hundred traced, against minikv with traces off, instead of etcd. */
  readonly tracing: boolean;
  /** Requests with wrong keys per second, in every other slice. 0 for none. */
  readonly wrongKeysPerSecond: number;
  /** Storage nodes of the cluster, and members of etcd; 1 is the all-in-one. */
  readonly nodes: number;
  /** A running server to load instead of an own one. */
  readonly target: URL | undefined;
  /** Where the data directories are made. */
  readonly directory: string;
  /** Where the result goes; undefined: a new file in test/bench/results. */
  readonly jsonPath: string | undefined;
};

export type ParsedOptions =
  | { readonly kind: "run"; readonly options: BenchOptions }
  | { readonly kind: "help" }
  | { readonly kind: "wrong"; readonly message: string };

const SPEC = {
  help: { type: "boolean", short: "h" },
  quick: { type: "boolean" },
  duration: { type: "string" },
  warmup: { type: "string" },
  pairs: { type: "string" },
  connections: { type: "string" },
  sizes: { type: "string" },
  work: { type: "string" },
  keys: { type: "string" },
  idle: { type: "string" },
  seed: { type: "string" },
  generator: { type: "string" },
  "no-etcd": { type: "boolean" },
  secure: { type: "boolean" },
  tracing: { type: "boolean" },
  "wrong-keys": { type: "string" },
  nodes: { type: "string" },
  target: { type: "string" },
  dir: { type: "string" },
  json: { type: "string" },
} as const;

export const HELP = `Usage: minikv bench [--option value …]

Loads minikv and, where etcd is on PATH, a single etcd in turns, and prints throughput, latency and
the ratio of both. Starts its own servers on 127.0.0.1 and removes their data afterwards.

  --quick              only 64 connections and 256-byte values
  --work LIST          of put, get, mixed (half of each), batch (100 puts a request), scan (100 keys
                       a request); default put,get,mixed
  --connections LIST   default 16,64,256
  --sizes LIST         value sizes in bytes, or as 4K; default 256,4K,64K
  --duration SECONDS   of one measured slice; default 5
  --pairs N            slices of each server per figure, in turns; default 3
  --warmup SECONDS     unmeasured load before each figure; default 10
  --keys N             keys drawn at random, at most 256 MiB of values; default 100000
  --idle SECONDS       how long to watch the idle servers, 0 to skip; default 10
  --generator NAME     wrk or autocannon; default: wrk where it is installed
  --no-etcd            minikv alone
  --secure             minikv with API keys, encryption and compression, against a bare one instead
                       of etcd; values are text that compresses
  --tracing            minikv with one request in a hundred traced, against one with traces off
  --wrong-keys N       such a minikv with N wrong keys a second beside the load, against itself without
  --nodes N            a cluster of N nodes with one gateway, against N members of etcd; default 1
  --target URL         load a running minikv instead of an own one; the keys stay there
  --dir DIRECTORY      where the data directories are made; default the system's temporary one
  --json FILE          where the result goes; default a new file in test/bench/results
  --seed N             of keys and values; default: drawn, and printed

With --watch it measures watches instead; see minikv bench --watch --help.

Exits with 1 when a request failed: a figure with failed requests is not a figure.
`;

class Wrong extends Error {}

/** Reads the arguments behind `bench`. `drawSeed` is asked only without `--seed`. */
export function parseOptions(argv: readonly string[], drawSeed: () => number): ParsedOptions {
  try {
    const { values } = parseArgs({ args: [...argv], options: SPEC, strict: true });
    if (values.help === true) return { kind: "help" };
    return { kind: "run", options: check(values, drawSeed) };
  } catch (error) {
    if (error instanceof Wrong) return { kind: "wrong", message: error.message };
    if (error instanceof TypeError && "code" in error) {
      return { kind: "wrong", message: explain(error, argv) };
    }
    throw error;
  }
}

type Values = { readonly [name in keyof typeof SPEC]?: string | boolean | undefined };

function check(values: Values, drawSeed: () => number): BenchOptions {
  const text = (name: keyof typeof SPEC): string | undefined => {
    const value = values[name];
    return typeof value === "string" ? value : undefined;
  };
  const integer = (name: keyof typeof SPEC, fallback: number, min: number, max: number): number =>
    text(name) === undefined ? fallback : toInteger(`--${name}`, text(name)!, min, max);
  const quick = values.quick === true;
  const target = text("target");
  const wrongKeysPerSecond = integer("wrong-keys", 0, 1, 100_000);
  const secure = values.secure === true || wrongKeysPerSecond > 0;
  if (secure && target !== undefined) throw new Wrong("--secure starts its own servers");
  if (secure && integer("nodes", 1, 1, 15) > 1) throw new Wrong("--secure is of the all-in-one");
  const tracing = values.tracing === true;
  if (tracing && secure) throw new Wrong("--tracing and --secure are measured one by one");
  if (tracing && target !== undefined) throw new Wrong("--tracing starts its own servers");
  if (tracing && integer("nodes", 1, 1, 15) > 1) throw new Wrong("--tracing is of the all-in-one");
  return {
    works: toList("--work", text("work") ?? WORKS_DEFAULT.join(","), (word) =>
      toWord("--work", word, WORKS),
    ),
    connections: toList(
      "--connections",
      text("connections") ?? (quick ? "64" : "16,64,256"),
      (word) => toInteger("--connections", word, 1, 10_000),
    ),
    valueSizesBytes: toList(
      "--sizes",
      text("sizes") ?? (quick ? "256" : "256,4K,64K"),
      toSizeBytes,
    ),
    durationS: integer("duration", 5, 1, 3600),
    warmupS: integer("warmup", 10, 0, 600),
    pairs: integer("pairs", 3, 1, 1000),
    keysMax: integer("keys", 100_000, 1, 10_000_000),
    idleS: integer("idle", 10, 0, 600),
    seed: text("seed") === undefined ? drawSeed() : integer("seed", 0, 0, 2 ** 31 - 1),
    generator: toWord("--generator", text("generator") ?? "auto", GENERATORS),
    etcd: values["no-etcd"] !== true && !secure && !tracing,
    secure,
    tracing,
    wrongKeysPerSecond,
    nodes: integer("nodes", 1, 1, 15),
    target: target === undefined ? undefined : toTarget(target),
    directory: text("dir") ?? tmpdir(),
    jsonPath: text("json"),
  };
}

function toList<T>(name: string, text: string, convert: (word: string) => T): readonly T[] {
  const words = text.split(",").map((word) => word.trim());
  if (words.some((word) => word === "")) throw new Wrong(`${name}: an empty element in "${text}"`);
  return [...new Set(words.map(convert))];
}

function toWord<T extends string>(name: string, word: string, known: readonly T[]): T {
  const found = known.find((candidate) => candidate === word);
  if (found !== undefined) return found;
  throw new Wrong(`${name}: "${word}" is none of ${known.join(", ")}${didYouMean(word, known)}`);
}

function toInteger(name: string, text: string, min: number, max: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new Wrong(`${name}: "${text}" is not a whole number from ${min} to ${max}`);
}

function toSizeBytes(text: string): number {
  const match = /^(\d{1,9})([kK]?)$/.exec(text);
  const sizeBytes = match === null ? Number.NaN : Number(match[1]) * (match[2] === "" ? 1 : 1024);
  if (sizeBytes >= 1 && sizeBytes <= VALUE_SIZE_BYTES_MAX) return sizeBytes;
  throw new Wrong(`--sizes: "${text}" is not a size from 1 to ${VALUE_SIZE_BYTES_MAX} bytes`);
}

function toTarget(text: string): URL {
  const url = URL.parse(text);
  if (url === null || url.protocol !== "http:" || url.pathname !== "/" || url.search !== "") {
    throw new Wrong(`--target: "${text}" is not of the form http://host:port`);
  }
  return url;
}

/** Says what was meant by a word that is no option; other complaints of the parser stand as they are. */
function explain(error: Error, argv: readonly string[]): string {
  const names = Object.keys(SPEC).map((name) => `--${name}`);
  const unknown = argv
    .map((word) => word.split("=")[0]!)
    .find((word) => word.startsWith("--") && !names.includes(word));
  return unknown === undefined
    ? error.message
    : `unknown option ${unknown}${didYouMean(unknown, names)}`;
}
