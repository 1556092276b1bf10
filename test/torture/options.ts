/** The command line of `npm run torture`: what was asked for, or what is wrong with it. Pure. */
import { parseArgs } from "node:util";
import { FAULT_TYPES, type FaultKind } from "./faults/schedule.ts";

export const HELP = `Usage: npm run torture -- [options]

Starts clusters of real processes, works on them while faults of every kind strike, and checks all that
clients were told: linearizability of each key, revisions, replicas, recovery.

  --minutes M           run for so long; default 5
  --seed N              of schedules and clients; default: one that nobody has tried
  --nodes N             storage nodes; default 3
  --gateways N          default 2
  --clients N           default 12
  --round-seconds S     length of the faults of a round; default 40
  --cluster-minutes M   after so long a fresh cluster is founded; default 10
  --faults K,K          only these kinds: ${Object.keys(FAULT_TYPES).join(", ")}
  --recovery-seconds S  bound for recovery after the last fault of a round; default 60
  --dir DIR             where data and logs go; default: a temporary directory
  --keep                leave the data there too, even if nothing was broken; logs stay always
  --fixed-members       no node joins or is drained meanwhile
  --verbose             print every fault
  --json                the last line is the result as JSON
  --help                this text

Exit code 0: nothing was broken. 1: something was; the data stays. 2: the arguments make no sense.
A seed repeats the plan of a run, and not its every moment.
`;

export type TortureOptions = {
  readonly minutes: number;
  readonly seed: number;
  readonly nodes: number;
  readonly gateways: number;
  readonly clients: number;
  readonly roundMs: number;
  readonly clusterMinutes: number;
  readonly recoveryMsMax: number;
  readonly faults: ReadonlySet<FaultKind>;
  readonly directory: string;
  /** Leave the data there even if nothing was broken. */
  readonly keep: boolean;
  /** Nodes join and are drained meanwhile. */
  readonly membership: boolean;
  readonly verbose: boolean;
  readonly json: boolean;
};

export type Parsed =
  | { readonly kind: "run"; readonly options: TortureOptions }
  | { readonly kind: "help" }
  | { readonly kind: "wrong"; readonly message: string };

const OPTIONS = {
  minutes: { type: "string", default: "5" },
  seed: { type: "string" },
  nodes: { type: "string", default: "3" },
  gateways: { type: "string", default: "2" },
  clients: { type: "string", default: "12" },
  "round-seconds": { type: "string", default: "40" },
  "cluster-minutes": { type: "string", default: "10" },
  "recovery-seconds": { type: "string", default: "60" },
  faults: { type: "string" },
  dir: { type: "string" },
  keep: { type: "boolean", default: false },
  "fixed-members": { type: "boolean", default: false },
  verbose: { type: "boolean", default: false },
  json: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
} as const;

/** @param defaults what is not the same for every run. */
export function parseOptions(
  argv: readonly string[],
  defaults: { readonly seed: number; readonly directory: string },
): Parsed {
  try {
    const { values } = parseArgs({ args: [...argv], options: OPTIONS });
    if (values.help) return { kind: "help" };
    return {
      kind: "run",
      options: {
        minutes: number("minutes", values.minutes, 0.1, 100_000),
        seed: values.seed === undefined ? defaults.seed : integer("seed", values.seed, 0, 2 ** 32),
        nodes: integer("nodes", values.nodes, 1, 9),
        gateways: integer("gateways", values.gateways, 1, 9),
        clients: integer("clients", values.clients, 1, 500),
        roundMs: 1000 * number("round-seconds", values["round-seconds"], 5, 3_600),
        clusterMinutes: number("cluster-minutes", values["cluster-minutes"], 0.1, 100_000),
        recoveryMsMax: 1000 * number("recovery-seconds", values["recovery-seconds"], 1, 3_600),
        faults: faultKinds(values.faults),
        directory: values.dir ?? defaults.directory,
        keep: values.keep,
        membership: !values["fixed-members"] && values.nodes !== "1",
        verbose: values.verbose,
        json: values.json,
      },
    };
  } catch (error) {
    return { kind: "wrong", message: error instanceof Error ? error.message : String(error) };
  }
}

function number(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (text !== "" && value >= least && value <= most) return value;
  throw new RangeError(`--${name} needs a number from ${least} to ${most}, not "${text}"`);
}

function integer(name: string, text: string, least: number, most: number): number {
  const value = number(name, text, least, most);
  if (Number.isInteger(value)) return value;
  throw new RangeError(`--${name} needs a whole number, not "${text}"`);
}

function faultKinds(text: string | undefined): ReadonlySet<FaultKind> {
  const all = Object.keys(FAULT_TYPES);
  const chosen = text === undefined ? all : text.split(",");
  const wrong = chosen.filter((kind) => !all.includes(kind));
  if (wrong.length > 0) throw new RangeError(`--faults: no such kind: ${wrong.join(", ")}`);
  return new Set(chosen as FaultKind[]);
}
