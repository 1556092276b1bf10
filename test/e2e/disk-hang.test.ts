/**
 * A disk that hangs under one of three nodes: the process goes on, hears and is heard, and leads a third of the
 * vshards. It must give them up, also those that nobody wrote to when the hang began.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Cluster, startCluster } from "./cluster-harness.ts";
import { FaultyDisk, faultyDiskProblem } from "./faults/faulty-disk.ts";

/** Against hanging, not a measure: the machine may be busy. */
const BUSY = { timeout: 60_000, interval: 100 };
const TEST_TIMEOUT_MS = 200_000;
const PATIENT = { "Minikv-Timeout": "45s" };
/** Many enough for most vshards. */
const KEYS = 400;

const problem = faultyDiskProblem();
if (problem !== undefined) process.stdout.write(`hanging disks are not tested: ${problem}\n`);

describe.skipIf(problem !== undefined)("a node whose disk hangs", () => {
  let disk: FaultyDisk;
  let cluster: Cluster;
  beforeAll(async () => {
    disk = new FaultyDisk();
    cluster = await startCluster({ nodeEnv: (index) => (index === 0 ? disk.env : {}) });
  });
  afterAll(async () => {
    disk?.heal();
    await cluster?.close();
    disk?.remove();
  });

  afterEach(() => disk.heal());

  const put = async (key: string): Promise<number> => {
    const path = `${cluster.url}/v1/kv/${key}`;
    const answer = await fetch(path, { method: "PUT", body: "value", headers: PATIENT });
    await answer.arrayBuffer();
    return answer.status;
  };
  /** What all of these keys are answered with. */
  const putAll = async (name: string): Promise<readonly number[]> => {
    const keys = Array.from({ length: KEYS }, (_, i) => `${name}-${i}`);
    return [...new Set(await Promise.all(keys.map(put)))];
  };
  const leadersOf = async (id: number): Promise<number> => {
    const answer = await fetch(`${cluster.url}/admin/status`);
    const { nodes } = (await answer.json()) as { nodes: { id: number; leaders: number | null }[] };
    return nodes.find((node) => node.id === id)?.leaders ?? 0;
  };

  it.each(["sync", "write"] as const)(
    "in every %s hands over all vshards that are written to",
    {
      timeout: TEST_TIMEOUT_MS,
    },
    async (call) => {
      const [hung] = cluster.storageNodes;
      // A node without any sync behind it, or with slow ones, is given no leaders.
      const led = async (): Promise<number> => {
        await putAll(call);
        return leadersOf(hung!.id);
      };
      await expect.poll(led, BUSY).toBeGreaterThan(20);
      disk.set({ call, of: "wal", action: "hang" });
      expect(await putAll(call)).toEqual([200]);
      // It hung all the while.
      expect(disk.hasStruck).toBe(true);
      expect(hung!.isRunning).toBe(true);
      disk.heal();
      expect(await putAll(call)).toEqual([200]);
      expect(hung!.isRunning).toBe(true);
    },
  );
});
