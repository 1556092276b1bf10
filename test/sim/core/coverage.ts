/** Which faults hit replicas in which states: what a campaign of runs has really exercised. */
import { ProgressState, Role } from "#storage-node/raft/types.ts";
import { Fault, STATE_NAMES, StateIndex } from "./kinds.ts";
import type { SimNode } from "./node.ts";
import type { Statistics } from "./statistics.ts";

const HAPPENED = STATE_NAMES.length;

/** Faults of single messages are too many for a look at every peer. */
const LIGHT: ReadonlySet<number> = new Set([
  Fault["lost message"],
  Fault["repeated message"],
  Fault["delayed message"],
  Fault["lost to a cut"],
  Fault["queue overflow"],
]);

export function countFault(statistics: Statistics, fault: number, node: SimNode | undefined): void {
  const row = statistics.faults[fault]!;
  row[HAPPENED]!++;
  if (node === undefined || !node.running) return;
  const { raft } = node;
  row[StateIndex[raft.role]!]!++;
  if (raft.configuration.outgoing.length > 0) row[StateIndex.joint!]!++;
  if (node.engine.installing) row[StateIndex.installing!]!++;
  if (node.writing) row[StateIndex.writing!]!++;
  if (raft.configuration.learners.includes(node.id)) row[StateIndex.learner!]!++;
  if (raft.role === Role.Leader && !LIGHT.has(fault)) countPeers(row, node);
}

function countPeers(row: number[], { raft }: SimNode): void {
  const states = new Set(raft.status().peers.map(({ state }) => state));
  if (states.has(ProgressState.Probe)) row[StateIndex["leader, probing"]!]!++;
  if (states.has(ProgressState.Replicate)) row[StateIndex["leader, replicating"]!]!++;
  if (states.has(ProgressState.Snapshot)) row[StateIndex["leader, peer in snapshot"]!]!++;
}
