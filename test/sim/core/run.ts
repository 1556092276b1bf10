/** One run from its seed to its end: random events, then healing. The same spec gives the same run. */
import { act } from "./actions.ts";
import { heal } from "./healing.ts";
import { EVENT_NAMES, type EventName } from "./kinds.ts";
import { KIND_TABLE_SIZE, kindTable, type Profile } from "./options.ts";
import type { Statistics } from "./statistics.ts";
import { Trace } from "./trace.ts";
import { Violation } from "./violation.ts";
import { World, type WorldOptions } from "./world.ts";

export type RunSpec = {
  readonly seed: number;
  readonly profile: Profile;
  /** How many of the events the run has; default: as many as the seed says. */
  readonly events?: number;
  /** Events of these kinds do not happen. */
  readonly without?: ReadonlySet<EventName>;
  /** Only these events happen, by their number. */
  readonly only?: ReadonlySet<number>;
};

export type RunResult = {
  readonly statistics: Statistics;
  readonly hash: number;
  readonly failure: RunFailure | undefined;
  /** Words for the last events, when they were asked for. */
  readonly trace: string;
};

export type RunFailure = {
  readonly violation: Violation;
  /** The event that broke the rule; equal to the number of events when healing did. */
  readonly event: number;
};

export type RunOptions = Pick<WorldOptions, "makeDisk"> & { readonly traceLines?: number };

export function run(spec: RunSpec, options: RunOptions = {}): RunResult {
  const running = runSteps(spec, options);
  for (;;) {
    const step = running.next();
    if (step.done) return step.value;
  }
}

/**
 * As `run`, in steps, between which a disk that needs promises can go on with its work. What
 * the caller throws into it counts as a failure of the run.
 */
export function* runSteps(
  spec: RunSpec,
  { traceLines, makeDisk }: RunOptions = {},
): Generator<World, RunResult> {
  const trace = traceLines === undefined ? undefined : new Trace(traceLines);
  const world = new World({
    seed: spec.seed,
    profile: spec.profile,
    trace,
    ...(makeDisk === undefined ? {} : { makeDisk }),
  });
  const progress = { event: 0 };
  let failure: RunFailure | undefined;
  try {
    yield world;
    yield* runEvents(world, spec, progress);
    yield* heal(world, world.options.events);
  } catch (cause) {
    failure = { violation: asViolation(cause), event: progress.event };
  }
  collect(world);
  const { statistics, hash } = world;
  return { statistics, hash: hash >>> 0, failure, trace: trace?.text() ?? "" };
}

function* runEvents(
  world: World,
  spec: RunSpec,
  progress: { event: number },
): Generator<World, void> {
  const { options, random, trace } = world;
  const kinds = kindTable(options.weights);
  const { only } = spec;
  const without = new Set([...(spec.without ?? [])].map((name) => EVENT_NAMES.indexOf(name)));
  const end = Math.min(spec.events ?? options.events, options.events);
  for (let event = 0; event < end; event++) {
    progress.event = event;
    if (only !== undefined && !only.has(event)) continue;
    random.startEvent(event);
    const kind = kinds[random.uint32() % KIND_TABLE_SIZE]!;
    if (without.size > 0 && without.has(kind)) continue;
    trace?.event(event);
    act(world, kind);
    yield world;
  }
  progress.event = end;
}

/** Assertions of the core, and whatever else it may throw, break a rule too. */
function asViolation(cause: unknown): Violation {
  if (cause instanceof Violation) return cause;
  const error = cause instanceof Error ? cause : new Error(String(cause));
  return new Violation("core", error.message, { cause: error });
}

function collect(world: World): void {
  const { counts } = world.statistics;
  counts.elections += world.checker.elections;
  counts["entries committed"] += world.history.committed;
  counts["configurations committed"] += world.history.configurationCount - 1;
  counts["joint configurations committed"] += world.history.jointCount;
}
