/**
 * The simulators that look for planted bugs: one run of each from a seed, which throws when a rule is
 * broken. They are loaded only when asked for, since the source under them may be broken.
 */

export type SimulationName = "cores" | "replicas" | "power-loss" | "cluster";

/** Events of the run. @throws whatever a broken rule throws */
export type RunSeed = (seed: number) => Promise<number>;

export const SIMULATIONS: Readonly<Record<SimulationName, () => Promise<RunSeed>>> = {
  cores: async () => {
    const { run } = await import("#test/sim/core/run.ts");
    const { profileOf } = await import("#test/sim/core/options.ts");
    return async (seed) => {
      const { failure, statistics } = run({ seed, profile: profileOf(seed) });
      const events = statistics.eventCount;
      if (failure !== undefined) throw Object.assign(failure.violation, { events });
      return events;
    };
  },
  replicas: async () => {
    const { runReplicas } = await import("#test/sim/replicas/world.ts");
    return async (seed) => (await runReplicas(seed)).events;
  },
  "power-loss": async () => {
    const { runPowerLoss } = await import("#test/sim/power-loss.ts");
    // It counts requests, not events, and its rules have no names.
    return async (seed) => {
      try {
        const { acknowledged, lost } = await runPowerLoss(seed);
        return acknowledged + lost;
      } catch (error) {
        throw Object.assign(error as Error, { rule: "power loss" });
      }
    };
  },
  cluster: async () => {
    const { makeProductSmall } = await import("#test/sim/cluster/small-product.ts");
    makeProductSmall({ vshards: 4 });
    const { runCluster } = await import("#test/sim/cluster/world.ts");
    // What is left of a dead process may still fail somewhere: nobody waits for it any more.
    process.on("unhandledRejection", () => {});
    return async (seed) => (await runCluster(seed)).events;
  },
};
