/**
 * `bin/minikv` as a process of a test or of a long run: how it is spawned, and what it prints.
 *
 * Every process that was spawned here is killed by its id when this one ends, whatever happened, and
 * nothing else is ever touched. Knows no test runner.
 */
import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export const ROOT = join(import.meta.dirname, "..", "..");

const MINIKV = join(ROOT, "bin", "minikv");
const READY_POLL_MS = 20;
const ANSWER_TIMEOUT_MS = 5_000;

/** What a program prints once it listens; the first group is the address. */
export const SERVES_HTTP = /serves (https?:\S+?),?\s/;
export const SERVES_GRPC = /serves gRPC on ([^,\s]+),/;
/** In the line that a storage node prints once it serves. */
export const NODE_ID = /serves gRPC on [^,\s]+,? (?:as )?node (\d+)\b/;

export type Environment = Readonly<Record<string, string>>;

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** Does not wait for anything. */
export function spawnProgram(
  args: readonly string[],
  env: Environment,
  stdio: StdioOptions,
): ChildProcess {
  const child = spawn(MINIKV, args, { cwd: ROOT, env: { ...cleanEnvironment(), ...env }, stdio });
  running.add(child);
  child.on("exit", () => running.delete(child));
  return child;
}

/** The environment of this process without settings that somebody may have made for minikv. */
function cleanEnvironment(): Record<string, string | undefined> {
  const variables = Object.entries(process.env);
  return Object.fromEntries(variables.filter(([name]) => !/^(?:MINIKV|OTEL)_/.test(name)));
}

/** Waits until `/health/ready` answers with `status`. @throws Error when it never does. */
export async function untilReadiness(
  url: string,
  status: 200 | 503,
  timeoutMs: number,
): Promise<void> {
  const untilMs = performance.now() + timeoutMs;
  let last = "no answer";
  while (performance.now() < untilMs) {
    try {
      const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
      const answer = await fetch(`${url}/health/ready`, { signal });
      last = `${answer.status} ${await answer.text()}`;
      if (answer.status === status) return;
    } catch (error) {
      last = String(error);
    }
    await sleep(READY_POLL_MS);
  }
  throw new Error(`${url}/health/ready did not become ${status}: ${last}`);
}
