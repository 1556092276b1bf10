/** What each kind of event does. A table by kind; every action draws all its choices itself. */
import type { LogIndex } from "#shared/ids.ts";
import { type Message, Role } from "#storage-node/raft/types.ts";
import { EVENT_NAMES, EventKind, type EventName } from "./kinds.ts";
import { proposeChange, retire, wipe } from "./membership.ts";
import type { SimNode } from "./node.ts";
import { advanceTransfer, offer } from "./snapshots.ts";
import type { World } from "./world.ts";

/** False when there was nothing to do. */
type Action = (world: World) => boolean;

const isRunning = ({ state }: SimNode): boolean => state === "running";

/** After a call of the node's core: rules, the owner's turn, the hash. */
function done(world: World, node: SimNode): true {
  world.checker.observe(node);
  world.settle(node);
  world.touch(node);
  return true;
}

/** Time goes on for about half of the replicas, so that no two clocks agree for long. */
function tick(world: World): boolean {
  const { random, options } = world;
  for (const node of world.roster) {
    if (node.state !== "running" || random.below(2) === 0) continue;
    if (isSlow(node) && random.chance(options.slownessChance)) continue;
    world.trace?.note(`${node.id} ticks`);
    node.tick();
    done(world, node);
  }
  return true;
}

const isSlow = ({ id }: SimNode): boolean => id % 3 === 1;

function deliver(world: World): boolean {
  const { network, random, options } = world;
  const { size } = network;
  if (size === 0) return false;
  const offset = random.below(Math.min(size, options.reorderWindow));
  if (random.chance(options.repeatChance)) {
    const late = random.below(2) === 0;
    const message = late ? network.earlier(random.uint32()) : network.peek(offset);
    world.countFault("repeated message", world.nodes[message.to]);
    // A late copy was on its way long before the links were cut that are cut now.
    if (late) world.arrive(message);
    else pass(world, message);
    return true;
  }
  const message = network.take(offset);
  if (random.chance(options.delayChance)) {
    world.countFault("delayed message", world.nodes[message.to]);
    network.send(message);
    return true;
  }
  pass(world, message);
  return true;
}

function pass(world: World, message: Message): void {
  const { network, random, options } = world;
  if (network.isCut(message.from, message.to)) {
    world.countFault("lost to a cut", world.nodes[message.to]);
  } else if (random.chance(options.lossChance)) {
    world.countFault("lost message", world.nodes[message.to]);
  } else world.arrive(message);
}

function disk(world: World): boolean {
  const { random, options } = world;
  const node = world.find(
    (each) =>
      each.disk.busy &&
      (each.state === "running" || each.state === "opening") &&
      !(isSlow(each) && random.chance(options.diskStallChance)),
  );
  if (node === undefined) return false;
  world.trace?.note(`${node.id} gets something done on its disk`);
  node.disk.advance(world.random, world.options.groupCommitMax);
  return node.running ? done(world, node) : true;
}

function engine(world: World): boolean {
  const node = world.find((each) => each.state === "running" && each.engineBusy);
  if (node === undefined) return false;
  world.trace?.note(`${node.id} gets something done in its engine`);
  node.advanceEngine();
  return done(world, node);
}

/** Often one that was deposed, where there is one: it takes what it should not, and answers what is old. */
function asked(world: World): SimNode | undefined {
  const deposed = world.findDeposed();
  return deposed !== undefined && world.random.below(4) > 0 ? deposed : undefined;
}

function propose(world: World): boolean {
  const node = asked(world) ?? world.findLeader();
  if (node === undefined) return false;
  const count = world.random.below(4) === 0 ? 1 + world.random.below(8) : 1;
  for (let i = 0; i < count; i++) world.clients.propose(node);
  return done(world, node);
}

function read(world: World): boolean {
  const anybody = world.random.below(2) === 0 ? world.findLeader() : world.find(isRunning);
  const node = asked(world) ?? anybody;
  if (node === undefined) return false;
  world.clients.read(node);
  return done(world, node);
}

const isInstalling = ({ running, engine, staging }: SimNode): boolean =>
  running && (engine.installing || staging.length > 0);

/** Moments at which a crash is most likely to be handled wrongly. */
function isInTheMiddle(node: SimNode): boolean {
  if (!node.running) return false;
  return node.engineBusy || node.writing || node.raft.configuration.outgoing.length > 0;
}

function crash(world: World): boolean {
  const aims = world.random.below(3) === 0;
  const aimed = aims ? (world.find(isInstalling) ?? world.find(isInTheMiddle)) : undefined;
  const node = aimed ?? world.find(({ state }) => state !== "down");
  if (node === undefined) return false;
  world.countFault("crash", node);
  world.crash(node);
  world.touch(node);
  return true;
}

function restart(world: World): boolean {
  const node = world.find(({ state }) => state === "down");
  if (node === undefined) return false;
  world.countFault("restart", undefined);
  world.trace?.note(`${node.id} starts`);
  node.start();
  return true;
}

function pause(world: World): boolean {
  const node = world.find(isRunning);
  if (node === undefined) return false;
  world.countFault("pause", node);
  world.statistics.counts.pauses++;
  world.trace?.note(`${node.id} pauses`);
  node.state = "paused";
  return true;
}

export function resume(world: World): boolean {
  const node = world.find(({ state }) => state === "paused");
  if (node === undefined) return false;
  world.trace?.note(`${node.id} goes on, with ${node.inbox.length} messages`);
  node.state = "running";
  const messages = node.inbox.splice(0);
  if (world.random.below(2) === 0) {
    // All at once, as a process finds them that was stopped.
    for (const message of messages) node.step(message);
  } else {
    // After whatever it does first, believing that nothing has happened.
    for (const message of messages) world.network.send(message);
  }
  return done(world, node);
}

function cut(world: World): boolean {
  const from = world.find(() => true)!;
  const to = world.find(({ id }) => id !== from.id);
  if (to === undefined) return false;
  world.countFault("cut", from);
  world.trace?.note(`what ${from.id} sends to ${to.id} is lost from now on`);
  world.network.cut(from.id, to.id);
  return true;
}

/** Some on one side, the rest on the other; sometimes only one direction is cut. */
function isolate(world: World): boolean {
  const { random, roster, network } = world;
  // A leader without its followers goes on for a while, and its log with it.
  const leader = random.below(2) === 0 ? world.findLeader() : undefined;
  const company = leader === undefined ? 2 : 4;
  const inside = roster.filter((node) => node === leader || random.below(company) === 0);
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
  return true;
}

function heal(world: World): boolean {
  if (world.network.cuts === 0) return false;
  world.trace?.note("all links work again");
  world.network.heal();
  return true;
}

function flush(world: World): boolean {
  const node = world.find(({ state }) => state !== "down");
  if (node === undefined) return false;
  node.engine.flush();
  world.trace?.note(`${node.id} flushes its engine at ${node.engine.flushed.index}`);
  return true;
}

/** Only below what the engine has flushed. */
function compact(world: World): boolean {
  const node = world.find(isRunning);
  if (node === undefined) return false;
  const { raft, engine } = node;
  const limit = Math.min(
    raft.compactionIndex(world.options.retainedBytesMax),
    engine.flushed.index,
  ) as LogIndex;
  const term = raft.termAt(limit);
  if (limit <= raft.logStart.index || term === undefined) return false;
  world.countFault("compact", node);
  world.statistics.counts.compactions++;
  world.trace?.note(`${node.id} compacts its log to ${limit}`);
  raft.compact(limit);
  node.disk.compact({ index: limit, term });
  return done(world, node);
}

function change(world: World): boolean {
  const node = world.findLeader();
  if (node === undefined) return false;
  const leads = node.raft.role === Role.Leader;
  if (leads) world.countFault("change", node);
  if (!proposeChange(world, node) && !leads) return false;
  return done(world, node);
}

function handOver(world: World): boolean {
  const node = world.findLeader();
  if (node === undefined || node.raft.role !== Role.Leader) return false;
  const { voters } = node.raft.configuration;
  const to = world.random.pick(voters);
  world.countFault("hand-over", node);
  const result = node.raft.transferLeadership(to);
  if (result.kind === "started") world.statistics.counts["hand-overs started"]++;
  world.trace?.note(`${node.id} is asked to hand over to ${to}: ${result.kind}`);
  return done(world, node);
}

function forget(world: World): boolean {
  const node = world.find(isRunning);
  if (node === undefined) return false;
  world.countFault("forget", node);
  world.trace?.note(`${node.id} is told that its leader is gone`);
  node.raft.forgetLeader();
  return done(world, node);
}

function unreachable(world: World): boolean {
  const node = world.findLeader();
  if (node === undefined) return false;
  const peer = world.find(({ id }) => id !== node.id);
  if (peer === undefined) return false;
  world.countFault("unreachable", node);
  world.trace?.note(`${node.id} is told that ${peer.id} cannot be reached`);
  node.raft.reportUnreachable(peer.id);
  return done(world, node);
}

function campaign(world: World): boolean {
  const node = world.find(isRunning);
  if (node === undefined) return false;
  world.countFault("campaign", node);
  world.trace?.note(`${node.id} is told to campaign`);
  node.raft.campaign();
  return done(world, node);
}

const ACTIONS = {
  tick,
  deliver,
  disk,
  engine,
  propose,
  read,
  "transfer-chunk": advanceTransfer,
  offer,
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
  retire,
  wipe,
} as const satisfies Record<EventName, Action>;

/** Work that is there only because something else happened before. */
const FOLLOWING: ReadonlySet<EventName> = new Set([
  "deliver",
  "disk",
  "engine",
  "transfer-chunk",
  "offer",
]);

/** By kind. */
const ACTION_OF: readonly Action[] = EVENT_NAMES.map((name) => ACTIONS[name]);
const FOLLOWS: readonly boolean[] = EVENT_NAMES.map((name) => FOLLOWING.has(name));

/** What makes more to do for everybody else. */
const CAUSING: ReadonlySet<EventName> = new Set(["tick", "propose", "read"]);
const CAUSES: readonly boolean[] = EVENT_NAMES.map((name) => CAUSING.has(name));

/** A leader that was deposed soon hears of it: what clients ask of it comes first. */
function hurried(world: World): number | undefined {
  if (world.findDeposed() === undefined || world.random.below(6) > 0) return undefined;
  return world.random.below(2) === 0 ? EventKind.read! : EventKind.propose!;
}

/**
 * One event. Where nothing is on its way, time goes on: a tick, or new work. Where much is on its way,
 * or on its way to a disk, that mostly comes first: a group whose messages and syncs take longer than
 * its election timeouts gets nothing done.
 */
export function act(world: World, drawn: number): void {
  const kind = hurried(world) ?? (CAUSES[drawn] ? relieve(world, drawn) : drawn);
  const { events } = world.statistics;
  if (ACTION_OF[kind]!(world)) events[kind]!++;
  else if (FOLLOWS[kind]) {
    const dice = world.random.below(10);
    const other = dice < 7 ? EventKind.tick! : dice < 9 ? EventKind.propose! : EventKind.read!;
    const next = relieve(world, other);
    if (ACTION_OF[next]!(world)) events[next]!++;
  }
}

function relieve({ network, random, options, roster }: World, drawn: number): number {
  if (network.size > options.backlogMessages) return EventKind.deliver!;
  if (random.chance(options.diskLagChance)) return drawn;
  for (const node of roster) {
    if (isSlow(node) && options.diskStallChance > 0) continue;
    if (node.disk.busy && node.state === "running") return EventKind.disk!;
  }
  return drawn;
}
