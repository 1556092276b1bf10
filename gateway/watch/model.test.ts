/**
 * Watches under everything that may go wrong between a write and its event: news lost, repeated, reordered and
 * delayed, logs that cannot be reached, lag or have lost their beginning, clients that are slow, gone, and back at
 * another gateway with a token of some time ago.
 *
 * Whatever happens, each client sees of every change that was made after it had begun at least one event, in the order
 * of each key, unless it was told that the log did not reach back.
 */
import { afterEach, describe, expect, it, type MockInstance, vi } from "vitest";
import { latin1, utf8 } from "#shared/bytes.ts";
import { ChangeKind } from "#shared/change.ts";
import { ManualClock } from "#shared/clock.ts";
import { DEFAULT_TENANT, type Revision, Space, type TenantId, type VshardId } from "#shared/ids.ts";
import { WATCH_FLUSH_SLICE_MS } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { vshardOf } from "#shared/vshard.ts";
import { Dispatcher } from "./dispatcher.ts";
import { matches } from "./filter-index.ts";
import { Group } from "./group.ts";
import { RecentEvents } from "./recent-events.ts";
import type { ResumeToken } from "./resume-token.ts";
import { FakeClient, FakeHistory, openTestHub, query, settle, type Written } from "./testing.ts";
import { VshardFeed } from "./vshard-feed.ts";
import type { Watch, WatchQuery } from "./watches.ts";

const KEYS = ["a/1", "a/2", "a/{t}1", "a/{t}2", "b/{t}", "b", "a/b/c", "{u}x"];
const FILTERS: readonly WatchQuery["filter"][] = [
  { kind: "prefix", prefix: utf8("") },
  { kind: "prefix", prefix: utf8("a/") },
  { kind: "prefix", prefix: utf8("a/{t}") },
  { kind: "prefix", prefix: utf8("{u}") },
  { kind: "key", key: utf8("b") },
  { kind: "key", key: utf8("a/1") },
];
const KINDS = [ChangeKind.Put, ChangeKind.Put, ChangeKind.Delete, ChangeKind.Expire];

type Gateway = ReturnType<typeof openTestHub>;

/** A client as its user sees it: over all its connections. */
class Viewer {
  readonly query: WatchQuery;
  readonly #random: SeededRandom;
  /** How long the history was when it had begun: what comes later, it must see. */
  begunAt: number | undefined;
  #connections: FakeClient[] = [];
  #watch: Watch | undefined;
  #opening: Promise<void> | undefined;
  isTold = false;

  constructor(watched: WatchQuery, random: SeededRandom) {
    this.query = watched;
    this.#random = random;
  }

  get isConnected(): boolean {
    return this.#watch !== undefined;
  }

  connect({ hub, clock, history }: Gateway): void {
    if (this.#watch !== undefined || this.#opening !== undefined) return;
    const since = this.#token();
    // A client that never got a token begins anew.
    if (since === undefined) {
      this.begunAt = undefined;
      this.#connections = [];
    }
    const client = new FakeClient(this.query.format);
    const from = { since, isReconnect: true };
    this.#opening = hub.open(this.query, from, client, clock.nowMs() + 2_000).then(
      (watch) => {
        this.#opening = undefined;
        this.#watch = watch;
        this.#connections.push(client);
        this.begunAt ??= history.all.length;
      },
      () => {
        this.#opening = undefined;
      },
    );
  }

  disconnect(): void {
    this.#watch?.close();
    this.#watch = undefined;
  }

  setSlow(isSlow: boolean): void {
    const client = this.#connections.at(-1);
    if (client === undefined || this.#watch === undefined) return;
    client.isFull = isSlow;
    if (!isSlow) this.#watch.drained();
  }

  /** The last one, or one of those before it: what came since then comes again. */
  #token(): ResumeToken | undefined {
    const tokens = this.#connections.flatMap((client) =>
      client.events().flatMap(({ token }) => (token === undefined ? [] : [token])),
    );
    const back = this.#random.below(4) === 0 ? this.#random.below(tokens.length + 1) : 0;
    return tokens.at(-1 - Math.min(back, Math.max(0, tokens.length - 1))) as ResumeToken;
  }

  /** What is wrong with what it has seen. */
  problem(all: readonly Written[]): string | undefined {
    const wanted = (from: number): string[] =>
      all.slice(from).flatMap(({ record }) => {
        const op = ["", "put", "delete", "expire"][record.kind]!;
        const isWanted =
          matches(this.query, record) &&
          record.space === Space.Kv &&
          this.query.ops.some((one) => one === op);
        return isWanted ? [`${op} ${latin1(record.key)} ${record.revision}`] : [];
      });
    const known = new Set(wanted(0));
    const newest = new Map<string, number>();
    const seen = new Set<string>();
    for (const client of this.#connections) {
      for (const { name, data } of client.events()) {
        if (name === "compacted") this.isTold = true;
        const { key, revision, value } = data as { key?: string; revision: number; value?: string };
        if (key === undefined) continue;
        const event = `${name} ${key} ${revision}`;
        if (!known.has(event)) return `${event} never happened`;
        if (value !== undefined && value !== `${key} ${revision}`) return `${event} is ${value}`;
        if (revision <= (newest.get(key) ?? 0)) continue;
        newest.set(key, revision);
        seen.add(event);
      }
    }
    if (this.isTold || this.begunAt === undefined) return undefined;
    const missing = wanted(this.begunAt).filter((event) => !seen.has(event));
    return missing.length === 0 ? undefined : `missed ${missing.join(", ")}`;
  }
}

class World {
  /** That the model meets what it is about. */
  readonly totals = { resyncs: 0, resumed: 0, gaps: 0 };
  readonly random: SeededRandom;
  readonly clock = new ManualClock();
  readonly history = new FakeHistory(this.clock);
  readonly gateways: Gateway[];
  readonly viewers: Viewer[];

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
    const world = { clock: this.clock, history: this.history };
    // Little is kept: some have to go to the log.
    const recentBytes = this.random.below(3) === 0 ? 0 : this.random.below(20_000);
    const bounds = { recentBytes, clientBytes: 600 };
    this.gateways = [0, 1].map(() => openTestHub({ world, bounds }));
    if (this.random.below(2) === 0) this.#takeLong();
    const shared = query({ filter: FILTERS[this.random.below(2)]!, format: "sse", values: false });
    this.viewers = Array.from({ length: 5 }, () => {
      if (this.random.below(3) === 0) return new Viewer(shared, this.random);
      const filter = FILTERS[this.random.below(FILTERS.length)]!;
      const ops = this.random.below(3) === 0 ? (["put"] as const) : undefined;
      const format = this.random.below(2) === 0 ? "sse" : "ws";
      const values = this.random.below(2) === 0;
      const more = { filter, format, values } as const;
      return new Viewer(query(ops === undefined ? more : { ...more, ops }), this.random);
    });
    for (const { log } of this.gateways) this.#slowDown(log);
  }

  /** Writing to watches does: other things happen in the middle of a group. */
  #takeLong(): void {
    const { clock, random } = this;
    const { monotonicMs } = clock;
    let spentMs = 0;
    clock.monotonicMs = () => {
      if (random.below(8) === 0) spentMs += WATCH_FLUSH_SLICE_MS;
      return monotonicMs.call(clock) + spentMs;
    };
  }

  /** Answers come when they like. */
  #slowDown(log: Gateway["log"]): void {
    log.pieceMax = 1 + this.random.below(6);
    log.gate = (vshard) =>
      this.history.of(vshard).length === 0 || this.random.below(3) > 0
        ? undefined
        : new Promise((resolve) => this.clock.after(this.random.below(80), resolve));
  }

  write(): void {
    const key = KEYS[this.random.below(KEYS.length)]!;
    const kind = KINDS[this.random.below(KINDS.length)]!;
    const tenant = (this.random.below(8) === 0 ? 2 : DEFAULT_TENANT) as TenantId;
    const space = this.random.below(12) === 0 ? Space.Meta : Space.Kv;
    const vshard = vshardOf({ tenant, space, key: utf8(key) });
    const revision = this.history.of(vshard).length + 1;
    this.history.write({ key, kind, tenant, space, value: `${key} ${revision}` });
  }

  /** Some piece of the history, or word of its end. */
  news(isHealed: boolean): void {
    const { live } = this.gateways[this.random.below(this.gateways.length)]!;
    const vshards = [...live.listened.keys()].filter((v) => this.history.of(v).length > 0);
    if (vshards.length === 0) return;
    const vshard = vshards[this.random.below(vshards.length)]! as VshardId;
    const { length } = this.history.of(vshard);
    if (this.random.below(4) === 0) {
      live.listener!.onHead(vshard, length as Revision);
      return;
    }
    const back = this.random.below(isHealed ? 2 : 6);
    const after = Math.max(0, length - 1 - back);
    const until = Math.min(length, after + 1 + this.random.below(3));
    const batch = this.history.batch(vshard, after, until);
    const bare = (record: (typeof batch.changes)[number]) =>
      this.random.below(3) === 0 ? { ...record, value: undefined } : record;
    live.listener!.onBatch({ ...batch, changes: batch.changes.map(bare) });
  }

  async step(): Promise<void> {
    const { random } = this;
    const viewer = this.viewers[random.below(this.viewers.length)]!;
    const gateway = this.gateways[random.below(this.gateways.length)]!;
    const what = random.below(100);
    if (what < 35) this.write();
    else if (what < 65) this.news(false);
    else if (what < 73) viewer.connect(gateway);
    else if (what < 77) viewer.disconnect();
    else if (what < 81) viewer.setSlow(random.below(3) > 0);
    else if (what < 84) gateway.log.isFailing = !gateway.log.isFailing;
    else if (what < 86) gateway.live.isSilent = !gateway.live.isSilent;
    else if (what < 87) this.compact();
    else if (what < 89) gateway.log.lag = random.below(2) * random.below(6);
    else {
      await settle();
      this.clock.advance(random.below(4) === 0 ? 1_000 : random.below(60));
    }
    if (random.below(3) === 0) await settle();
  }

  compact(): void {
    const written = this.history.all[this.random.below(Math.max(1, this.history.all.length))];
    if (written === undefined) return;
    const { length } = this.history.of(written.vshard);
    this.history.compact(written.vshard, Math.max(0, length - 1 - this.random.below(3)));
  }

  async run(steps: number): Promise<readonly string[]> {
    for (let i = 0; i < steps; i++) await this.step();
    for (const { log, live } of this.gateways) {
      log.isFailing = false;
      log.lag = 0;
      live.isSilent = true;
      log.gate = undefined;
    }
    for (let i = 0; i < 60; i++) {
      for (const viewer of this.viewers) {
        viewer.setSlow(false);
        if (viewer.begunAt !== undefined) viewer.connect(this.gateways[0]!);
      }
      await settle();
      this.clock.advance(i < 20 ? 50 : 500);
    }
    await settle();
    const problems = this.viewers.flatMap((one) => one.problem(this.history.all) ?? []);
    for (const { hub } of this.gateways) {
      const { watchesBehind, eventsHeld, resyncs, resumed, gaps } = hub.figures();
      if (watchesBehind + eventsHeld > 0) problems.push(`${watchesBehind} watches are behind`);
      this.totals.resyncs += resyncs;
      this.totals.resumed += resumed;
      this.totals.gaps += gaps;
      await hub.close();
    }
    return problems;
  }
}

const SEEDS = Number(process.env.MINIKV_WATCH_SEEDS ?? 12);
const STEPS = 400;

/** Each is a mistake that a feed or a hub could have. Returns what was replaced. */
const MISTAKES: Readonly<Record<string, () => MockInstance>> = {
  "a gap in the news is not noticed": () => {
    const { onBatch } = VshardFeed.prototype;
    return vi.spyOn(VshardFeed.prototype, "onBatch").mockImplementation(function (
      this: VshardFeed,
      batch,
    ) {
      const end = batch.previousRevision + batch.changes.length;
      const isGap = this.isKnown && batch.previousRevision > this.position;
      const filled = [...Array(Math.max(0, batch.previousRevision - this.position)).keys()].map(
        () => ({ ...batch.changes[0]!, space: Space.Meta, revision: end as Revision }),
      );
      onBatch.call(
        this,
        isGap
          ? { ...batch, previousRevision: this.position, changes: [...filled, ...batch.changes] }
          : batch,
      );
    });
  },
  "a vshard of which nothing is heard is not looked at": () =>
    vi.spyOn(VshardFeed.prototype, "look").mockImplementation(() => {}),
  "changes are given out of order": () => {
    const { onChanges } = Dispatcher.prototype;
    return vi.spyOn(Dispatcher.prototype, "onChanges").mockImplementation(function (
      this: Dispatcher,
      vshard,
      changes,
    ) {
      return onChanges.call(this, vshard, changes.toReversed());
    });
  },
  "recent events leave out the first": () => {
    const { after } = RecentEvents.prototype;
    return vi.spyOn(RecentEvents.prototype, "after").mockImplementation(function (
      this: RecentEvents,
      vshard,
      revision,
      countMax,
    ) {
      return after.call(this, vshard, revision + 1, countMax);
    });
  },
  "not all members of a group are written to": () => {
    const { deliver } = Group.prototype;
    let count = 0;
    return vi.spyOn(Group.prototype, "deliver").mockImplementation(function (
      this: Group,
      write,
      isLate,
    ) {
      const writeMost: typeof write = (session, bytes) => {
        if (++count % 25 !== 0) write(session, bytes);
      };
      return deliver.call(this, writeMost, isLate);
    });
  },
  "a hole in the log is not told": () =>
    vi.spyOn(Group.prototype, "addCompacted").mockImplementation(() => {}),
  "an event is lost when it is appended": () => {
    const { append } = Group.prototype;
    let count = 0;
    return vi.spyOn(Group.prototype, "append").mockImplementation(function (this: Group, event) {
      if (++count % 25 !== 0) append.call(this, event);
    });
  },
};

afterEach(() => void vi.restoreAllMocks());

describe("watches", () => {
  it("see each change once they have begun, in the order of each key, whatever goes wrong", async () => {
    const met = { resyncs: 0, resumed: 0, gaps: 0 };
    for (let seed = 1; seed <= SEEDS; seed++) {
      const world = new World(seed);
      const problems = await world.run(STEPS);
      expect({ seed, problems }).toEqual({ seed, problems: [] });
      for (const what of ["resyncs", "resumed", "gaps"] as const) met[what] += world.totals[what];
    }
    expect(Math.min(met.resyncs, met.resumed, met.gaps)).toBeGreaterThan(0);
  }, 120_000);

  it.each(Object.keys(MISTAKES))(
    "the model finds it when %s",
    async (mistake) => {
      MISTAKES[mistake]!();
      let found = false;
      for (let seed = 1; seed <= 60 && !found; seed++) {
        found = (await new World(seed).run(STEPS)).length > 0;
      }
      expect(found).toBe(true);
    },
    120_000,
  );
});
