/**
 * Starting and stopping the servers that are compared.
 *
 * Each gets an empty data directory, on the same file system, and listens on 127.0.0.1 only. Both are
 * run with their default settings, so both sync every write to disk before they acknowledge it.
 */
import type { ChildProcess } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Children } from "./children.ts";
import { exchange, type Target } from "./client.ts";
import { keyAt } from "./dataset.ts";
import { minikvProtocol, minikvProtocolWith, type Protocol } from "./protocol.ts";

const START_TIMEOUT_MS = 30_000;
const POLL_INTERVAL_MS = 5;
const OUTPUT_LINES_SHOWN = 20;

export type RunningServer = {
  readonly target: Target;
  /** With which it is asked, where it wants one. */
  readonly apiKey?: string;
  /** Its processes; none of a server that the benchmark did not start. */
  readonly pids: readonly number[];
  /** From starting the process to its first answer to a read. */
  readonly startMs: number | undefined;
  stop(): Promise<void>;
};

export type StartInput = {
  /** An empty directory of this server; the caller removes it. */
  readonly directory: string;
  readonly children: Children;
  readonly signal: AbortSignal;
};

export type MinikvInput = StartInput & {
  readonly root: string;
  /** By default "minikv". */
  readonly name?: "minikv" | "bare";
  /** Of each request. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Beyond the defaults. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
};

/** The all-in-one of this checkout. */
export async function startMinikv(input: MinikvInput): Promise<RunningServer> {
  const port = await freePort();
  const listen = ["--listen", `127.0.0.1:${port}`];
  return await start(input, {
    protocol: minikvProtocolWith(input.headers ?? {}, input.name),
    port,
    programs: [
      {
        name: "minikv",
        command: join(input.root, "bin", "minikv"),
        args: [
          "dev",
          ...listen,
          "--data-dir",
          join(input.directory, "data"),
          ...(input.args ?? []),
        ],
        env: { ...withoutSettings("MINIKV_", "OTEL_"), ...input.env },
      },
    ],
  });
}

/** A server that runs already; it is neither stopped nor watched. */
export function runningMinikv(url: URL): RunningServer {
  const target = {
    protocol: minikvProtocol,
    hostname: url.hostname,
    port: url.port === "" ? 80 : Number(url.port),
  };
  return { target, pids: [], startMs: undefined, stop: async () => {} };
}

/** Settings from the environment would make the servers differ from what the report says. */
export function withoutSettings(...prefixes: readonly string[]): NodeJS.ProcessEnv {
  const isSetting = (name: string) => prefixes.some((prefix) => name.startsWith(prefix));
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !isSetting(name)));
}

export type Program = {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
};

type ServerInput = {
  readonly protocol: Protocol;
  /** Where it is asked. */
  readonly port: number;
  /** Started at once; all of them are the server. */
  readonly programs: readonly Program[];
};

/** Starts the programs of a server and waits for its first answer. */
export async function start(input: StartInput, server: ServerInput): Promise<RunningServer> {
  const { children, directory, signal } = input;
  mkdirSync(directory, { recursive: true });
  const startedMs = performance.now();
  const outputOf = ({ name }: Program): string => join(directory, `${name}.log`);
  const running = server.programs.map((program) =>
    children.start(program.command, program.args, {
      cwd: directory,
      env: program.env,
      outputPath: outputOf(program),
    }),
  );
  // The last one first: a gateway before what it asks.
  const stop = async (): Promise<void> => {
    for (const child of [...running].reverse()) await children.stop(child);
  };
  const target = { protocol: server.protocol, hostname: "127.0.0.1", port: server.port };
  try {
    await firstAnswer(target, running, signal);
  } catch (error) {
    await stop();
    const outputs = server.programs.map((program) => {
      const lines = readFileSync(outputOf(program), "utf8").trimEnd().split("\n");
      return `${program.name}:\n${lines.slice(-OUTPUT_LINES_SHOWN).join("\n")}`;
    });
    throw new Error(`${server.protocol.server} did not start:\n${outputs.join("\n")}`, {
      cause: error,
    });
  }
  const pids = running.flatMap(({ pid }) => (pid === undefined ? [] : [pid]));
  return { target, pids, startMs: performance.now() - startedMs, stop };
}

/** Asks for an absent key until the storage behind the server answers, with or without a value. */
async function firstAnswer(
  target: Target,
  children: readonly ChildProcess[],
  signal: AbortSignal,
): Promise<void> {
  const deadlineMs = performance.now() + START_TIMEOUT_MS;
  const question = target.protocol.get(keyAt(0));
  let last = "no answer";
  while (performance.now() < deadlineMs) {
    signal.throwIfAborted();
    for (const { pid, spawnfile, exitCode, signalCode } of children) {
      if (pid === undefined) throw new Error(`cannot run ${spawnfile}`);
      if (exitCode !== null || signalCode !== null) throw new Error("a process of it ended");
    }
    try {
      const { status } = await exchange(target, question, { timeoutMs: START_TIMEOUT_MS, signal });
      if (status === 200 || status === 404) return;
      last = `status ${status}`;
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
    }
    await sleep(POLL_INTERVAL_MS, undefined, { signal });
  }
  throw new Error(`${last} after ${START_TIMEOUT_MS} ms`);
}

/** A port that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}
