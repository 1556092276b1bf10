/**
 * Snapshots on their way: offered by a leader's owner some time after the core asked for one, sent in
 * parts, lost or repeated, synced aside at the receiver, and reported back, or not.
 */
import type { ReplicaId } from "#shared/ids.ts";
import type { Raft } from "#storage-node/raft/raft.ts";
import type { Message } from "#storage-node/raft/types.ts";
import type { EngineState } from "./engine.ts";
import type { SimNode, SnapshotOutcome } from "./node.ts";
import { violated } from "./violation.ts";
import type { World } from "./world.ts";

export type SnapshotTransfer = {
  readonly message: Message & { readonly kind: "snapshot" };
  readonly state: EngineState;
  /** A restarted sender knows nothing of it any more. */
  readonly offeredBy: Raft;
  chunksLeft: number;
};

/** The owner gets to a snapshot that is due. False when there is none anywhere. */
export function offer(world: World): boolean {
  const node = world.find((each) => each.state === "running" && each.snapshotsDue.length > 0);
  if (node === undefined) return false;
  const to = node.snapshotsDue.shift()!;
  const message = node.raft.offerSnapshot(to);
  world.trace?.note(
    `${node.id} ${message === undefined ? "needs no snapshot for" : "offers"} ${to}`,
  );
  if (message?.kind === "snapshot") begin(world, node, message);
  world.settle(node);
  world.touch(node);
  return true;
}

function begin(world: World, node: SimNode, message: SnapshotTransfer["message"]): void {
  const { state } = node.engine;
  const { snapshotIndex, snapshotTerm } = message;
  if (state.index !== snapshotIndex || state.term !== snapshotTerm) {
    const offered = `${node.id} offers ${snapshotIndex}@${snapshotTerm}`;
    violated("snapshot", `${offered}, its engine is at ${state.index}@${state.term}`);
  }
  world.statistics.counts["snapshots offered"]++;
  const chunksLeft = 1 + world.random.below(world.options.chunksMax);
  world.transfers.push({ message, state, offeredBy: node.raft, chunksLeft });
}

/** One part of one of the snapshots arrives, or does not. False when none is on its way. */
export function advanceTransfer(world: World): boolean {
  const { random, transfers, options } = world;
  if (transfers.length === 0) return reportOverdue(world);
  const at = random.below(transfers.length);
  const transfer = transfers[at]!;
  const { from, to } = transfer.message;
  const receiver = world.nodes[to];
  const there = receiver?.state === "running" || receiver?.state === "paused";
  const lost = !world.healing && random.chance(options.lossChance);
  if (!there || lost || world.network.isCut(from, to)) {
    transfers.splice(at, 1);
    world.countFault("lost snapshot", world.nodes[from]);
    report(world, transfer, "failed");
    return true;
  }
  if (receiver.state === "paused" || --transfer.chunksLeft > 0) return true;
  // A repeated one arrives once more, at any time later.
  if (world.healing || !random.chance(options.repeatChance)) transfers.splice(at, 1);
  world.statistics.counts["snapshots received"]++;
  world.trace?.note(`${to} has received the snapshot at ${transfer.state.index} from ${from}`);
  receiver.staging.push(transfer);
  report(world, transfer, "received");
  return true;
}

/**
 * The sender learns how it ended: at once, or later, by its own timeout, when the answer was lost. The
 * core is promised one report for each offer, as long as the sender lives.
 */
function report(world: World, transfer: SnapshotTransfer, outcome: "received" | "failed"): void {
  const { message } = transfer;
  const { random, options, network } = world;
  const answerLost = network.isCut(message.to, message.from) || random.chance(options.lossChance);
  const sender = world.nodes[message.from];
  if (sender === undefined || sender.raft !== transfer.offeredBy) return;
  const late = !world.healing && (answerLost || sender.state !== "running");
  if (late) sender.overdue.push({ to: message.to, outcome: answerLost ? "failed" : outcome });
  else tell(world, sender, message.to, outcome);
}

/** A report that did not come in time. */
export function reportOverdue(world: World): boolean {
  const sender = world.find((each) => each.state === "running" && each.overdue.length > 0);
  if (sender === undefined) return false;
  const { to, outcome } = sender.overdue.shift()!;
  tell(world, sender, to, outcome);
  return true;
}

function tell(world: World, sender: SimNode, to: ReplicaId, outcome: SnapshotOutcome): void {
  world.trace?.note(`${sender.id} hears that its snapshot to ${to} was ${outcome}`);
  sender.raft.reportSnapshot(to, outcome);
  world.checker.observe(sender);
  world.settle(sender);
  world.touch(sender);
}
