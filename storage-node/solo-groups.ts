/** Waits at a node's start for the groups that wait for nobody else. */
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { START_TIMEOUT_MS } from "#shared/limits.ts";
import type { Replica } from "./replica/replica.ts";

/**
 * Groups without other members serve as soon as their first log batches are durable and what the
 * engine had not flushed is applied again. Waiting for it means that a single node serves, with all
 * it ever acknowledged, from its first answer on.
 *
 * @throws KvError UNAVAILABLE
 */
export async function soloGroupsServe(replicas: readonly Replica[], clock: Clock): Promise<void> {
  const solo = replicas.filter((replica) => replica.alone);
  // How much there is to apply is not known; only standing still is a failure.
  const progress = () =>
    solo.reduce((sum, { raft, applied }) => sum + raft.durableIndex + applied.index, 0);
  let reached = progress();
  let untilMs = clock.monotonicMs() + START_TIMEOUT_MS;
  while (!solo.every((replica) => replica.caughtUp)) {
    const now = progress();
    if (now !== reached) {
      reached = now;
      untilMs = clock.monotonicMs() + START_TIMEOUT_MS;
    } else if (clock.monotonicMs() > untilMs) {
      throw new KvError("UNAVAILABLE", "the start made no progress: disk or engine do not answer");
    }
    await new Promise<void>((resolve) => clock.after(1, resolve));
  }
}
