/**
 * `minikv bench`: minikv and etcd under the same load, in one run.
 *
 * A ratio of two servers measured on the same machine within the same minutes says more than either
 * figure; how it is arrived at is told in session.ts and docs/benchmarks.md. Progress goes to stderr,
 * the table to stdout, everything measured to the result file.
 */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemRandom } from "#shared/random.ts";
import { VERSION } from "#shared/runtime/version.ts";
import { Children } from "./children.ts";
import type { LoadGenerator } from "./load.ts";
import { describeMachine, findProgram, type Machine } from "./machine.ts";
import { type Noise, NoiseWatch, noiseWarnings } from "./noise.ts";
import { type BenchOptions, HELP, parseOptions } from "./options.ts";
import { closingText, machineText, rowText, tableHead } from "./report.ts";
import { runSession, type Session } from "./session.ts";
import { summarize } from "./statistics.ts";
import { runWatchBench } from "./watch.ts";
import { parseWrkVersion, wrkGenerator } from "./wrk.ts";

const EXIT_OK = 0;
const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;
const EXIT_INTERRUPTED = 130;
const VERSION_TIMEOUT_MS = 10_000;
const ROOT = join(import.meta.dirname, "..", "..");

/** Raised with each incompatible change of the result file. */
const RESULT_FORMAT = 2;

type Context = {
  readonly options: BenchOptions;
  readonly directory: string;
  readonly children: Children;
  readonly signal: AbortSignal;
};

/**
 * Runs the benchmark and returns the exit code: 0, 1 when it failed or a figure is invalid, 2 when
 * the arguments are wrong. Installs its own handlers for SIGINT and SIGTERM while it runs.
 */
export async function runBench(argv: readonly string[]): Promise<number> {
  if (argv.includes("--watch")) return await runWatchBench(argv);
  const parsed = parseOptions(argv, () => systemRandom().below(2 ** 31));
  if (parsed.kind === "help") {
    process.stdout.write(HELP);
    return EXIT_OK;
  }
  if (parsed.kind === "wrong") {
    process.stderr.write(`minikv bench: ${parsed.message}\nSee minikv bench --help.\n`);
    return EXIT_USAGE;
  }
  const { options } = parsed;
  const interrupt = new AbortController();
  const onSignal = (): void => interrupt.abort();
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  const children = new Children();
  // The real path: the file system is looked up by it.
  const directory = mkdtempSync(join(realpathSync(options.directory), "minikv-bench-"));
  try {
    return await bench({ options, directory, children, signal: interrupt.signal });
  } catch (error) {
    if (interrupt.signal.aborted) {
      process.stderr.write("minikv bench: interrupted\n");
      return EXIT_INTERRUPTED;
    }
    process.stderr.write(`minikv bench: ${error instanceof Error ? error.message : error}\n`);
    return EXIT_FAILURE;
  } finally {
    await children.stopAll();
    rmSync(directory, { recursive: true, force: true });
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
}

async function bench(context: Context): Promise<number> {
  const { options } = context;
  const startedAt = new Date();
  const noise = new NoiseWatch();
  progress("watching the machine");
  await noise.begin(context.signal);
  const machine = describeMachine(context.directory, ROOT);
  const generator = await chooseGenerator(context);
  const etcd = await findEtcd(context);
  const programs = {
    minikv:
      options.target === undefined ? minikvText(machine) : `running at ${options.target.host}`,
    etcd: etcd?.version,
    generator: generator.description,
  };
  const hasBare = options.secure || options.tracing;
  const peerName = options.wrongKeysPerSecond > 0 ? "calm" : hasBare ? "bare" : "etcd";
  const load =
    `seed ${options.seed}, ${options.pairs} pairs of ${options.durationS} s per figure, ` +
    `after ${options.warmupS} s of warming; medians\n`;
  process.stdout.write(machineText(machine, programs) + load + tableHead(peerName));
  const session = await runSession({
    ...context,
    root: ROOT,
    etcdPath: etcd?.path,
    generator,
    noise,
    progress,
    onWrongKeys: (answers, seconds) => {
      const counts = [...answers].map(([status, count]) => `${count} × ${status}`).join(", ");
      process.stdout.write(`wrong keys in ${seconds} s: ${counts}\n`);
    },
    onCell: (cell) => process.stdout.write(rowText(cell)),
  });
  const measuredNoise = noise.end();
  process.stdout.write(`\n${closingText(session, options)}`);
  for (const warning of noiseWarnings(measuredNoise)) {
    process.stdout.write(`WARNING: noisy machine: ${warning}\n`);
  }
  const path = writeResult({
    startedAt,
    options,
    machine,
    programs,
    noise: measuredNoise,
    session,
  });
  process.stdout.write(`result in ${path}\n`);
  const invalid = session.cells
    .map(summarize)
    .some(({ minikv, peer }) => minikv.kind === "invalid" || peer?.kind === "invalid");
  return invalid ? EXIT_FAILURE : EXIT_OK;
}

async function chooseGenerator(context: Context): Promise<LoadGenerator> {
  const { options, children, signal, directory } = context;
  const path = options.generator === "autocannon" ? undefined : findProgram("wrk");
  if (path === undefined) {
    if (options.generator === "wrk") throw new Error("wrk is not installed");
    // Only here: an installation without development packages has no autocannon, and needs none.
    const { autocannonGenerator } = await import("./autocannon.ts");
    return autocannonGenerator();
  }
  const { stdout } = await children.run(path, ["--version"], {
    timeoutMs: VERSION_TIMEOUT_MS,
    signal,
  });
  const description = `wrk ${parseWrkVersion(stdout)}, 1 thread`;
  return wrkGenerator({ path, description, directory, children });
}

async function findEtcd(
  context: Context,
): Promise<{ readonly path: string; readonly version: string } | undefined> {
  const path = context.options.etcd ? findProgram("etcd") : undefined;
  if (path === undefined) return undefined;
  const { stdout } = await context.children.run(path, ["--version"], {
    timeoutMs: VERSION_TIMEOUT_MS,
    signal: context.signal,
  });
  return { path, version: /^etcd Version: (\S+)/m.exec(stdout)?.[1] ?? "of unknown version" };
}

const minikvText = ({ commit }: Machine): string =>
  commit === undefined ? `${VERSION}, outside git` : `${VERSION}, commit ${commit}`;

function progress(text: string): void {
  process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${text}\r` : "");
}

function writeResult(input: {
  readonly startedAt: Date;
  readonly options: BenchOptions;
  readonly machine: Machine;
  readonly programs: Readonly<Record<string, string | undefined>>;
  readonly noise: Noise;
  readonly session: Session;
}): string {
  const { session, startedAt } = input;
  const results = join(import.meta.dirname, "results");
  const name = `${startedAt.toISOString().replaceAll(":", "-")}.json`;
  const path = input.options.jsonPath ?? join(results, name);
  if (input.options.jsonPath === undefined) mkdirSync(results, { recursive: true });
  const result = {
    format: RESULT_FORMAT,
    startedAt: startedAt.toISOString(),
    options: input.options,
    machine: input.machine,
    programs: input.programs,
    noise: { ...input.noise, warnings: noiseWarnings(input.noise) },
    runs: session.runs,
    idle: session.idle,
    cells: session.cells.map((cell) => ({ ...cell, summary: summarize(cell) })),
  };
  writeFileSync(path, `${JSON.stringify(result, null, 2)}\n`);
  return path;
}

if (import.meta.main) process.exitCode = await runBench(process.argv.slice(2));
