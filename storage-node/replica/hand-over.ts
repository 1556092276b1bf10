/** To whom the lead of a group may go, when its node stops or cannot lead. */
import type { Clock } from "#shared/clock.ts";
import type { ReplicaId } from "#shared/ids.ts";
import type { PeerStatus } from "#storage-node/raft/types.ts";
import type { Replica } from "./replica.ts";

/** The voter that has the most of the log and answers. */
function bestVoter({ raft }: Replica): PeerStatus | undefined {
  const { peers, configuration, transferee } = raft.status();
  if (transferee !== 0) return undefined;
  let best: PeerStatus | undefined;
  for (const peer of peers) {
    if (!peer.recentlyActive || !configuration.voters.includes(peer.id)) continue;
    if (best === undefined || peer.match > best.match) best = peer;
  }
  return best;
}

/** Of a leader whose node stops. */
export const successorOf = (replica: Replica): ReplicaId | undefined => bestVoter(replica)?.id;

/**
 * Of a leader whose disk hangs. Its followers commit without it, but nothing that is not durable here is
 * applied, so nobody is answered; and since heartbeats cost no write, it would lead on. A successor has
 * shown that its own disk works: it holds entries that this one does not. So a group that writes nothing
 * stays, and so do all when every disk hangs.
 */
export function successorOfHung(replica: Replica): ReplicaId | undefined {
  if (!replica.isLeader || replica.raft.durableIndex === replica.raft.lastIndex) return undefined;
  const best = bestVoter(replica);
  return best !== undefined && best.match > replica.raft.durableIndex ? best.id : undefined;
}

/** Between two looks at what is still led. */
const LOOK_MS = 20;

/** Gives the lead of all `replicas` to members that are up to date, and waits, at most `timeoutMs`. */
export async function handOver(options: {
  readonly replicas: () => readonly Replica[];
  readonly markDirty: (replica: Replica) => void;
  readonly clock: Clock;
  readonly timeoutMs: number;
}): Promise<void> {
  const { replicas, markDirty, clock, timeoutMs } = options;
  const untilMs = clock.monotonicMs() + timeoutMs;
  const led = () => replicas().filter((replica) => replica.isLeader && !replica.alone);
  while (led().length > 0 && clock.monotonicMs() < untilMs) {
    for (const replica of led()) {
      const successor = successorOf(replica);
      if (successor !== undefined) replica.raft.transferLeadership(successor);
      markDirty(replica);
    }
    await new Promise<void>((resolve) => clock.after(LOOK_MS, resolve));
  }
}
