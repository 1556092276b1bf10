/**
 * `minikv bench --watch`: from a write to its event at many watchers of one prefix, and what watchers cost that have
 * nothing to see.
 *
 * The times begin before a PUT is sent and end where a watcher has received its event, on one clock. The clients run
 * on the same machine, and take a good part of it. What is written while the server is cold is told apart: to whichever
 * of the two an event belongs is decided by when its write was sent.
 */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { Children } from "./children.ts";
import { readProcessCpu, readProcessMemory } from "./proc.ts";
import { type RunningServer, startMinikv } from "./servers.ts";

export type WatchClientsData = {
  readonly port: number;
  readonly count: number;
  /** In turns; `#` at the end stands for the number of the client. */
  readonly paths: readonly string[];
  /** So many of the clients. */
  readonly readInFull: number;
};
export type WatchClientsTask = "report";
export type ReceivedEvent = {
  /** Of the write, since the epoch. */
  readonly sentAtMs: number;
  /** From then to the event. */
  readonly tookMs: number;
};
export type WatchClientsReport = {
  readonly received: readonly ReceivedEvent[];
  readonly bytes: number;
  /** Clients that have seen the last event. */
  readonly finished: number;
  readonly failed: number;
};

export const WATCH_HELP = `Usage: minikv bench --watch [--option value …]

  --watchers N         of one prefix; default 1000
  --rate N             writes a second; default 1000
  --duration SECONDS   default 10
  --size BYTES         of a value; default 256
  --idle-watchers N    that see nothing, each with a prefix of its own; default 10000
`;

const OPTIONS = {
  watch: { type: "boolean" },
  watchers: { type: "string", default: "1000" },
  rate: { type: "string", default: "1000" },
  duration: { type: "string", default: "10" },
  size: { type: "string", default: "256" },
  "idle-watchers": { type: "string", default: "10000" },
  help: { type: "boolean" },
} as const;

const ROOT = join(import.meta.dirname, "..", "..");
const READ_IN_FULL = 20;
const TICK_MS = 5;
const SETTLE_MS = 3_000;
const WARM_UP_SECONDS = 3;
const END_TIMEOUT_MS = 60_000;
const CONNECTIONS = 64;

type Clients = { readonly worker: Worker; report(): Promise<WatchClientsReport> };

async function openClients(data: WatchClientsData): Promise<Clients> {
  const worker = new Worker(new URL("./watch-clients.ts", import.meta.url), { workerData: data });
  const next = (): Promise<WatchClientsReport> =>
    new Promise((resolve, reject) => {
      worker.once("message", (report: WatchClientsReport) => {
        worker.off("error", reject);
        resolve(report);
      });
      worker.once("error", reject);
    });
  await next();
  return {
    worker,
    report: () => {
      const answer = next();
      worker.postMessage("report" satisfies WatchClientsTask);
      return answer;
    },
  };
}

const epochMs = (): number => performance.timeOrigin + performance.now();

class Writer {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  readonly #port: number;
  readonly #padding: string;
  inFlight = 0;
  failed = 0;
  readonly answered: ReceivedEvent[] = [];

  constructor(port: number, sizeBytes: number) {
    this.#port = port;
    this.#padding = "x".repeat(Math.max(0, sizeBytes - 20));
  }

  put(key: string, mark: string): void {
    this.inFlight++;
    const sentAtMs = epochMs();
    const done = (isFailed: boolean): void => {
      this.answered.push({ sentAtMs, tookMs: epochMs() - sentAtMs });
      this.inFlight--;
      if (isFailed) this.failed++;
    };
    const outgoing = request(
      {
        ...{ host: "127.0.0.1", port: this.#port, agent: this.#agent, method: "PUT" },
        path: `/v1/kv/${key}`,
      },
      (answer) => {
        answer.resume();
        answer.on("end", () => done(answer.statusCode! >= 300));
      },
    );
    outgoing.on("error", () => done(true));
    outgoing.end(`${mark} ${this.#padding}`);
  }

  /** So many a second, at even distances, whether or not they are answered in time. */
  async run(perSecond: number, seconds: number): Promise<void> {
    const startMs = performance.now();
    let sent = 0;
    for (;;) {
      const passedMs = performance.now() - startMs;
      if (passedMs >= seconds * 1_000) return;
      for (const due = (passedMs * perSecond) / 1_000; sent < due; sent++) {
        this.put(`hot/${sent % 10_000}`, epochMs().toFixed(3));
      }
      await sleep(TICK_MS);
    }
  }

  close(): void {
    this.#agent.destroy();
  }
}

const percentile = (sorted: readonly number[], part: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;

function timesOf(events: readonly ReceivedEvent[]): string {
  const sorted = events.map(({ tookMs }) => tookMs).sort((a, b) => a - b);
  const ms = (part: number): string => percentile(sorted, part).toFixed(1);
  return `p50 ${ms(0.5)} ms, p99 ${ms(0.99)} ms, largest ${ms(1)} ms`;
}

async function measureHot(
  server: RunningServer,
  options: { watchers: number; rate: number; seconds: number; sizeBytes: number },
): Promise<boolean> {
  const { watchers, rate, seconds, sizeBytes } = options;
  const { port } = server.target;
  const paths = ["/v1/watch?prefix=hot/&values=true"];
  const clients = await openClients({ port, count: watchers, paths, readInFull: READ_IN_FULL });
  const writer = new Writer(port, sizeBytes);
  await writer.run(rate, WARM_UP_SECONDS);
  const beginAtMs = epochMs();
  const cpuBefore = { server: cpuMsOf(server), clients: process.cpuUsage() };
  const beginMs = performance.now();
  await writer.run(rate, seconds);
  writer.put("hot/end", "END");
  const untilMs = performance.now() + END_TIMEOUT_MS;
  let report = await clients.report();
  while (report.finished < watchers && performance.now() < untilMs) {
    await sleep(100);
    report = await clients.report();
  }
  const tookMs = performance.now() - beginMs;
  const serverCpu = (cpuMsOf(server) - cpuBefore.server) / tookMs;
  const { user, system } = process.cpuUsage(cpuBefore.clients);
  const clientCpu = (user + system) / 1_000 / tookMs;
  writer.close();
  await clients.worker.terminate();
  const isWarm = ({ sentAtMs }: ReceivedEvent): boolean => sentAtMs >= beginAtMs;
  const warm = report.received.filter(isWarm);
  const cold = report.received.filter((event) => !isWarm(event));
  const perSecond = Math.round(warm.length / Math.min(READ_IN_FULL, watchers) / seconds);
  process.stdout.write(
    `${watchers} watchers of one prefix, ${rate} writes/s of ${sizeBytes} bytes for ${seconds} s:\n` +
      `  write to event ${timesOf(warm)} (${perSecond} events/s at each)\n` +
      `  write to answer ${timesOf(writer.answered.filter(isWarm))}\n` +
      `  in the ${WARM_UP_SECONDS} s before, with a cold server: write to event ${timesOf(cold)}\n` +
      `  all of it in ${(tookMs / 1_000).toFixed(1)} s, with ${serverCpu.toFixed(2)} cores of the server ` +
      `and ${clientCpu.toFixed(2)} of the clients\n` +
      `  ${report.finished} watchers have the last event, ${writer.failed} writes failed, ` +
      `${(report.bytes / 2 ** 20).toFixed(0)} MiB of events\n`,
  );
  return report.finished === watchers && writer.failed === 0;
}

const cpuMsOf = ({ pids }: RunningServer): number =>
  pids.reduce((sum, pid) => sum + (readProcessCpu(pid)?.ownMs ?? 0), 0);

const residentMiB = ({ pids }: RunningServer): number =>
  pids.reduce((sum, pid) => sum + (readProcessMemory(pid)?.residentBytes ?? 0), 0) / 2 ** 20;

async function measureIdle(server: RunningServer, count: number): Promise<void> {
  const { port } = server.target;
  const before = residentMiB(server);
  const paths = ["/v1/watch?prefix=idle/#"];
  const clients = await openClients({ port, count, paths, readInFull: 0 });
  await sleep(SETTLE_MS);
  const after = residentMiB(server);
  await clients.worker.terminate();
  process.stdout.write(
    `${count} idle watchers, each with a prefix of its own: ${before.toFixed(0)} MiB before, ` +
      `${after.toFixed(0)} MiB with them (${(((after - before) * 1024) / count).toFixed(1)} KiB each)\n`,
  );
}

/** Returns the exit code. */
export async function runWatchBench(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...argv], options: OPTIONS, strict: true });
  if (values.help === true) {
    process.stdout.write(WATCH_HELP);
    return 0;
  }
  const children = new Children();
  const directory = mkdtempSync(join(realpathSync(tmpdir()), "minikv-bench-watch-"));
  try {
    const { signal } = new AbortController();
    const server = await startMinikv({ directory, children, signal, root: ROOT });
    const idle = Number(values["idle-watchers"]);
    if (idle > 0) await measureIdle(server, idle);
    const watchers = Number(values.watchers);
    if (watchers === 0) return 0;
    const isGood = await measureHot(server, {
      ...{ watchers, rate: Number(values.rate), seconds: Number(values.duration) },
      sizeBytes: Number(values.size),
    });
    return isGood ? 0 : 1;
  } finally {
    await children.stopAll();
    rmSync(directory, { recursive: true, force: true });
  }
}
