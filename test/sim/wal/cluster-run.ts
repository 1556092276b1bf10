/**
 * The core simulator's schedules with the real write-ahead log under every replica.
 *
 * Between two events all promises of the logs settle, so that a run depends on its seed alone. A
 * replica whose log fails crashes at once, and starts again from what its disk has. One whose log
 * refuses, or has lost what it had reported, is lost for good, and its id with it; a disk lies only as
 * long as the group can do without it.
 */
import type { ReplicaId } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { mayLose } from "#test/sim/core/membership.ts";
import type { SimNode } from "#test/sim/core/node.ts";
import type { Profile } from "#test/sim/core/options.ts";
import { type RunResult, runSteps } from "#test/sim/core/run.ts";
import type { World } from "#test/sim/core/world.ts";
import { turn } from "./completions.ts";
import { WalDisk, type WalDiskCounts } from "./wal-disk.ts";

export type ClusterRunOptions = {
  readonly seed: number;
  readonly profile: Profile;
  readonly honest: boolean;
  readonly traceLines?: number;
};

export type ClusterRunResult = {
  /** Undefined when too many replicas were lost for the group to go on. */
  readonly run: RunResult | undefined;
  readonly counts: WalDiskCounts;
};

/** Runs one seed to its end; a broken rule is in the result. */
export async function runCluster(options: ClusterRunOptions): Promise<ClusterRunResult> {
  const { seed, profile, traceLines } = options;
  const cluster = new Cluster(options);
  const running = runSteps(
    { seed, profile },
    {
      makeDisk: (owner) => cluster.makeDisk(owner),
      ...(traceLines === undefined ? {} : { traceLines }),
    },
  );
  let step = running.next();
  while (!step.done) {
    await turn();
    try {
      if (!cluster.attend(step.value)) return { run: undefined, counts: cluster.counts };
      step = running.next();
    } catch (error) {
      step = running.throw(error);
    }
  }
  return { run: step.value, counts: cluster.counts };
}

class Cluster {
  readonly counts: WalDiskCounts = {
    faults: new Map(),
    opens: 0,
    refused: 0,
    cut: 0,
    tornTails: 0,
    unreportedKept: 0,
    segmentsRemoved: 0,
    segmentsSeen: 0,
  };
  readonly #random: SeededRandom;
  readonly #errorChance: number;
  readonly #lieChance: number;
  #world: World | undefined;
  /** The one replica whose disk has lied, while it is not lost yet. */
  #liar: ReplicaId | undefined;

  constructor({ seed, honest }: ClusterRunOptions) {
    this.#random = new SeededRandom(seed ^ 0x57414c);
    const random = this.#random;
    this.#errorChance = random.below(3) === 0 ? 0 : random.float() ** 2 * 0.03;
    this.#lieChance = honest ? 0 : random.float() ** 2 * 0.2;
  }

  makeDisk(owner: ConstructorParameters<typeof WalDisk>[0]["owner"]): WalDisk {
    return new WalDisk({
      owner,
      seed: this.#random.below(2 ** 32),
      counts: this.counts,
      errorChance: this.#errorChance,
      lieChance: this.#lieChance,
      mayLie: (disk) => this.#mayLie(disk),
    });
  }

  #mayLie(disk: WalDisk): boolean {
    const world = this.#world;
    const node = world?.roster.find((each) => each.disk === disk);
    if (world === undefined || node === undefined) return false;
    if (this.#liar === undefined && mayLose(world, node)) this.#liar = node.id;
    return this.#liar === node.id;
  }

  /** Sees to the disks between two steps. False when the group cannot go on. */
  attend(world: World): boolean {
    this.#world = world;
    for (const node of world.roster) {
      const disk = node.disk as WalDisk;
      if (disk.error !== undefined) throw disk.error;
      if (world.healing && !disk.calm) disk.becomeCalm();
      if (disk.state === "failed") this.#failed(world, node);
      if (disk.state !== "refused") continue;
      world.trace?.note(`the log of ${node.id} is refused`);
      if (!mayLose(world, node)) return false;
      world.lose(node);
      if (this.#liar === node.id) this.#liar = undefined;
    }
    return true;
  }

  #failed(world: World, node: SimNode): void {
    world.trace?.note(`the disk of ${node.id} has failed`);
    world.countFault("crash", node);
    world.crash(node);
    world.touch(node);
    if (world.healing) node.start();
  }
}
