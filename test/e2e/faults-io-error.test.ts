/**
 * Disks that fail, tear writes, lose power or are slow, under a real process.
 *
 * The disk takes unsynced writes back when a sync fails or the power does (faults/faulty-disk.c), so
 * that whatever was acknowledged too early is missing afterwards.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SeededRandom } from "#shared/random.ts";
import { EIO, ENOSPC, FaultyDisk, faultyDiskProblem, type Rule } from "./faults/faulty-disk.ts";
import { KvClient } from "./faults/kv-client.ts";
import { Load } from "./faults/load.ts";
import { lastSequence } from "./faults/log-files.ts";
import { runSeed } from "./faults/seed.ts";
import { type Deployment, startAllInOne, startPair } from "./harness.ts";

const ARGS = ["--wal-segment-size", "1MiB", "--disk-reserve", "16MiB"];
const TORN_ROUNDS = 4;
const POWER_ROUNDS = 8;
const PARALLEL_PUTS = 64;

const problem = faultyDiskProblem();
if (problem !== undefined) process.stdout.write(`faulty disks are not tested: ${problem}\n`);

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe.skipIf(problem !== undefined)("a disk that", () => {
  let disk: FaultyDisk;
  beforeAll(() => {
    disk = new FaultyDisk();
  });
  afterAll(() => disk.remove());

  async function startOnFaultyDisk(start = startAllInOne, seed = 1) {
    disk.heal();
    const server = await start({ args: ARGS, env: disk.env });
    const client = new KvClient(server.url);
    return { server, load: new Load(client, new SeededRandom(seed)) };
  }

  /** Puts the server under load, applies `rule`, and waits until the storing process has ended. */
  async function failUnderLoad(server: Deployment, load: Load, rule: Rule) {
    load.start();
    await sleep(100);
    disk.set(rule);
    const exit = await server.storageProcess.exited;
    disk.heal();
    expect(disk.hasStruck).toBe(true);
    return exit;
  }

  async function restartAndVerify(server: Deployment, load: Load): Promise<void> {
    await server.restart();
    await load.stop();
    await load.verify();
  }

  const failures: readonly [string, typeof startAllInOne, Rule][] = [
    ["EIO on a sync of the log", startAllInOne, rule("sync", "wal", "fail", EIO)],
    ["EIO on a sync of the log, behind a gateway", startPair, rule("sync", "wal", "fail", EIO)],
    ["EIO on a write of the log", startAllInOne, rule("write", "wal", "fail", EIO)],
    ["ENOSPC on a write of the log", startAllInOne, rule("write", "wal", "fail", ENOSPC)],
    ["a short write of the log", startAllInOne, rule("write", "wal", "short", 0)],
    ["EIO on a write of the engine", startAllInOne, rule("write", "engine", "fail", EIO)],
    ["ENOSPC on a write of the engine", startAllInOne, rule("write", "engine", "fail", ENOSPC)],
    ["EIO on a sync of the engine", startAllInOne, rule("sync", "engine", "fail", EIO)],
  ];
  it.each(failures)(
    "answers with %s ends the process; nothing acknowledged is lost",
    async (...args) => {
      const [, start, failure] = args;
      const { server, load } = await startOnFaultyDisk(start);
      const failed = server.storageProcess;
      const exit = await failUnderLoad(server, load, failure);
      expect(exit).toEqual({ code: 1, signal: null });
      const fatal = failed.logRecords().filter(({ level }) => level === "fatal");
      expect(fatal).toHaveLength(1);
      expect(fatal[0]?.msg).toBe("the storage node cannot go on; ending the process");
      await restartAndVerify(server, load);
      await load.ledger.audit();
      expect(load.ledger.acknowledgedCount).toBeGreaterThan(0);
    },
  );

  it("tears a write of the log and dies with the process costs no acknowledged write", async () => {
    const seed = runSeed("torn writes");
    const random = new SeededRandom(seed);
    const { server, load } = await startOnFaultyDisk(startAllInOne, seed);
    let tornTails = 0;
    for (let round = 1; round <= TORN_ROUNDS; round++) {
      const exit = await failUnderLoad(server, load, {
        ...rule("write", "wal", "torn", 0),
        skip: random.below(30),
      });
      expect(exit).toEqual({ code: null, signal: "SIGKILL" });
      await restartAndVerify(server, load);
      const served = server.storageProcess.logRecords().find(({ msg }) => msg === "minikv serves");
      if (served?.recoveredTornTail === true) tornTails++;
    }
    await load.ledger.audit();
    // A write of the segment that is only being prepared leaves no trace when it is torn.
    expect(tornTails).toBeGreaterThan(0);
  });

  it("loses power keeps what was synced, and that is all that was acknowledged", async () => {
    const seed = runSeed("power losses");
    const random = new SeededRandom(seed);
    const { server, load } = await startOnFaultyDisk(startAllInOne, seed);
    for (let round = 1; round <= POWER_ROUNDS; round++) {
      try {
        const call = random.below(2) === 0 ? "sync" : "write";
        const of = random.below(4) === 0 && call === "write" ? "engine" : "wal";
        // Seed 0 takes back all that is unsynced, others some sectors of it.
        const argument = random.below(2) * (1 + random.below(1000));
        const skip = random.below(60);
        const exit = await failUnderLoad(server, load, {
          call,
          of,
          action: "power",
          argument,
          skip,
        });
        expect(exit).toEqual({ code: null, signal: "SIGKILL" });
        await restartAndVerify(server, load);
      } catch (error) {
        throw new Error(`seed ${seed}, round ${round}: ${String(error)}`, { cause: error });
      }
    }
    await load.ledger.audit();
  });

  it("is slow makes writes wait together, not one behind the other", async () => {
    const { server, load } = await startOnFaultyDisk();
    const before = lastSequence(server.dataDir);
    disk.set(rule("sync", "wal", "delay", 200));
    const keys = Array.from({ length: PARALLEL_PUTS }, (_, i) => `slow-${i}`);
    const puts = await Promise.all(keys.map((key) => load.ledger.put(key, 200)));
    for (const { fate } of puts) expect(fate).toBe("applied");
    await load.verify();
    disk.heal();
    await server.kill9();
    // Batches that hold commit indexes only are counted too.
    expect(lastSequence(server.dataDir) - before).toBeLessThan(PARALLEL_PUTS / 4);
    await server.restart();
    await load.verify();
    await load.ledger.audit();
  });
});

function rule(call: Rule["call"], of: Rule["of"], action: Rule["action"], argument: number): Rule {
  return { call, of, action, argument };
}
