/**
 * `npm run sim:cluster`: runs simulated clusters, one after the other.
 *
 * Exit code 0: no rule was broken. 1: one was. 2: the arguments make no sense.
 */
import { parseArgs } from "node:util";
import { makeProductSmall } from "./small-product.ts";

const HELP = `Usage: npm run sim:cluster -- [options]

Runs whole clusters of storage nodes and gateways in simulated time, under faults and while their
members change, and checks that clients see one history and that the cluster settles afterwards.

  --minutes M     run for M minutes, from --seed on, or from a seed that nobody has tried
  --seeds A..B    run these seeds; A,B,C also
  --seed N        alone: run this one and tell what happens
  --vshards N     of the clusters; default 4
  --keep-going    go on after a failure
  --json          print one line of JSON for each seed
  --help          this text
`;

const MINUTE_MS = 60_000;
const VSHARDS_DEFAULT = 4;

const { values } = parseArgs({
  options: {
    minutes: { type: "string" },
    seeds: { type: "string" },
    seed: { type: "string" },
    vshards: { type: "string" },
    "keep-going": { type: "boolean" },
    json: { type: "boolean" },
    help: { type: "boolean" },
  },
});

if (values.help) {
  process.stdout.write(HELP);
  process.exit(0);
}

makeProductSmall({ vshards: Number(values.vshards ?? VSHARDS_DEFAULT) });
const { runCluster } = await import("./world.ts");

// What is left of a dead process may still fail somewhere: nobody waits for it any more.
process.on("unhandledRejection", () => {});

const say = (text: string): void => void process.stdout.write(`${text}\n`);

function* seedsToRun(): Generator<number> {
  const { minutes, seeds, seed } = values;
  if (seeds !== undefined) {
    const [first, last] = seeds.split("..").map(Number);
    if (!seeds.includes("..")) {
      yield* seeds
        .split(",")
        .filter((text) => text !== "")
        .map(Number);
    } else for (let next = first!; next <= last!; next++) yield next;
    return;
  }
  const first = seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(seed);
  if (minutes === undefined) {
    yield first;
    return;
  }
  const untilMs = performance.now() + Number(minutes) * MINUTE_MS;
  for (let next = first; performance.now() < untilMs; next++) yield next;
}

const isAlone = values.minutes === undefined && values.seeds === undefined;
let failures = 0;
let runs = 0;
const sum: Record<string, number> = {};
for (const seed of seedsToRun()) {
  const startedMs = performance.now();
  try {
    const result = await runCluster(seed, isAlone && !values.json ? { tell: say } : {});
    runs++;
    for (const [name, count] of Object.entries(result)) sum[name] = (sum[name] ?? 0) + count;
    if (values.json) say(JSON.stringify({ seed, ...result }));
    else if (isAlone)
      say(`${JSON.stringify(result)} ${Math.round(performance.now() - startedMs)} ms`);
  } catch (error) {
    const { rule, message } = error as { readonly rule?: string; readonly message: string };
    failures++;
    say(values.json ? JSON.stringify({ seed, rule, message }) : message);
    if (!values["keep-going"]) break;
  }
}
if (!values.json) {
  delete sum.traceHash;
  say(`${runs} seeds passed, ${failures} failed; ${JSON.stringify(sum)}`);
}
process.exit(failures === 0 ? 0 : 1);
