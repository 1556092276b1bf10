/** What each kind of event does. A table by kind; every action draws all its choices itself. */
import type { LogIndex } from "#shared/ids.ts";
import { type Message, Role } from "#storage-node/raft/types.ts";
import { EVENT_NAMES, type EventName } from "./kinds.ts";
import { proposeChange, retire, wipe } from "./membership.ts";
import type { SimNode } from "./node.ts";
import { advanceTransfer, offer } from "./snapshots.ts";
import type { World } from "./world.ts";

type Action = (world: World) => void;

const isRunning = ({ state }: SimNode): boolean => state === "running";

/** After a call of the node's core: rules, the owner's turn, the hash. */
function done(world: World, node: SimNode): void {
  world.checker.observe(node);
  world.settle(node);
  world.touch(node);
}

function tick(world: World): void {
  const node = world.find(isRunning);
  if (node === undefined) return;
  world.trace?.note(`${node.id} ticks`);
  node.tick();
  done(world, node);
}

function deliver(world: World): void {
  const { network, random, options } = world;
  const { size } = network;
  if (size === 0) return;
  const offset = random.below(Math.min(size, options.reorderWindow));
  if (random.chance(options.repeatChance)) {
    const message = network.peek(offset);
    world.countFault("repeated message", world.nodes[message.to]);
    pass(world, message);
    return;
  }
  const message = network.take(offset);
  if (random.chance(options.delayChance)) {
    world.countFault("delayed message", world.nodes[message.to]);
    network.send(message);
    return;
  }
  pass(world, message);
}

function pass(world: World, message: Message): void {
  const { network, random, options } = world;
  if (network.isCut(message.from, message.to)) {
    world.countFault("lost to a cut", world.nodes[message.to]);
  } else if (random.chance(options.lossChance)) {
    world.countFault("lost message", world.nodes[message.to]);
  } else world.arrive(message);
}

function disk(world: World): void {
  const node = world.find(
    (each) => each.disk.busy && (each.state === "running" || each.state === "opening"),
  );
  if (node === undefined) return;
  world.trace?.note(`${node.id} gets something done on its disk`);
  node.disk.advance(world.random, world.options.groupCommitMax);
  if (!node.running) return;
  done(world, node);
}

function engine(world: World): void {
  const node = world.find((each) => each.state === "running" && each.engineBusy);
  if (node === undefined) return;
  world.trace?.note(`${node.id} gets something done in its engine`);
  node.advanceEngine();
  done(world, node);
}

function propose(world: World): void {
  const node = world.findLeader();
  if (node === undefined) return;
  const count = world.random.below(4) === 0 ? 1 + world.random.below(8) : 1;
  for (let i = 0; i < count; i++) world.clients.propose(node);
  done(world, node);
}

function read(world: World): void {
  const node = world.random.below(2) === 0 ? world.findLeader() : world.find(isRunning);
  if (node === undefined) return;
  world.clients.read(node);
  done(world, node);
}

function crash(world: World): void {
  const node = world.find(({ state }) => state !== "down");
  if (node === undefined) return;
  world.countFault("crash", node);
  world.crash(node);
  world.touch(node);
}

function restart(world: World): void {
  const node = world.find(({ state }) => state === "down");
  if (node === undefined) return;
  world.countFault("restart", undefined);
  world.trace?.note(`${node.id} starts`);
  node.start();
}

function pause(world: World): void {
  const node = world.find(isRunning);
  if (node === undefined) return;
  world.countFault("pause", node);
  world.statistics.counts.pauses++;
  world.trace?.note(`${node.id} pauses`);
  node.state = "paused";
}

export function resume(world: World): void {
  const node = world.find(({ state }) => state === "paused");
  if (node === undefined) return;
  world.trace?.note(`${node.id} goes on, with ${node.inbox.length} messages`);
  node.state = "running";
  // All at once, as a process finds them that was stopped.
  for (const message of node.inbox.splice(0)) node.step(message);
  done(world, node);
}

function cut(world: World): void {
  const from = world.find(() => true)!;
  const to = world.find(({ id }) => id !== from.id);
  if (to === undefined) return;
  world.countFault("cut", from);
  world.trace?.note(`what ${from.id} sends to ${to.id} is lost from now on`);
  world.network.cut(from.id, to.id);
}

/** Some on one side, the rest on the other; sometimes only one direction is cut. */
function isolate(world: World): void {
  const { random, roster, network } = world;
  const inside = roster.filter(() => random.below(2) === 0);
  const outside = roster.filter((node) => !inside.includes(node));
  const oneWay = random.below(3) === 0;
  for (const node of inside) world.countFault("isolate", node);
  world.trace?.note(`cut off${oneWay ? " one way" : ""}: ${inside.map(({ id }) => id).join(" ")}`);
  for (const a of inside) {
    for (const b of outside) {
      network.cut(a.id, b.id);
      if (!oneWay) network.cut(b.id, a.id);
    }
  }
}

function heal(world: World): void {
  world.trace?.note("all links work again");
  world.network.heal();
}

function flush(world: World): void {
  const node = world.find(({ state }) => state !== "down");
  if (node === undefined) return;
  node.engine.flush();
  world.trace?.note(`${node.id} flushes its engine at ${node.engine.flushed.index}`);
}

/** Only below what the engine has flushed. */
function compact(world: World): void {
  const node = world.find(isRunning);
  if (node === undefined) return;
  const { raft, engine } = node;
  const limit = Math.min(
    raft.compactionIndex(world.options.retainedBytesMax),
    engine.flushed.index,
  ) as LogIndex;
  const term = raft.termAt(limit);
  if (limit <= raft.logStart.index || term === undefined) return;
  world.countFault("compact", node);
  world.statistics.counts.compactions++;
  world.trace?.note(`${node.id} compacts its log to ${limit}`);
  raft.compact(limit);
  node.disk.compact({ index: limit, term });
  done(world, node);
}

function change(world: World): void {
  const node = world.findLeader();
  if (node === undefined) return;
  world.countFault("change", node);
  proposeChange(world, node);
  done(world, node);
}

function handOver(world: World): void {
  const node = world.findLeader();
  if (node === undefined || node.raft.role !== Role.Leader) return;
  const { voters } = node.raft.configuration;
  const to = world.random.pick(voters);
  world.countFault("hand-over", node);
  const result = node.raft.transferLeadership(to);
  if (result.kind === "started") world.statistics.counts["hand-overs started"]++;
  world.trace?.note(`${node.id} is asked to hand over to ${to}: ${result.kind}`);
  done(world, node);
}

function forget(world: World): void {
  const node = world.find(isRunning);
  if (node === undefined) return;
  world.countFault("forget", node);
  world.trace?.note(`${node.id} is told that its leader is gone`);
  node.raft.forgetLeader();
  done(world, node);
}

function unreachable(world: World): void {
  const node = world.findLeader();
  if (node === undefined) return;
  const peer = world.find(({ id }) => id !== node.id);
  if (peer === undefined) return;
  world.countFault("unreachable", node);
  world.trace?.note(`${node.id} is told that ${peer.id} cannot be reached`);
  node.raft.reportUnreachable(peer.id);
  done(world, node);
}

function campaign(world: World): void {
  const node = world.find(isRunning);
  if (node === undefined) return;
  world.countFault("campaign", node);
  world.trace?.note(`${node.id} is told to campaign`);
  node.raft.campaign();
  done(world, node);
}

const ACTIONS = {
  tick,
  deliver,
  disk,
  engine,
  propose,
  read,
  "transfer-chunk": (world) => void advanceTransfer(world),
  offer: (world) => void offer(world),
  crash,
  restart,
  pause,
  resume,
  cut,
  isolate,
  heal,
  flush,
  compact,
  change,
  "hand-over": handOver,
  forget,
  unreachable,
  campaign,
  retire: (world) => void retire(world),
  wipe: (world) => void wipe(world),
} as const satisfies Record<EventName, Action>;

/** By kind. */
export const ACTION_OF: readonly Action[] = EVENT_NAMES.map((name) => ACTIONS[name]);
