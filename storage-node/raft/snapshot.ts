/**
 * Snapshots: replacing the log of a replica that needs entries which the leader has compacted.
 *
 * The core never sees the state itself. It tells its owner who needs one (`Ready.snapshotsDue`), names
 * the log position at which the owner takes the engine's state (`offerSnapshot`), and decides at the
 * receiver whether the state is taken over (`Ready.reset`).
 *
 *     leader                                        follower
 *     snapshotsDue ─▶ owner: offerSnapshot,
 *                     view of the engine at it ───▶ owner: receive, verify, sync aside (staged)
 *                                                   core.step(snapshot): takes it or ignores it
 *     reportSnapshot(received or failed)            owner: engine takes the staged state over, synced;
 *                                                   one batch resets the log; then the reply leaves
 *     accepted ◀─────────────────────────────────── appendReply at the snapshot's index
 *
 * A crash at any step leaves either the old state with the old log, or the new state with a log that
 * does not know it, which the next start resets (`RaftOptions.applied`).
 */
import type { LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import { heardFromLeader, replyToAppend } from "./follower.ts";
import { membersOf } from "./quorum.ts";
import { peerOf, type RaftState } from "./state.ts";
import { type Message, ProgressState, Role } from "./types.ts";

/** Leader: `peer` waits for a snapshot, and the one to send it now is that of the applied index. */
export function offerSnapshot(state: RaftState, to: ReplicaId): Message | undefined {
  const peer = peerOf(state, to);
  if (state.role !== Role.Leader || peer?.state !== ProgressState.Snapshot) return undefined;
  const { log } = state;
  const snapshotIndex = log.appliedIndex;
  peer.pendingSnapshot = snapshotIndex;
  return {
    kind: "snapshot",
    group: state.options.group,
    from: state.id,
    to,
    term: state.term,
    snapshotIndex,
    // A leader is never installing: its log begins at or below what it has applied.
    snapshotTerm: log.termAt(snapshotIndex)!,
    configuration: state.configuration,
  };
}

/**
 * How sending ended. The report only says when to try again: that the follower has the snapshot is
 * known by its reply, which counts whether or not a report comes.
 */
export function reportSnapshot(
  state: RaftState,
  to: ReplicaId,
  outcome: "received" | "failed",
): void {
  peerOf(state, to)?.snapshotEnded(outcome === "received");
}

/**
 * Follower: takes the snapshot over if it brings anything.
 *
 * - At or below the commit index it brings nothing, and taking it over would undo what is applied.
 * - If the log holds the snapshot's last entry, it holds everything before it too (log matching), and
 *   all that is new is that it is committed.
 * - Otherwise the log, which ends before the snapshot or conflicts with it, is replaced as a whole.
 *   Nothing that anybody counted is lost: an entry acknowledged to the leader of this term would be in
 *   its log and match, and what was acknowledged to earlier leaders is, if committed, part of the
 *   snapshot or of the leader's log behind it (leader completeness), which it sends next.
 */
export function handleSnapshot(
  state: RaftState,
  message: Message & { readonly kind: "snapshot" },
): void {
  heardFromLeader(state, message.from);
  const { log } = state;
  const { snapshotIndex, snapshotTerm, configuration } = message;
  if (snapshotIndex > log.commit) {
    if (log.termAt(snapshotIndex) === snapshotTerm) {
      log.commitTo(snapshotIndex);
    } else {
      // A leader offers one to members only; without this replica in it, it is not the one it thinks.
      if (!membersOf(configuration).includes(state.id)) return;
      const start = { index: snapshotIndex, term: snapshotTerm };
      log.restore(start);
      state.configuration = configuration;
      state.reset = { start, configuration, install: true };
    }
  }
  replyToAppend(state, message.from, {
    index: log.commit,
    rejected: false,
    hintIndex: 0 as LogIndex,
    hintTerm: 0 as Term,
  });
}
