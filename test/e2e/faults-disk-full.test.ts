/**
 * Disks that are full, on small file systems of their own: writes are refused, reads and deletes go
 * on, and all is well again when there is space. Where the reserve was not enough the process ends
 * rather than guess, and nothing acknowledged is lost.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { SeededRandom } from "#shared/random.ts";
import { KvClient, problemField } from "./faults/kv-client.ts";
import { Ledger } from "./faults/ledger.ts";
import { Load } from "./faults/load.ts";
import { runSeed } from "./faults/seed.ts";
import { SmallDisk, smallDiskProblem } from "./faults/small-disk.ts";
import { type Deployment, type StartDeployment, startAllInOne, startPair } from "./harness.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

const DISK_SIZE_BYTES = 64 * MiB;
const VALUE_SIZE_BYTES = 128 * KiB;
/** Far more than fit on the disk. */
const PUTS_MAX = 2_000;
/** The guard looks at the disk every 500 ms; only what it says twice is final. */
const REFUSALS_IN_A_ROW = 3;
const REFUSAL_PAUSE_MS = 300;
const RESUME_TIMEOUT_MS = 20_000;
const OTHER_PROGRAM = "other-program";
const MORE_OF_IT = "more-of-it";

const problem = smallDiskProblem();
if (problem !== undefined) process.stdout.write(`full disks are not tested: ${problem}\n`);

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function mountDisk(sizeBytes = DISK_SIZE_BYTES): SmallDisk {
  const disk = new SmallDisk(sizeBytes);
  onTestFinished(() => disk.unmount());
  return disk;
}

function startOn(
  disk: SmallDisk,
  start: StartDeployment,
  reserve: string,
  segment = "1MiB",
): Promise<Deployment> {
  const args = ["--disk-reserve", reserve, "--wal-segment-size", segment];
  return start({ dataDir: join(disk.path, "data"), args });
}

/** Puts new keys until refusals last, and holds every refusal to its word. */
async function fillUp(ledger: Ledger, server: Deployment): Promise<void> {
  let refusals = 0;
  for (let i = 0; refusals < REFUSALS_IN_A_ROW; i++) {
    if (i > PUTS_MAX) throw new Error("the disk was never full");
    const { result } = await ledger.put(`fill-${ledger.keys.length}`, VALUE_SIZE_BYTES);
    if (result.kind !== "answer" || server.storageProcess.exit !== undefined) return;
    if (result.status === 507) {
      expect(problemField(result, "code")).toBe("STORAGE_FULL");
      expect(problemField(result, "outcome")).toBe("not_applied");
      refusals++;
      await sleep(REFUSAL_PAUSE_MS);
    } else refusals = 0;
  }
}

/** Bounded wait for a write to be taken again. */
async function untilWritable(ledger: Ledger): Promise<void> {
  const untilMs = performance.now() + RESUME_TIMEOUT_MS;
  for (;;) {
    const { fate, result } = await ledger.put("after", 1000);
    if (fate === "applied") return;
    if (performance.now() > untilMs) {
      throw new Error(`writes did not resume: ${JSON.stringify(result)}`);
    }
    await sleep(50);
  }
}

/** The process has ended by itself with a reason that names the full disk. */
function expectEndedOnFullDisk(server: Deployment): void {
  const { exit } = server.storageProcess;
  expect(exit).toEqual({ code: 1, signal: null });
  const fatal = server.storageProcess.logRecords().filter(({ level }) => level === "fatal");
  expect(JSON.stringify(fatal)).toMatch(/No space left on device|ENOSPC/);
}

/** On a disk that may still be full: it serves, or says why not. */
async function restartOrRefuse(server: Deployment): Promise<"serves" | "refuses"> {
  try {
    await server.restart();
    return "serves";
  } catch (error) {
    expect(String(error)).toMatch(/ended with 1:[\s\S]*minikv: cannot start: [^\n]*disk is full/);
    return "refuses";
  }
}

describe.skipIf(problem !== undefined)("a full disk", () => {
  it.each([
    ["all-in-one", startAllInOne],
    ["pair", startPair],
  ] as const)(
    "refuses puts with 507, serves the rest, and takes puts again by itself (%s)",
    async (_, start) => {
      const disk = mountDisk();
      disk.takeUp(OTHER_PROGRAM, 8 * MiB);
      const server = await startOn(disk, start, "12MiB");
      const ledger = new Ledger(new KvClient(server.url));
      await fillUp(ledger, server);
      const full = ledger.keys.filter((key) => ledger.exists(key));
      expect(full.length).toBeGreaterThan(10);
      await ledger.verify();
      // Half of the reserve is for what frees space.
      for (const key of full.slice(0, 5)) expect((await ledger.delete(key)).fate).toBe("applied");
      await ledger.verify();
      // Somebody else takes what was reserved, to the last byte.
      disk.takeUp(MORE_OF_IT);
      expect(disk.freeBytes).toBe(0);
      await sleep(2 * REFUSAL_PAUSE_MS);
      for (const key of full.slice(5, 10)) {
        const { result } = await ledger.put(key, VALUE_SIZE_BYTES);
        expect(result).toMatchObject({ status: 507 });
        expect((await ledger.delete(key)).result).toMatchObject({ status: 507 });
      }
      await ledger.verify();
      disk.giveBack(MORE_OF_IT);
      disk.giveBack(OTHER_PROGRAM);
      await untilWritable(ledger);
      await ledger.verify();
      await ledger.audit();
      expect(await server.stop()).toBe(0);
    },
  );

  it("loses nothing when the process is killed on it and restarted", async () => {
    const disk = mountDisk();
    disk.takeUp(OTHER_PROGRAM, 24 * MiB);
    const server = await startOn(disk, startAllInOne, "12MiB");
    const ledger = new Ledger(new KvClient(server.url));
    await fillUp(ledger, server);
    await server.kill9();
    await restartOrRefuse(server);
    await server.kill9();
    disk.takeUp(MORE_OF_IT);
    await restartOrRefuse(server);
    await server.kill9();
    disk.giveBack(MORE_OF_IT);
    disk.giveBack(OTHER_PROGRAM);
    await server.restart();
    await ledger.verify();
    await untilWritable(ledger);
    await ledger.audit();
  });

  it("that fills up at once, under load, ends the process or is refused; nothing is lost", async () => {
    const seed = runSeed("a disk that fills up at once");
    const disk = mountDisk();
    const server = await startOn(disk, startAllInOne, "8MiB");
    const load = new Load(new KvClient(server.url), new SeededRandom(seed));
    let ended = 0;
    for (let round = 1; round <= 3; round++) {
      load.start();
      await sleep(200);
      disk.takeUp(OTHER_PROGRAM);
      await Promise.race([server.storageProcess.exited, sleep(1_500)]);
      if (server.storageProcess.exit !== undefined) {
        ended++;
        expectEndedOnFullDisk(server);
        await restartOrRefuse(server);
        await server.kill9();
      }
      disk.giveBack(OTHER_PROGRAM);
      await server.restart();
      await load.stop();
      await load.verify();
    }
    process.stdout.write(`the process ended ${ended} times of 3\n`);
    await load.ledger.audit();
  });

  it("without any reserve loses nothing either", async () => {
    const disk = mountDisk();
    disk.takeUp(OTHER_PROGRAM, 24 * MiB);
    const server = await startOn(disk, startAllInOne, "0");
    const ledger = new Ledger(new KvClient(server.url));
    await fillUp(ledger, server);
    disk.takeUp(MORE_OF_IT);
    // The guard lets small writes through to the last byte, and then the engine finds no room.
    for (let i = 0; i < PUTS_MAX && server.storageProcess.exit === undefined; i++) {
      const { result } = await ledger.put(`small-${i}`, 2_000);
      if (result.kind === "answer" && result.status === 507) break;
    }
    const hasEnded = server.storageProcess.exit !== undefined;
    process.stdout.write(`without reserve the process ${hasEnded ? "ended" : "refused writes"}\n`);
    if (hasEnded) expectEndedOnFullDisk(server);
    await server.kill9();
    disk.giveBack(MORE_OF_IT);
    disk.giveBack(OTHER_PROGRAM);
    await server.restart();
    await ledger.verify();
    await ledger.audit();
  });

  it("has no room for a segment of the log: what room there is is left to the engine", async () => {
    const disk = mountDisk(2 * DISK_SIZE_BYTES);
    disk.takeUp(OTHER_PROGRAM, DISK_SIZE_BYTES);
    const server = await startOn(disk, startAllInOne, "1MiB", "32MiB");
    const ledger = new Ledger(new KvClient(server.url));
    await fillUp(ledger, server);
    const freeBytes = disk.freeBytes;
    expect(freeBytes).toBeGreaterThan(8 * MiB);
    expect(freeBytes).toBeLessThan(32 * MiB);
    // The log looks for space twice a second. If it took what there is each time, the engine would
    // meet a full disk in between, and that would be the end of the process.
    const untilMs = performance.now() + 2_000;
    let least = freeBytes;
    while (performance.now() < untilMs) {
      least = Math.min(least, disk.freeBytes);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(least).toBeGreaterThan(freeBytes - MiB);
    expect(existsSync(join(server.dataDir, "wal", "prepared.tmp"))).toBe(false);
    expect((await ledger.delete("fill-0")).fate).toBe("applied");
    disk.giveBack(OTHER_PROGRAM);
    await untilWritable(ledger);
    await ledger.verify();
    await ledger.audit();
  });
});
