import { describe, expect, it } from "vitest";
import { Router } from "#gateway/storage/router.ts";
import { FakeChannel, mapOf } from "#gateway/storage/testing.ts";
import type { ChangeBatch, ChangesRequest, ChangesResponse } from "#proto/codec/change-messages.ts";
import { decodeChangesRequest, encodeChangesResponse } from "#proto/codec/changes.ts";
import { failureOf } from "#proto/codec/failure.ts";
import { PROTOCOL_VERSION } from "#proto/codec/service.ts";
import { ManualClock } from "#shared/clock.ts";
import { GrpcStatus, KvError } from "#shared/errors.ts";
import type { Revision, VshardId } from "#shared/ids.ts";
import { CHANGES_LINK_IDLE_MS, FEED_SILENCE_MS } from "#shared/limits.ts";
import type { MessageStream, StreamListener } from "#shared/message-stream.ts";
import { SeededRandom } from "#shared/random.ts";
import { DirectChanges } from "./direct-changes.ts";
import { FakeHistory, settle } from "./testing.ts";

const NOTHING: ChangesResponse = { hello: undefined, results: [], batches: [], ended: [] };

/** A storage node as its protocol has it: leads what it is told to, and is there or not. */
class FakeNode {
  readonly id: number;
  readonly #history: FakeHistory;
  leads = new Set<number>();
  hint = 0;
  /** Takes what comes, and says nothing. */
  isMute = false;
  clusterId = "test";
  opened = 0;
  readonly asked: ChangesRequest[] = [];
  readonly followed = new Map<VshardId, number>();
  #listener: StreamListener | undefined;

  constructor(id: number, history: FakeHistory) {
    this.id = id;
    this.#history = history;
  }

  get isOpen(): boolean {
    return this.#listener !== undefined;
  }

  open(): MessageStream {
    this.opened++;
    return {
      listen: (listener) => {
        this.#listener = listener;
      },
      write: (bytes) => {
        queueMicrotask(() => this.#receive(decodeChangesRequest(bytes)));
        return true;
      },
      end: () => this.#drop(),
      abort: () => this.#drop(),
    };
  }

  break(): void {
    const listener = this.#listener;
    this.#drop();
    listener?.onClosed({ code: GrpcStatus.Unavailable, details: "it died" });
  }

  #drop(): void {
    this.#listener = undefined;
    this.followed.clear();
  }

  say(response: Partial<ChangesResponse>): void {
    this.#listener?.onMessage(encodeChangesResponse({ ...NOTHING, ...response }));
  }

  push(vshard: VshardId, after: number, until: number): void {
    this.say({ batches: [this.#history.batch(vshard, after, until)] });
  }

  endFollow(vshard: VshardId, hint = 0): void {
    this.followed.delete(vshard);
    const failure = failureOf("NOT_LEADER", "deposed", { notApplied: true, leaderNodeId: hint });
    this.say({ ended: [{ vshard, failure, oldestRevision: 0 as Revision }] });
  }

  #receive(request: ChangesRequest): void {
    this.asked.push(request);
    if (this.isMute || !this.isOpen) return;
    const hello = request.hello && {
      ...{ protocolVersion: PROTOCOL_VERSION, clusterId: this.clusterId, nodeId: this.id },
      ...{ softwareVersion: "test", windowOperations: 1_024, windowBytes: 1 },
    };
    const notLeader = failureOf("NOT_LEADER", "not here", {
      notApplied: true,
      leaderNodeId: this.hint,
    });
    const zero = 0 as Revision;
    const results = request.reads.map(({ callId, vshard, afterRevision, headOnly }) => {
      const none = { callId, batch: undefined, headRevision: zero, oldestRevision: zero };
      if (!this.leads.has(vshard)) return { ...none, failure: notLeader };
      const headRevision = this.#history.of(vshard).length as Revision;
      const floor = this.#history.floorOf(vshard);
      const oldestRevision = (floor + 1) as Revision;
      const known = { callId, headRevision, oldestRevision };
      if (!headOnly && afterRevision < floor) {
        const failure = failureOf("COMPACTED", "gone", { notApplied: true });
        return { ...known, failure, batch: undefined };
      }
      const batch = headOnly ? undefined : this.#history.batch(vshard, afterRevision, headRevision);
      return { ...known, failure: undefined, batch };
    });
    const batches: ChangeBatch[] = [];
    const ended = request.follows.flatMap(({ vshard, afterRevision }) => {
      if (!this.leads.has(vshard)) return [{ vshard, failure: notLeader, oldestRevision: zero }];
      this.followed.set(vshard, afterRevision);
      const { length } = this.#history.of(vshard);
      batches.push(this.#history.batch(vshard, afterRevision, length));
      return [];
    });
    for (const vshard of request.unfollow) this.followed.delete(vshard);
    this.say({ hello, results, batches, ended });
  }
}

const V = 7 as VshardId;

function openWorld() {
  const clock = new ManualClock();
  const history = new FakeHistory(clock);
  const nodes = [1, 2, 3].map((id) => new FakeNode(id, history));
  const leaders = new Router({
    connect: () => new FakeChannel(),
    onUnknownNode: () => {},
    whyNoMap: () => "",
  });
  leaders.setMap(mapOf({ version: 1 }));
  const closed: number[] = [];
  const changes = new DirectChanges({
    ...{ leaders, clock, clusterId: () => "test", softwareVersion: "test" },
    random: new SeededRandom(1),
    connect: ({ id }) => ({
      peer: `node ${id}`,
      open: () => nodes[id - 1]!.open(),
      close: () => closed.push(id),
    }),
  });
  const heard: string[] = [];
  changes.start({
    onBatch: ({ vshard, previousRevision, changes: { length } }) =>
      heard.push(`${vshard}: ${previousRevision}+${length}`),
    onHead: (vshard, revision) => heard.push(`${vshard}: head ${revision}`),
  });
  const advance = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 50) {
      await settle();
      clock.advance(50);
    }
    await settle();
  };
  const options = () => ({ deadlineMs: clock.nowMs() + 2_000 });
  return { clock, history, nodes, changes, heard, advance, closed, options };
}

/** Three changes of one vshard; its number. */
function fill(history: FakeHistory): VshardId {
  history.write({ key: "{t}1" });
  history.write({ key: "{t}2" });
  return history.write({ key: "{t}3" }).vshard;
}

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "none",
    (error: unknown) => (error instanceof KvError ? error.code : String(error)),
  );

describe("DirectChanges as a log", () => {
  it("has no stream before something is asked, and none when nothing was asked for long", async () => {
    const { nodes, changes, advance, options, closed } = openWorld();
    await advance(1_000);
    expect(nodes.map(({ opened }) => opened)).toEqual([0, 0, 0]);
    nodes[0]!.leads.add(V);
    expect(await changes.head(V, options())).toEqual({ headRevision: 0, oldestRevision: 1 });
    await advance(CHANGES_LINK_IDLE_MS / 2);
    expect(nodes[0]!.isOpen).toBe(true);
    await advance(CHANGES_LINK_IDLE_MS);
    expect(nodes[0]!.isOpen).toBe(false);
    expect(closed).toEqual([1]);
    expect(changes.figures()).toMatchObject({ links: 0, linksBroken: 0 });
    expect(await changes.head(V, options())).toMatchObject({ headRevision: 0 });
    expect(nodes[0]!.opened).toBe(2);
  });

  it("asks for many vshards in one message", async () => {
    const { nodes, changes, options } = openWorld();
    const vshards = Array.from({ length: 200 }, (_, i) => i as VshardId);
    for (const vshard of vshards) nodes[0]!.leads.add(vshard);
    await Promise.all(vshards.map((vshard) => changes.head(vshard, options())));
    expect(nodes[0]!.asked.map(({ reads }) => reads.length)).toEqual([0, 200]);
  });

  it("follows hints, finds the leader without one, and remembers it", async () => {
    const { nodes, changes, history, options, advance } = openWorld();
    const vshard = fill(history);
    nodes[0]!.hint = 3;
    nodes[2]!.leads.add(vshard);
    const piece = await changes.read(vshard, 1 as Revision, 1_000, options());
    expect(piece).toMatchObject({ kind: "changes", headRevision: 3 });
    expect(piece.kind === "changes" && piece.batch.changes.length).toBe(2);
    nodes[2]!.leads.clear();
    nodes[0]!.hint = 2;
    nodes[1]!.leads.add(vshard);
    const reading = changes.read(vshard, 3 as Revision, 1_000, options());
    await advance(1_500);
    expect(await reading).toMatchObject({ kind: "changes", batch: { changes: [] } });
  });

  it("tells what the log has lost", async () => {
    const { nodes, changes, history, options } = openWorld();
    const vshard = fill(history);
    history.compact(vshard, 2);
    nodes[0]!.leads.add(vshard);
    expect(await changes.read(vshard, 1 as Revision, 1_000, options())).toEqual({
      kind: "compacted",
      oldestRevision: 3,
      headRevision: 3,
    });
  });

  it("fails at the deadline with what stood in the way", async () => {
    const { nodes, changes, options, advance, clock } = openWorld();
    const nobody = codeOf(changes.head(V, options()));
    await advance(2_500);
    expect(await nobody).toBe("NOT_LEADER");
    for (const node of nodes) node.isMute = true;
    const silent = codeOf(changes.head(V, { deadlineMs: clock.nowMs() + 500 }));
    await advance(700);
    expect(await silent).toBe("DEADLINE_EXCEEDED");
    const stranger = openWorld();
    for (const node of stranger.nodes) node.clusterId = "other";
    const strange = codeOf(stranger.changes.head(V, stranger.options()));
    await stranger.advance(2_500);
    expect(await strange).toBe("UNAVAILABLE");
  });
});

describe("DirectChanges as news", () => {
  it("follows at the leader, and where it is said to be when that has changed", async () => {
    const { nodes, changes, history, heard, advance } = openWorld();
    const vshard = fill(history);
    for (const node of nodes) node.leads.add(vshard);
    let position = 1;
    changes.listen(vshard, () => position as Revision);
    await advance(50);
    expect(heard).toEqual([`${vshard}: 1+2`]);
    expect(nodes[0]!.followed.get(vshard)).toBe(1);
    position = 3;
    nodes[0]!.endFollow(vshard, 2);
    await advance(50);
    expect(nodes[1]!.followed.get(vshard)).toBe(3);
    nodes[0]!.push(vshard, 0, 3);
    expect(heard.length).toBe(1);
    changes.unlisten(vshard);
    await advance(50);
    expect(nodes[1]!.followed.size).toBe(0);
  });

  it("begins again where the stream broke, was cut silently, or was never confirmed", async () => {
    const { nodes, changes, history, advance } = openWorld();
    const vshard = fill(history);
    for (const node of nodes) node.leads.add(vshard);
    changes.listen(vshard, () => 3 as Revision);
    await advance(50);
    nodes[0]!.break();
    for (const node of nodes.slice(1)) node.leads.clear();
    for (const node of nodes) node.hint = 1;
    await advance(1_000);
    expect(nodes[0]!.followed.has(vshard)).toBe(true);
    nodes[0]!.isMute = true;
    await advance(FEED_SILENCE_MS + 1_500);
    expect(changes.silenceMs(vshard)).toBeGreaterThan(FEED_SILENCE_MS);
    nodes[0]!.isMute = false;
    await advance(3_000);
    expect(nodes[0]!.followed.has(vshard)).toBe(true);
  });

  it("turns to another node when one breaks off or falls silent, and says nothing of a new leader", async () => {
    const { nodes, changes, advance, options } = openWorld();
    nodes[0]!.leads.add(V);
    changes.listen(V, () => 0 as Revision);
    await advance(50);
    nodes[0]!.isMute = true;
    nodes[1]!.leads.add(V);
    await advance(2_500);
    expect(nodes[1]!.followed.has(V)).toBe(true);
    expect(changes.silenceMs(V)).toBeLessThan(FEED_SILENCE_MS);
    expect(await changes.head(V, options())).toMatchObject({ headRevision: 0 });
    nodes[2]!.leads.add(V);
    nodes[1]!.leads.delete(V);
    nodes[1]!.break();
    await advance(1_000);
    expect(nodes[2]!.followed.has(V)).toBe(true);
  });

  it("reads elsewhere when a node falls silent that nobody follows", async () => {
    const { nodes, changes, advance, clock } = openWorld();
    nodes[0]!.isMute = true;
    nodes[1]!.leads.add(V);
    const reading = changes.head(V, { deadlineMs: clock.nowMs() + 5_000 });
    await advance(2_500);
    expect(await reading).toMatchObject({ headRevision: 0 });
  });

  it("is not silent as long as the node answers, though nothing changes", async () => {
    const { nodes, changes, advance } = openWorld();
    nodes[0]!.leads.add(V);
    changes.listen(V, () => 0 as Revision);
    for (let i = 0; i < 20; i++) {
      await advance(500);
      expect(changes.silenceMs(V)).toBeLessThan(FEED_SILENCE_MS);
    }
    expect(nodes[0]!.opened).toBe(1);
    expect(changes.silenceMs(8 as VshardId)).toBe(Number.POSITIVE_INFINITY);
    await changes.close();
    expect(nodes[0]!.isOpen).toBe(false);
  });

  it("leaves no follow behind whose beginning has crossed the end of another one", async () => {
    const { nodes, changes, advance } = openWorld();
    nodes[0]!.leads.add(V);
    nodes[0]!.leads.add(8);
    for (const vshard of [V, 8 as VshardId]) changes.listen(vshard, () => 0 as Revision);
    await advance(50);
    changes.listen(V, () => 0 as Revision);
    nodes[0]!.endFollow(V);
    changes.unlisten(V);
    await advance(50);
    expect([...nodes[0]!.followed.keys()]).toEqual([8]);
  });

  it("has the feed find out what a log has lost that does not reach back", async () => {
    const { nodes, changes, heard, advance } = openWorld();
    nodes[0]!.leads.add(V);
    changes.listen(V, () => 0 as Revision);
    await advance(50);
    const failure = failureOf("COMPACTED", "gone", { notApplied: true });
    nodes[0]!.say({ ended: [{ vshard: V, failure, oldestRevision: 9 as Revision }] });
    expect(heard).toEqual([`${V}: head 8`]);
    await advance(200);
    expect(nodes[0]!.followed.has(V)).toBe(true);
    expect(changes.figures()).toMatchObject({ followsConfirmed: 1, followsEnded: 1 });
  });
});
