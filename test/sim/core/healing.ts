/**
 * After the faults: every replica that is not lost for good comes back, every message arrives, disks
 * and engines get everything done. Within a bound of rounds the group must lead itself, commit, leave
 * its joint configuration, finish its snapshots, bring every member up to date and serve reads there.
 */
import type { LogIndex } from "#shared/ids.ts";
import { describeStatus } from "#storage-node/raft/testing/describe.ts";
import { Role } from "#storage-node/raft/types.ts";
import { isMember, show } from "./configurations.ts";
import { EventKind } from "./kinds.ts";
import { retire } from "./membership.ts";
import type { SimNode } from "./node.ts";
import { advanceTransfer, offer, reportOverdue } from "./snapshots.ts";
import { violated } from "./violation.ts";
import type { World } from "./world.ts";

/** In election timeouts at their longest, and a fixed part for what does not depend on them. */
const ROUNDS_PER_TIMEOUT = 40;
/**
 * Without pre-vote an election that needs every vote, and that only one replica can win, takes luck:
 * seed 1623778233 had no leader after 40 timeouts, and one before 200.
 */
const ROUNDS_PER_TIMEOUT_NO_PRE_VOTE = 200;
const ROUNDS_FIXED = 200;
/** With the narrowest windows a log is caught up with an entry at a time. */
const ROUNDS_PER_ENTRY = 2;
/** Between two times that replicas which are no members any more are told so. */
const RETIRE_EVERY_ROUNDS = 20;
const DISK_STEPS_MAX = 1000;

export function* heal(world: World, firstEvent: number): Generator<World, void> {
  const healing = new Healing(world);
  const { electionTicks, preVote } = world.options.tuning;
  const perTimeout = preVote ? ROUNDS_PER_TIMEOUT : ROUNDS_PER_TIMEOUT_NO_PRE_VOTE;
  const roundsMax =
    ROUNDS_FIXED + perTimeout * electionTicks.max + ROUNDS_PER_ENTRY * world.history.committed;
  healing.begin();
  for (let round = 0; round < roundsMax; round++) {
    world.random.startEvent(firstEvent + round);
    world.trace?.event(firstEvent + round);
    yield* healing.round(round);
    if (!healing.isDone()) continue;
    world.statistics.counts["runs healed"]++;
    world.statistics.counts["healing rounds"] += round + 1;
    return;
  }
  violated("liveness", `no recovery within ${roundsMax} rounds: ${healing.missing()}`);
}

class Healing {
  readonly #world: World;
  /** A proposal made after the faults, which every member has to apply. */
  #target: LogIndex | undefined;
  /** Members that a read was asked of, and how many reads had been served before. */
  readonly #read = new Set<SimNode>();

  constructor(world: World) {
    this.#world = world;
  }

  begin(): void {
    const world = this.#world;
    world.healing = true;
    world.network.heal();
    for (const node of world.roster) {
      if (node.state === "down") node.start();
      else if (node.state === "paused") {
        node.state = "running";
        for (const message of node.inbox.splice(0)) node.step(message);
      }
    }
    world.trace?.faultsEnd();
  }

  *round(round: number): Generator<World, void> {
    const world = this.#world;
    const { events } = world.statistics;
    for (const node of world.roster) {
      if (node.state !== "running") continue;
      events[EventKind.tick!]!++;
      world.trace?.note(`${node.id} ticks`);
      node.tick();
      node.pump();
    }
    yield* this.#work();
    for (const message of world.network.takeAll()) {
      events[EventKind.deliver!]!++;
      world.arrive(message);
    }
    yield* this.#work();
    while (offer(world));
    while (advanceTransfer(world));
    while (reportOverdue(world));
    yield* this.#work();
    if (round % RETIRE_EVERY_ROUNDS === RETIRE_EVERY_ROUNDS - 1) {
      for (const node of world.roster) node.engine.flush();
      while (retire(world));
    }
    this.#ask();
  }

  /** Disks and engines get everything done that is there to do. */
  *#work(): Generator<World, void> {
    const world = this.#world;
    for (const node of world.roster) {
      for (let i = 0; i < DISK_STEPS_MAX && (node.disk.busy || node.engineBusy); i++) {
        if (node.disk.busy) {
          node.disk.advance(world.random, 8);
          yield world;
        }
        if (node.running && node.engineBusy) node.advanceEngine();
        if (node.running) node.pump();
      }
      if (node.running) world.touch(node);
    }
  }

  #leader(): SimNode | undefined {
    const { roster, history } = this.#world;
    const leaders = roster.filter(
      ({ running, raft, id }) =>
        running && raft.role === Role.Leader && isMember(history.configuration, id),
    );
    return leaders.sort((a, b) => b.raft.term - a.raft.term)[0];
  }

  #ask(): void {
    const leader = this.#leader();
    if (leader === undefined) return;
    if (this.#target === undefined) this.#target = this.#world.clients.propose(leader);
    // What was accepted by a leader that was deposed has to be asked for again.
    const { history } = this.#world;
    if (this.#target !== undefined && this.#target <= history.committed) {
      for (const node of this.#members()) {
        if (node.state !== "running" || this.#read.has(node) || node.seen.reads.size > 8) continue;
        if (this.#world.clients.read(node)) this.#read.add(node);
      }
    }
    if (this.#target !== undefined && this.#target > leader.raft.lastIndex)
      this.#target = undefined;
    leader.pump();
  }

  #members(): readonly SimNode[] {
    const { history, roster } = this.#world;
    return roster.filter(({ id }) => isMember(history.configuration, id));
  }

  isDone(): boolean {
    return this.missing() === "";
  }

  /** What is not as it should be; empty when all is well. */
  missing(): string {
    const { history, transfers, roster } = this.#world;
    const leader = this.#leader();
    const words: string[] = [];
    if (leader === undefined) words.push("there is no leader");
    if (this.#target === undefined) words.push("no proposal was accepted");
    const target = this.#target ?? 0;
    if (target > history.committed) words.push("no proposal was committed");
    if (history.configuration.outgoing.length > 0) words.push("joint configuration is not left");
    if (transfers.length > 0) words.push("snapshots are on their way");
    for (const node of this.#members()) {
      if (node.engine.index < Math.max(target, 1)) words.push(`${node.id} is behind`);
      if (node.seen.reads.size > 0 || !this.#read.has(node))
        words.push(`${node.id} served no read`);
    }
    if (words.length === 0) return "";
    const status = roster.flatMap(({ id, running, raft }) =>
      running ? describeStatus(id, raft.status()) : [`${id} is down`],
    );
    return [`${words.join(", ")} in ${show(history.configuration)}`, ...status].join("\n");
  }
}
