/**
 * Starting and stopping the servers that are compared.
 *
 * Each gets an empty data directory, on the same file system, and listens on 127.0.0.1 only. Both are
 * run with their default settings, so both sync every write to disk before they acknowledge it. The
 * one exception is etcd's quota: its default of 2 GiB would be full within a minute of large values,
 * and it changes when etcd refuses, not how fast it is.
 */
import type { ChildProcess } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Children } from "./children.ts";
import { exchange, type Target } from "./client.ts";
import { keyAt } from "./dataset.ts";
import { etcdProtocol, minikvProtocol, type Protocol } from "./protocol.ts";

const START_TIMEOUT_MS = 30_000;
const POLL_INTERVAL_MS = 5;
const ETCD_QUOTA_BYTES = 8 * 1024 ** 3;
const OUTPUT_LINES_SHOWN = 20;

export type RunningServer = {
  readonly target: Target;
  /** Undefined for a server that the benchmark did not start. */
  readonly pid: number | undefined;
  /** From starting the process to its first answer to a read. */
  readonly startMs: number | undefined;
  stop(): Promise<void>;
};

type StartInput = {
  /** An empty directory of this server; the caller removes it. */
  readonly directory: string;
  readonly children: Children;
  readonly signal: AbortSignal;
};

/** The all-in-one of this checkout. */
export async function startMinikv(
  input: StartInput & { readonly root: string },
): Promise<RunningServer> {
  const port = await freePort();
  return await start(input, {
    protocol: minikvProtocol,
    port,
    command: join(input.root, "bin", "minikv"),
    args: ["dev", "--listen", `127.0.0.1:${port}`, "--data-dir", join(input.directory, "data")],
    env: withoutSettings("MINIKV_"),
  });
}

export async function startEtcd(
  input: StartInput & { readonly path: string },
): Promise<RunningServer> {
  const port = await freePort();
  const clientUrl = `http://127.0.0.1:${port}`;
  const peerUrl = `http://127.0.0.1:${await freePort()}`;
  return await start(input, {
    protocol: etcdProtocol,
    port,
    command: input.path,
    args: [
      "--name=bench",
      `--data-dir=${join(input.directory, "data")}`,
      `--listen-client-urls=${clientUrl}`,
      `--advertise-client-urls=${clientUrl}`,
      `--listen-peer-urls=${peerUrl}`,
      `--initial-advertise-peer-urls=${peerUrl}`,
      `--initial-cluster=bench=${peerUrl}`,
      `--quota-backend-bytes=${ETCD_QUOTA_BYTES}`,
    ],
    env: {
      ...withoutSettings("ETCD_"),
      // etcd asks for this word before it runs on arm64 at all.
      ...(process.arch === "x64" ? {} : { ETCD_UNSUPPORTED_ARCH: process.arch }),
    },
  });
}

/** A server that runs already; it is neither stopped nor watched. */
export function runningMinikv(url: URL): RunningServer {
  const target = {
    protocol: minikvProtocol,
    hostname: url.hostname,
    port: url.port === "" ? 80 : Number(url.port),
  };
  return { target, pid: undefined, startMs: undefined, stop: async () => {} };
}

/** Settings from the environment would make the servers differ from what the report says. */
function withoutSettings(prefix: string): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith(prefix)),
  );
}

async function start(
  input: StartInput,
  server: {
    readonly protocol: Protocol;
    readonly port: number;
    readonly command: string;
    readonly args: readonly string[];
    readonly env: NodeJS.ProcessEnv;
  },
): Promise<RunningServer> {
  mkdirSync(input.directory, { recursive: true });
  const outputPath = join(input.directory, "output.log");
  const startedMs = performance.now();
  const child = input.children.start(server.command, server.args, {
    cwd: input.directory,
    env: server.env,
    outputPath,
  });
  const target = { protocol: server.protocol, hostname: "127.0.0.1", port: server.port };
  try {
    await firstAnswer(target, child, input.signal);
  } catch (error) {
    await input.children.stop(child);
    const output = readFileSync(outputPath, "utf8")
      .trimEnd()
      .split("\n")
      .slice(-OUTPUT_LINES_SHOWN);
    throw new Error(`${server.protocol.server} did not start:\n${output.join("\n")}`, {
      cause: error,
    });
  }
  return {
    target,
    pid: child.pid,
    startMs: performance.now() - startedMs,
    stop: () => input.children.stop(child),
  };
}

/** Asks for an absent key until the storage behind the server answers, with or without a value. */
async function firstAnswer(
  target: Target,
  child: ChildProcess,
  signal: AbortSignal,
): Promise<void> {
  const deadlineMs = performance.now() + START_TIMEOUT_MS;
  const question = target.protocol.get(keyAt(0));
  let last = "no answer";
  while (performance.now() < deadlineMs) {
    signal.throwIfAborted();
    if (child.pid === undefined) throw new Error(`cannot run ${child.spawnfile}`);
    if (child.exitCode !== null || child.signalCode !== null) throw new Error("the server ended");
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
function freePort(): Promise<number> {
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
