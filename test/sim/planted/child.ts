/**
 * Runs one simulator over seeds until the first violation, in a copy of the tree with a planted bug:
 * `node test/sim/planted/child.ts <simulation> <seed> <last seed>`. Every line it prints is JSON.
 */
import { SIMULATIONS, type SimulationName } from "./simulations.ts";

export type Progress = { readonly seed: number };

export type Verdict = {
  /** Undefined when no rule was broken. */
  readonly rule: string | undefined;
  readonly message: string;
  /** The seed that broke it, or the last one. */
  readonly seed: number;
  readonly events: number;
};

const PROGRESS_EVERY_MS = 500;

async function runSeeds(name: SimulationName, first: number, last: number): Promise<Verdict> {
  const run = await SIMULATIONS[name]();
  let events = 0;
  let toldAtMs = 0;
  for (let seed = first; seed <= last; seed++) {
    if (performance.now() - toldAtMs > PROGRESS_EVERY_MS) {
      toldAtMs = performance.now();
      print({ seed });
    }
    try {
      events += await run(seed);
    } catch (error) {
      return verdictOf(error, seed, events);
    }
  }
  return { rule: undefined, message: "", seed: last, events };
}

function verdictOf(error: unknown, seed: number, eventsBefore: number): Verdict {
  const { message } = error instanceof Error ? error : new Error(String(error));
  const { rule, events } = error as { readonly rule?: unknown; readonly events?: unknown };
  return {
    rule: typeof rule === "string" ? rule : "error",
    message,
    seed,
    events: eventsBefore + (typeof events === "number" ? events : 0),
  };
}

const print = (line: Progress | Verdict): void => {
  process.stdout.write(`${JSON.stringify(line)}\n`);
};

const [name, first, last] = process.argv.slice(2);
// What is left of a node that lost power may still fail somewhere: nobody waits for it any more.
process.on("unhandledRejection", () => {});
print(await runSeeds(name as SimulationName, Number(first), Number(last)));
process.exit(0);
