/**
 * kill -9 under load, again and again on one data directory: every acknowledged write is there, none
 * is half there, one in doubt is there or not, revisions count on without holes.
 *
 * Small log segments make rotation and compaction run all the time, and every third restart is
 * killed as well, on its way up.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { SeededRandom } from "#shared/random.ts";
import { KvClient } from "./faults/kv-client.ts";
import { Load } from "./faults/load.ts";
import { runSeed } from "./faults/seed.ts";
import { type Deployment, describeEachDeployment, spawnMinikv } from "./harness.ts";

/** A cluster loses single nodes elsewhere; here all of it dies at once. */
const ROUNDS = { "all-in-one": 11, pair: 9, cluster: 3 } as const;
const ARGS = ["--wal-segment-size", "1MiB", "--disk-reserve", "16MiB"];
const FIRST_SEGMENT = "0000000000000001.wal";

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Starts a process on the directory and kills it before or shortly after it serves. */
async function killWhileStarting(server: Deployment, random: SeededRandom): Promise<void> {
  // A node of a cluster would tell the others where it is now.
  if (server.kind === "cluster") return;
  const program = server.kind === "pair" ? "storage-node" : "dev";
  const own = [program, "--listen", "127.0.0.1:0", "--data-dir", server.dataDir];
  const started = spawnMinikv([...own, ...ARGS]);
  await sleep(150 + random.below(600));
  await started.kill9();
}

async function killOnce(server: Deployment, round: number): Promise<void> {
  // A gateway that lives on carries its retries over the restart of the node, and leaves no doubt.
  if (server.kind === "pair" && round % 3 > 0) await server.storageProcess.kill9();
  else await server.kill9();
}

describeEachDeployment("kill -9 under load", (start) => {
  it("loses nothing acknowledged and leaves no write by half", async () => {
    const seed = runSeed("kill -9 under load");
    const random = new SeededRandom(seed);
    const server = await start({ args: ARGS });
    const client = new KvClient(server.url);
    const load = new Load(client, random);
    const rounds = ROUNDS[server.kind];
    for (let round = 1; round <= rounds; round++) {
      try {
        load.start();
        await sleep(50 + random.below(700));
        await killOnce(server, round);
        if (round % 3 === 2) await killWhileStarting(server, random);
        await server.restart();
        await load.stop();
        await load.verify();
      } catch (error) {
        throw new Error(`seed ${seed}, round ${round}: ${String(error)}`, { cause: error });
      }
    }
    await load.ledger.audit();
    client.close();
    const { acknowledgedCount, doubtCount } = load.ledger;
    process.stdout.write(
      `${server.kind}: ${rounds} rounds, ${acknowledgedCount} acknowledged, ${doubtCount} in doubt\n`,
    );
    expect(acknowledgedCount).toBeGreaterThan(rounds);
    expect(doubtCount).toBeGreaterThan(0);
    // In its few rounds a cluster writes too little for its logs to be cut.
    if (server.kind !== "cluster") {
      expect(readdirSync(join(server.dataDir, "wal"))).not.toContain(FIRST_SEGMENT);
    }
    expect(await server.stop()).toBe(0);
  });
});
