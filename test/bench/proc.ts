/**
 * Reading what Linux tells about processors and processes in /proc.
 *
 * The parsers take the text of a file; the readers return undefined where there is no /proc, and the
 * report then says that the figure is not available.
 */
import { readFileSync } from "node:fs";

/** USER_HZ: the unit of processor time in /proc, 100 on every architecture that Node runs on. */
export const TICKS_PER_SECOND = 100;

/** Processor time of the whole machine since it started, in ticks, summed over all processors. */
export type CpuTimes = {
  /** Of processes and of the kernel on their behalf. */
  readonly busy: number;
  /** Interrupts and what follows them, such as carrying packets over the loopback. */
  readonly interrupt: number;
  /** Idle, and waiting for a disk. */
  readonly idle: number;
  /** Time that a virtual machine wanted to run and was not let. */
  readonly steal: number;
};

/** The first line of /proc/stat. Guest time is already part of user time. */
export function parseCpuTimes(stat: string): CpuTimes {
  const fields = /^cpu +([\d ]+)$/m.exec(stat)?.[1]?.split(" ").map(Number);
  if (fields === undefined || fields.length < 8) throw new Error("/proc/stat has no cpu line");
  const [user, nice, system, idle, ioWait, irq, softIrq, steal] = fields as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  return { busy: user + nice + system, interrupt: irq + softIrq, idle: idle + ioWait, steal };
}

/** Percent of the time of all processors between two readings. */
export function cpuShares(
  before: CpuTimes,
  after: CpuTimes,
): { readonly busyPercent: number; readonly stealPercent: number } {
  const busy = after.busy - before.busy;
  const steal = after.steal - before.steal;
  const interrupt = after.interrupt - before.interrupt;
  const all = busy + interrupt + steal + (after.idle - before.idle);
  if (all <= 0) return { busyPercent: 0, stealPercent: 0 };
  return { busyPercent: (100 * busy) / all, stealPercent: (100 * steal) / all };
}

/** Processor time that a process has used. */
export type ProcessCpu = {
  readonly ownMs: number;
  /** Of its children that have ended. */
  readonly endedChildrenMs: number;
};

/** From /proc/PID/stat. */
export function parseProcessCpu(stat: string): ProcessCpu {
  // The second field is the name in parentheses and may contain anything, so count from its end.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ms = (first: number): number => {
    const ticks = Number(fields[first]) + Number(fields[first + 1]);
    if (!Number.isFinite(ticks)) throw new Error("/proc/PID/stat is too short");
    return (ticks * 1000) / TICKS_PER_SECOND;
  };
  return { ownMs: ms(11), endedChildrenMs: ms(13) };
}

export type ProcessMemory = {
  readonly residentBytes: number;
  /** The largest resident size so far. */
  readonly residentPeakBytes: number;
};

/** From /proc/PID/status. */
export function parseProcessMemory(status: string): ProcessMemory {
  const bytes = (name: string): number => {
    const kilobytes = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1];
    if (kilobytes === undefined) throw new Error(`/proc/PID/status lacks ${name}`);
    return Number(kilobytes) * 1024;
  };
  return { residentBytes: bytes("VmRSS"), residentPeakBytes: bytes("VmHWM") };
}

/** The type and device of the file system that holds a path, from /proc/self/mountinfo. */
export function parseFileSystem(
  mountInfo: string,
  path: string,
): { readonly type: string; readonly device: string } | undefined {
  let best: { mountPoint: string; type: string; device: string } | undefined;
  for (const line of mountInfo.split("\n")) {
    const [left, right] = line.split(" - ");
    const mountPoint = left?.split(" ")[4];
    const [type, device] = right?.split(" ") ?? [];
    if (mountPoint === undefined || type === undefined || device === undefined) continue;
    const holds = mountPoint === "/" || path === mountPoint || path.startsWith(`${mountPoint}/`);
    // A later mount on the same point hides the earlier one.
    if (holds && mountPoint.length >= (best?.mountPoint.length ?? 0)) {
      best = { mountPoint, type, device };
    }
  }
  return best === undefined ? undefined : { type: best.type, device: best.device };
}

function read<T>(path: string, parse: (text: string) => T): T | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
  return parse(text);
}

export const readCpuTimes = (): CpuTimes | undefined => read("/proc/stat", parseCpuTimes);

export const readProcessCpu = (pid: number): ProcessCpu | undefined =>
  read(`/proc/${pid}/stat`, parseProcessCpu);

export const readProcessMemory = (pid: number): ProcessMemory | undefined =>
  read(`/proc/${pid}/status`, parseProcessMemory);

export const readFileSystem = (path: string): ReturnType<typeof parseFileSystem> =>
  read("/proc/self/mountinfo", (text) => parseFileSystem(text, path));
