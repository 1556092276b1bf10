/**
 * Runs that once broke a rule. A seed means the same run only as long as the simulator draws the same
 * dice: what a run has taught belongs into a transcript of the core as well.
 */
import type { Profile } from "./options.ts";

export type KnownSeed = {
  readonly seed: number;
  readonly profile: Profile;
  readonly found: string;
};

export const KNOWN: readonly KnownSeed[] = [
  {
    seed: 1623778233,
    profile: "swarm",
    found: "four of seven voters left, no pre-vote: 40 timeouts were too few for a bound",
  },
];
