/**
 * `npm run failover`: how long writes stand still when the node that leads them is killed.
 *
 * Again and again: a probed vshard is drawn, the node that leads it gets SIGKILL, and for every probed
 * vshard that this node led the time is taken until a write is acknowledged that was sent after the kill.
 * Then the node is started again, and leads its share before the next one is killed. Vshards that other
 * nodes led are timed as well: what those take is no failover, and shows that the measure tells them apart.
 */
import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { SeededRandom } from "#shared/random.ts";
import { leadersOf, waitForStatus } from "./cluster/admin.ts";
import { Cluster } from "./cluster/cluster.ts";
import { keyOfEachVshard, Prober } from "./load/prober.ts";
import { percentile } from "./totals.ts";

const HELP = `Usage: npm run failover -- [options]

Kills leaders of a local cluster with SIGKILL, and measures how long their vshards take no writes.

  --kills N      default 30
  --nodes N      default 3
  --gateways N   default 1
  --seed N       whom to kill
  --json         the last line is the result as JSON
`;

const PROBED_VSHARDS = 32;
/** How exact the figures are. */
const PROBE_PAUSE_MS = 10;
/** A vshard that takes no write for so long counts with this time. */
const FAILOVER_MS_MAX = 60_000;
/** For a node that comes back, to lead its share again. */
const BALANCE_TIMEOUT_MS = 60_000;
/** Leaders have not changed for so long, which is a few reports of the nodes. */
const CALM_MS = 1_500;
/** A node that leads this part of what would be even takes part. */
const SHARE_LEAST = 0.5;

type Kill = {
  readonly victim: string;
  /** Of the probed vshards that it led, in milliseconds. */
  readonly timesMs: readonly number[];
  /** Of those that others led. */
  readonly othersMs: readonly number[];
};

const say = (text: string): void => void process.stdout.write(`${text}\n`);

class Failover {
  readonly #cluster: Cluster;
  readonly #random: SeededRandom;
  readonly #prober: Prober;
  readonly #urls: readonly string[];
  readonly #vshards: readonly number[];
  /** Names by node id. */
  readonly #names = new Map<number, string>();

  constructor(cluster: Cluster, random: SeededRandom) {
    this.#cluster = cluster;
    this.#random = random;
    this.#urls = cluster.gateways.map(({ url }) => url);
    const keys = keyOfEachVshard("failover");
    const step = Math.floor(keys.length / PROBED_VSHARDS);
    const probed = keys.flatMap((key, i) => (i % step === 0 ? [[i, key] as const] : []));
    this.#vshards = probed.map(([vshard]) => vshard);
    this.#prober = new Prober(this.#urls, new Map(probed), PROBE_PAUSE_MS);
  }

  async run(kills: number): Promise<readonly Kill[]> {
    for (const { name } of this.#cluster.nodes) {
      this.#names.set(await this.#cluster.idOf(name), name);
    }
    this.#prober.start();
    const done: Kill[] = [];
    for (let number = 1; number <= kills; number++) {
      const kill = await this.#killOne();
      done.push(kill);
      const worst = Math.max(...kill.timesMs);
      const count = kill.timesMs.length;
      say(`${number}/${kills}: ${kill.victim} led ${count} of the probed vshards, ${ms(worst)}`);
    }
    await this.#prober.stop();
    return done;
  }

  async #killOne(): Promise<Kill> {
    const leaders = await this.#calmLeaders();
    const drawn = this.#vshards[this.#random.below(this.#vshards.length)]!;
    const id = leaders.get(drawn)!;
    const victim = this.#names.get(id)!;
    const led = this.#vshards.filter((vshard) => leaders.get(vshard) === id);
    const others = this.#vshards.filter((vshard) => leaders.get(vshard) !== id);
    const times = await this.#timesAfterKill(victim, led);
    this.#cluster.node(victim).process.start();
    await this.#cluster.idOf(victim);
    return {
      victim,
      timesMs: led.map((vshard) => times.get(vshard) ?? FAILOVER_MS_MAX),
      othersMs: others.map((vshard) => times.get(vshard) ?? FAILOVER_MS_MAX),
    };
  }

  /** Of every probed vshard, from the kill on; waits for those that the victim led. */
  async #timesAfterKill(
    victim: string,
    led: readonly number[],
  ): Promise<ReadonlyMap<number, number>> {
    const times = new Map<number, number>();
    const killedMs = performance.now();
    this.#prober.onAcknowledged = (vshard, { calledMs, returnedMs }) => {
      if (calledMs < killedMs || times.has(vshard)) return;
      times.set(vshard, returnedMs - killedMs);
    };
    await this.#cluster.node(victim).process.kill();
    const untilMs = killedMs + FAILOVER_MS_MAX;
    const isMissing = (vshard: number): boolean => !times.has(vshard);
    while (led.some(isMissing) && performance.now() < untilMs) await sleep(10);
    this.#prober.onAcknowledged = undefined;
    return times;
  }

  /**
   * Who leads what, once every node leads its share and nothing has changed for a while: whom a later
   * kill meets is then what is said here.
   *
   * @throws Error when the cluster does not come to rest.
   */
  async #calmLeaders(): Promise<ReadonlyMap<number, number>> {
    let last: ReadonlyMap<number, number> = new Map();
    let sinceMs = performance.now();
    const calm = await waitForStatus(this.#urls, BALANCE_TIMEOUT_MS, (status) => {
      const leaders = leadersOf(status);
      const isSame = [...leaders].every(([vshard, leader]) => last.get(vshard) === leader);
      if (!isSame || leaders.size !== last.size) sinceMs = performance.now();
      last = leaders;
      const isCalm = performance.now() - sinceMs >= CALM_MS;
      return isCalm && this.#isBalanced(leaders, status.vshards.count) ? leaders : undefined;
    });
    if (calm === undefined) throw new Error(`no calm within ${BALANCE_TIMEOUT_MS} ms`);
    return calm;
  }

  #isBalanced(leaders: ReadonlyMap<number, number>, vshards: number): boolean {
    if (leaders.size !== vshards) return false;
    const least = (SHARE_LEAST * vshards) / this.#names.size;
    const counts = new Map([...this.#names.keys()].map((id) => [id, 0]));
    for (const leader of leaders.values()) counts.set(leader, (counts.get(leader) ?? 0) + 1);
    return [...counts.values()].every((count) => count >= least);
  }
}

const ms = (value: number): string => `${Math.round(value)} ms`;

function report(kills: readonly Kill[]): string {
  const worst = kills.map(({ timesMs }) => Math.max(...timesMs));
  const all = kills.flatMap(({ timesMs }) => timesMs);
  const others = kills.flatMap(({ othersMs }) => othersMs);
  const row = (name: string, values: readonly number[]): string => {
    const figures = [50, 90, 99, 100].map((percent) =>
      ms(percentile(values, percent)).padStart(10),
    );
    return `${name.padEnd(34)}${String(values.length).padStart(6)}${figures.join("")}`;
  };
  const head = ["p50", "p90", "p99", "max"].map((name) => name.padStart(10)).join("");
  return [
    "",
    "from SIGKILL until a write sent after it is acknowledged",
    `${"".padEnd(34)}${"count".padStart(6)}${head}`,
    row("each probed vshard that it led", all),
    row("the last one of each kill", worst),
    row("each one that another node led", others),
    "",
  ].join("\n");
}

const OPTIONS = {
  kills: { type: "string", default: "30" },
  nodes: { type: "string", default: "3" },
  gateways: { type: "string", default: "1" },
  seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 32)) },
  json: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
} as const;

async function main(): Promise<number> {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) {
    say(HELP);
    return 0;
  }
  const directory = join(tmpdir(), `minikv-failover-${process.pid}`);
  mkdirSync(directory, { recursive: true });
  const random = new SeededRandom(Number(values.seed));
  let isBroken = false;
  const cluster = new Cluster({
    directory,
    nodes: Number(values.nodes),
    gateways: Number(values.gateways),
    random,
    onUnexpectedEnd: (description) => {
      isBroken = true;
      say(description);
    },
  });
  try {
    say(
      `seed ${values.seed}, ${values.nodes} nodes, ${values.gateways} gateways, logs in ${directory}`,
    );
    await cluster.start();
    const kills = await new Failover(cluster, random).run(Number(values.kills));
    say(report(kills));
    if (values.json) say(JSON.stringify({ seed: Number(values.seed), kills }));
  } finally {
    await cluster.close();
    cluster.removeData();
  }
  return isBroken ? 1 : 0;
}

process.exitCode = await main();
