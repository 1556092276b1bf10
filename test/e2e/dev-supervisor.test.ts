/**
 * The supervisor of `minikv dev --nodes`, with stubs in place of storage nodes and gateways: signals,
 * exit codes, what is left behind, and what a second start finds. With the real ones:
 * dev-cluster.test.ts.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { readState } from "#bin/dev-cluster/state.ts";
import { ROOT } from "#test/processes/minikv.ts";
import { type ClusterFile, clusterFile, isAlive, pidsOf } from "./dev-files.ts";
import { temporaryDirectory } from "./harness.ts";

const STUB_DEV = join(ROOT, "bin", "dev-cluster", "testing", "stub-dev.ts");
/** Against hanging, not a measure: the machine may be busy. */
const BUSY = { timeout: 25_000, interval: 20 };

class Dev {
  readonly dir: string;
  readonly child: ChildProcess;
  readonly exited: Promise<number | string | null>;
  out = "";
  err = "";
  /** Of all processes that were ever seen. */
  #pids = new Set<number>();

  constructor(
    dir: string,
    args: readonly string[] = ["--nodes", "2"],
    env: Record<string, string> = {},
  ) {
    this.dir = dir;
    const argv = [STUB_DEV, "--listen", "127.0.0.1:0", "--dir", dir, ...args];
    const child = spawn(process.execPath, argv, { env: { ...process.env, ...env } });
    this.child = child;
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      this.out += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.err += text;
    });
    this.exited = new Promise((resolve) =>
      child.on("close", (code, signal) => resolve(code ?? signal)),
    );
    onTestFinished(async () => {
      child.kill("SIGKILL");
      await this.exited;
      for (const pid of this.#pids) if (isAlive(pid)) process.kill(pid, "SIGKILL");
    });
  }

  clusterFile(): ClusterFile {
    return clusterFile(this.dir);
  }

  /** Every process that runs. */
  pids(): readonly number[] {
    const pids = pidsOf(this.clusterFile());
    for (const pid of pids) this.#pids.add(pid);
    return pids;
  }

  async ready(): Promise<this> {
    await expect.poll(() => this.out + this.err, BUSY).toContain("Stop with Ctrl-C");
    this.pids();
    return this;
  }
}

/** `minikv dev <command>` for a cluster that runs. */
function command(dev: Dev, ...argv: readonly string[]) {
  const cli = join(ROOT, "bin", "cli.ts");
  const env = { ...process.env, MINIKV_DIR: dev.dir };
  return spawnSync(process.execPath, [cli, "dev", ...argv], { encoding: "utf8", env });
}

const allGone = (pids: readonly number[]) =>
  expect.poll(() => pids.filter(isAlive), BUSY).toEqual([]);

describe("a cluster", () => {
  it("stops with one signal, leaves nothing behind, and is found again", async () => {
    const dir = join(temporaryDirectory(), "c");
    const first = await new Dev(dir, ["--nodes", "2", "--gateways", "2"]).ready();
    const { gateways, storageNodes } = first.clusterFile();
    expect(storageNodes.map(({ id }) => id)).toEqual([1, 2]);
    const pids = first.pids();
    expect(pids).toHaveLength(4);
    for (const { url } of gateways) {
      expect((await fetch(`${url}/health/ready`)).status).toBe(200);
      expect(first.out).toContain(url);
    }
    first.child.kill("SIGINT");
    expect(await first.exited).toBe(0);
    await allGone(pids);
    expect(first.pids()).toEqual([]);
    expect(existsSync(join(dir, "control.sock"))).toBe(false);

    const second = await new Dev(dir, ["--nodes", "3", "--gateways", "2"]).ready();
    const again = second.clusterFile();
    expect(again.gateways.map(({ url }) => url)).toEqual(gateways.map(({ url }) => url));
    const addresses = again.storageNodes.map(({ address }) => address);
    expect(addresses.slice(0, 2)).toEqual(storageNodes.map(({ address }) => address));
    expect(addresses).toHaveLength(3);
    second.child.kill("SIGTERM");
    expect(await second.exited).toBe(0);

    const fewer = new Dev(dir, ["--nodes", "2"]);
    expect(await fewer.exited).toBe(1);
    expect(fewer.err).toContain("this cluster has 3 nodes, and 2 were asked for");
  });

  it("takes commands, and goes on when its processes end", async () => {
    const dev = await new Dev(join(temporaryDirectory(), "c"), ["--nodes", "3"]).ready();
    const killed = dev.clusterFile().storageNodes[0]!.pid!;
    expect(command(dev, "kill", "--leader-of", "hello")).toMatchObject({
      stdout: "node-1 was sent SIGKILL\n",
      status: 0,
    });
    await allGone([killed]);
    expect(dev.clusterFile().storageNodes[0]).toMatchObject({ id: 1, pid: null });
    await expect.poll(() => dev.out).toContain(`node-1 (pid ${killed}) was ended by SIGKILL`);
    expect(command(dev, "kill", "1")).toMatchObject({
      stderr: expect.stringContaining("minikv: node-1 does not run\n"),
      status: 1,
    });
    expect(command(dev, "restart", "1")).toMatchObject({ status: 0 });
    expect(isAlive(dev.clusterFile().storageNodes[0]!.pid!)).toBe(true);
    expect(command(dev, "pause", "node-2").stdout).toBe("node-2 is paused until it is resumed\n");
    expect(command(dev, "add-node")).toMatchObject({ status: 0 });
    expect(command(dev, "status").stdout).toMatch(/^node-2 .* paused .*\n.*\nnode-4 .* serving /m);
    expect(command(dev, "kil")).toMatchObject({ status: 2 });
    const pids = dev.pids();
    expect(pids).toHaveLength(5);
    // A paused process stops in order too.
    dev.child.kill("SIGINT");
    expect(await dev.exited).toBe(0);
    await allGone(pids);
    expect(command(dev, "status")).toMatchObject({ status: 1 });
  });

  it("is refused a second supervisor", async () => {
    const dev = await new Dev(join(temporaryDirectory(), "c"), ["--nodes", "1"]).ready();
    const second = new Dev(dev.dir, ["--nodes", "1"]);
    expect(await second.exited).toBe(1);
    expect(second.err).toContain(`a cluster is running in ${dev.dir} already`);
    expect(command(dev, "status").status).toBe(0);
    dev.child.kill("SIGTERM");
    expect(await dev.exited).toBe(0);
  });

  it("ends with a supervisor that was killed, and starts again at once", async () => {
    const dir = join(temporaryDirectory(), "c");
    const first = await new Dev(dir).ready();
    const pids = first.pids();
    first.child.kill("SIGKILL");
    await first.exited;
    const second = await new Dev(dir).ready();
    await allGone(pids);
    expect(second.clusterFile().storageNodes.map(({ address }) => address)).toEqual(
      readState(join(dir, "dev.json"))!.seeds,
    );
    second.child.kill("SIGTERM");
    expect(await second.exited).toBe(0);
  });

  it("goes on after SIGHUP, and says that there is nothing to reload", async () => {
    const dev = await new Dev(join(temporaryDirectory(), "c")).ready();
    dev.child.kill("SIGHUP");
    await expect.poll(() => dev.err, BUSY).toContain("SIGHUP: nothing to reload");
    expect(dev.pids().filter(isAlive)).toHaveLength(3);
    dev.child.kill("SIGTERM");
    expect(await dev.exited).toBe(0);
  });

  it("is ended at once by a second signal", async () => {
    const env = { STUB_DEAF: "node-1" };
    const dev = await new Dev(join(temporaryDirectory(), "c"), ["--nodes", "2"], env).ready();
    const pids = dev.pids();
    dev.child.kill("SIGINT");
    await expect.poll(() => pids.filter(isAlive).length, BUSY).toBe(1);
    // Repeats within half a second count as one.
    const repeat = setInterval(() => dev.child.kill("SIGINT"), 100);
    onTestFinished(() => clearInterval(repeat));
    // Ended by the signal itself when one more comes in the last moment: the same to a shell.
    expect([130, "SIGINT"]).toContain(await dev.exited);
    await allGone(pids);
  });

  it("exits with 1 when a process has to be killed", async () => {
    const args = ["--nodes", "2", "--shutdown-timeout", "3s"];
    const dev = await new Dev(join(temporaryDirectory(), "c"), args, {
      STUB_DEAF: "node-2",
    }).ready();
    const pids = dev.pids();
    dev.child.kill("SIGTERM");
    expect(await dev.exited).toBe(1);
    expect(dev.err).toContain("node-2 did not stop within");
    await allGone(pids);
  });
});

describe("a start that fails", () => {
  it("shows the end of the log of the process that ended, and ends the others", async () => {
    const dir = join(temporaryDirectory(), "c");
    const dev = new Dev(dir, ["--nodes", "3"], { STUB_FAILS: "node-2" });
    expect(await dev.exited).toBe(1);
    expect(dev.err).toMatch(
      /node-2 ended with exit code 3\..*node-2\.log:\n.*the disk is on fire/s,
    );
    // Nobody serves: its ports are free for the next start, which finds the same cluster.
    const next = await new Dev(dir, ["--nodes", "3"]).ready();
    expect(next.clusterFile().storageNodes.map(({ id }) => id)).toEqual([1, 2, 3]);
    next.child.kill("SIGTERM");
    expect(await next.exited).toBe(0);
  });

  it("can be broken off by a signal", async () => {
    const env = { STUB_UNREADY: "gateway" };
    const dir = join(temporaryDirectory(), "c");
    const dev = new Dev(dir, ["--nodes", "2"], env);
    await expect.poll(() => dev.out, BUSY).toMatch(/node-1 serves.*node-2 serves|node-2.*node-1/s);
    dev.child.kill("SIGINT");
    expect(await dev.exited).toBe(0);
    expect(existsSync(join(dir, "cluster.json"))).toBe(false);
    const again = await new Dev(dir).ready();
    again.child.kill("SIGINT");
    expect(await again.exited).toBe(0);
  });
});
