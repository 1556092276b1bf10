/** Texts as Linux writes them, and the figures in them. */
import { describe, expect, it } from "vitest";
import {
  cpuShares,
  parseCpuTimes,
  parseFileSystem,
  parseProcessCpu,
  parseProcessMemory,
} from "./proc.ts";

const STAT = `cpu  100 1 50 800 40 2 3 4 7 0
cpu0 50 0 25 400 20 1 1 2 3 0
intr 12345
`;

describe("parseCpuTimes()", () => {
  it("sums busy and idle time and leaves guest time in user time", () => {
    expect(parseCpuTimes(STAT)).toEqual({ busy: 151, interrupt: 5, idle: 840, steal: 4 });
  });

  it("throws on a file without the line", () => {
    expect(() => parseCpuTimes("cpu0 1 2 3 4 5 6 7 8 9 0\n")).toThrow("no cpu line");
  });
});

describe("cpuShares()", () => {
  it("gives percent of all processors between two readings", () => {
    const before = { busy: 100, interrupt: 0, idle: 1000, steal: 0 };
    const after = { busy: 130, interrupt: 5, idle: 1055, steal: 10 };
    expect(cpuShares(before, after)).toEqual({ busyPercent: 30, stealPercent: 10 });
  });

  it("gives zero for two equal readings", () => {
    const times = { busy: 1, interrupt: 1, idle: 1, steal: 1 };
    expect(cpuShares(times, times)).toEqual({ busyPercent: 0, stealPercent: 0 });
  });
});

describe("parseProcessCpu()", () => {
  it("adds user and system time, of ended children too, whatever the process is called", () => {
    const fields = "S 1 2 3 0 -1 4194560 9 0 0 0 250 50 11 12 20 0 8 0 12345";
    const used = { ownMs: 3000, endedChildrenMs: 230 };
    expect(parseProcessCpu(`42 (node) ${fields}`)).toEqual(used);
    expect(parseProcessCpu(`42 (odd) R 1 name) ${fields}`)).toEqual(used);
  });

  it("throws on a line cut short", () => {
    expect(() => parseProcessCpu("42 (node) S 1 2 3")).toThrow("too short");
  });
});

describe("parseProcessMemory()", () => {
  it("reads resident size and its peak in bytes", () => {
    const status = "Name:\tnode\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\nThreads:\t11\n";
    expect(parseProcessMemory(status)).toEqual({
      residentBytes: 102_400 * 1024,
      residentPeakBytes: 204_800 * 1024,
    });
  });

  it("throws when a figure is missing", () => {
    expect(() => parseProcessMemory("Name:\tkthreadd\n")).toThrow("VmRSS");
  });
});

describe("parseFileSystem()", () => {
  const MOUNTS = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 27 0:27 / /tmp rw,relatime - tmpfs tmpfs rw,size=1k
31 27 0:28 / /tmp/deep rw,relatime - xfs /dev/vdb rw
32 27 0:29 / /tmp/deep rw,relatime - btrfs /dev/vdc rw
`;

  it("takes the longest mount point that holds the path, whole names only", () => {
    expect(parseFileSystem(MOUNTS, "/var/lib")).toEqual({ type: "ext4", device: "/dev/vda" });
    expect(parseFileSystem(MOUNTS, "/tmp/x")).toEqual({ type: "tmpfs", device: "tmpfs" });
    expect(parseFileSystem(MOUNTS, "/tmpfiles")).toEqual({ type: "ext4", device: "/dev/vda" });
  });

  it("takes the later of two mounts on one point", () => {
    expect(parseFileSystem(MOUNTS, "/tmp/deep/er")).toEqual({ type: "btrfs", device: "/dev/vdc" });
  });
});
