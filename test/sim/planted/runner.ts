/**
 * Plants one bug in a copy of the tree and lets its simulator look for it, as a child process that is
 * bounded in time. Nothing outside the copy is changed, and the copy is removed.
 */
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { readProcessCpu } from "#test/bench/proc.ts";
import type { Progress, Verdict } from "./child.ts";
import { bugOf, edited, type Mutation } from "./mutation.ts";

export const ROOT = join(import.meta.dirname, "..", "..", "..");

/** What simulators need to run. */
const COPIED = [
  ...["package.json", "tsconfig.json", "shared", "proto", "gateway", "storage-node"],
  ...["test/sim", "test/linearizability"],
];

/**
 * A seed that takes so much processor time never ends. Where that cannot be read it is time by the clock, and a busy
 * machine then finds bugs that are none: a child that waits for a processor looks the same.
 */
const SEED_TIMEOUT_MS = 30_000;
const WATCH_INTERVAL_MS = 1_000;

export type Finding = {
  readonly bug: number;
  readonly mutation: string;
  readonly what: string;
  readonly open: string | undefined;
  readonly simulation: string;
  /** The rule that was broken; undefined when none was. */
  readonly rule: string | undefined;
  readonly message: string;
  readonly seeds: number;
  readonly events: number;
  readonly seconds: number;
};

export type RunOptions = { readonly seedsMax: number; readonly timeoutMs: number };

export async function runMutation(mutation: Mutation, options: RunOptions): Promise<Finding> {
  const tree = mkdtempSync(join(tmpdir(), "minikv-planted-"));
  const begunAtMs = performance.now();
  try {
    copyTree(tree);
    plant(tree, mutation);
    const verdict = await look(tree, mutation, options);
    return {
      bug: bugOf(mutation),
      mutation: mutation.name,
      what: mutation.what,
      open: mutation.open,
      simulation: mutation.simulation,
      rule: verdict.rule,
      message: verdict.message.replaceAll(tree, ""),
      seeds: verdict.seed,
      events: verdict.events,
      seconds: (performance.now() - begunAtMs) / 1000,
    };
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}

function copyTree(tree: string): void {
  for (const name of COPIED) cpSync(join(ROOT, name), join(tree, name), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(tree, "node_modules"));
}

function plant(tree: string, { edits }: Mutation): void {
  for (const edit of edits) {
    const path = join(tree, edit.file);
    writeFileSync(path, edited(readFileSync(path, "utf8"), edit));
  }
}

/** A run that takes too long is itself a way in which a bug shows, unless all time is used up. */
function look(
  tree: string,
  { simulation }: Mutation,
  { seedsMax, timeoutMs }: RunOptions,
): Promise<Verdict> {
  const script = join("test", "sim", "planted", "child.ts");
  const child = spawn(process.execPath, [script, simulation, "1", String(seedsMax)], {
    cwd: tree,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let seed = 1;
  let verdict: Verdict | undefined;
  let errors = "";
  let stuck = false;
  const giveUp = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
  const pid = child.pid ?? 0;
  const isReadable = readProcessCpu(pid) !== undefined;
  // One that has ended has used nothing: what it said counts.
  const usedMs = (): number => (isReadable ? (readProcessCpu(pid)?.ownMs ?? 0) : performance.now());
  let seedBeganMs = usedMs();
  const watch = setInterval(() => {
    if (usedMs() - seedBeganMs < SEED_TIMEOUT_MS) return;
    stuck = true;
    child.kill("SIGKILL");
  }, WATCH_INTERVAL_MS);
  createInterface({ input: child.stdout }).on("line", (line) => {
    const told = JSON.parse(line) as Progress | Verdict;
    seed = told.seed;
    seedBeganMs = usedMs();
    if ("message" in told) verdict = told;
  });
  child.stderr.on("data", (data) => {
    errors = `${errors}${data}`.slice(-2000);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", () => {
      clearTimeout(giveUp);
      clearInterval(watch);
      const rest = { seed, events: 0 };
      if (verdict !== undefined) resolve(verdict);
      else if (stuck) resolve({ ...rest, rule: "never ends", message: "the run does not end" });
      else if (errors !== "") resolve({ ...rest, rule: "error", message: errors });
      else resolve({ ...rest, rule: undefined, message: "out of time" });
    });
  });
}
