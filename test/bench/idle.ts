/** What the servers cost while nobody asks them anything. */
import { setTimeout as sleep } from "node:timers/promises";
import { readProcessCpu, readProcessMemory } from "./proc.ts";
import type { ServerName } from "./protocol.ts";
import type { RunningServer } from "./servers.ts";

/** Right after a start there is work that ends by itself: elections, compiling, collecting garbage. */
const SETTLE_MS = 2_000;
const SAMPLE_INTERVAL_MS = 500;

export type Idle = {
  readonly server: ServerName;
  readonly seconds: number;
  /** Largest resident size seen, of all its processes together. */
  readonly residentBytes: number;
  /** Of one core. */
  readonly cpuPercent: number;
};

/**
 * Watches the servers for `seconds` without load, all at once. Servers that the benchmark did not
 * start, and systems without /proc, give no sample.
 */
export async function watchIdle(
  servers: readonly RunningServer[],
  seconds: number,
  signal: AbortSignal,
): Promise<readonly Idle[]> {
  await sleep(SETTLE_MS, undefined, { signal });
  const startMs = performance.now();
  const watched = servers.flatMap(({ pids, target }) => {
    const cpuMs = sumOf(pids, (pid) => readProcessCpu(pid)?.ownMs);
    return pids.length === 0 || cpuMs === undefined
      ? []
      : [{ pids, server: target.protocol.server, startCpuMs: cpuMs, residentBytes: 0 }];
  });
  if (watched.length === 0) return [];
  while (performance.now() - startMs < seconds * 1000) {
    await sleep(SAMPLE_INTERVAL_MS, undefined, { signal });
    for (const process of watched) {
      const now = sumOf(process.pids, (pid) => readProcessMemory(pid)?.residentBytes) ?? 0;
      process.residentBytes = Math.max(process.residentBytes, now);
    }
  }
  const elapsedMs = performance.now() - startMs;
  return watched.flatMap(({ pids, server, startCpuMs, residentBytes }) => {
    const cpuMs = sumOf(pids, (pid) => readProcessCpu(pid)?.ownMs);
    if (cpuMs === undefined) throw new Error(`${server} ended while it was idle`);
    return [
      {
        server,
        seconds: elapsedMs / 1000,
        residentBytes,
        cpuPercent: (100 * (cpuMs - startCpuMs)) / elapsedMs,
      },
    ];
  });
}

/** Undefined as soon as one of the processes has no value. */
function sumOf(
  pids: readonly number[],
  read: (pid: number) => number | undefined,
): number | undefined {
  let sum = 0;
  for (const pid of pids) {
    const value = read(pid);
    if (value === undefined) return undefined;
    sum += value;
  }
  return sum;
}
