/** A follower of one group under leader changes, pauses of its transport, and trims, against its history. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { utf8Decode } from "#shared/bytes.ts";
import { ERRORS } from "#shared/errors.ts";
import type { ReplicaId, VshardId } from "#shared/ids.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import { RETENTION_DEFAULT, trimJournal } from "#storage-node/machine/journal-trim.ts";
import { HostedReplicas } from "#storage-node/replica/hosted-replicas.ts";
import { TestGroup } from "#storage-node/replica/testing.ts";
import { NodeChanges } from "./node-changes.ts";
import { helloOf, TestStream, turns } from "./testing.ts";

const VSHARD = 7 as VshardId;
const NODES = [1, 2, 3];
/** Behind the dedupe window of all that was written before. */
const WINDOW_MS = 30_000;

type Step =
  | { readonly kind: "put"; readonly count: number }
  | { readonly kind: "handOver"; readonly to: number }
  | { readonly kind: "pause" | "goOn" | "reconnect" }
  | { readonly kind: "trim"; readonly kept: number };

const anyStep = (): fc.Arbitrary<Step> =>
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant("put" as const), count: fc.nat(5) }) },
    fc.record({ kind: fc.constant("handOver" as const), to: fc.constantFrom(...NODES) }),
    { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom("pause" as const, "goOn") }) },
    fc.record({ kind: fc.constant("reconnect" as const) }),
    fc.record({ kind: fc.constant("trim" as const), kept: fc.nat(6) }),
  );

const slow = (engine: Engine): Pick<Engine, "iterate"> => ({
  iterate: (options) => {
    const iterator = engine.iterate(options);
    return {
      next: async (rowsMax) => {
        await turns(1);
        return iterator.next(rowsMax);
      },
      close: () => iterator.close(),
    };
  },
});

class Cluster {
  readonly group: TestGroup;
  readonly nodes: readonly NodeChanges[];
  leader = 1;
  /** Keys by revision. */
  readonly history: string[] = [];
  #requests = 0;

  private constructor(group: TestGroup, nodes: readonly NodeChanges[]) {
    this.group = group;
    this.nodes = nodes;
  }

  /** @param isSlow the engine answers those who read later */
  static async create(isSlow: boolean): Promise<Cluster> {
    const nodes: NodeChanges[] = [];
    const group = await TestGroup.create(3, ({ replica, engine, clock }) => {
      const hosted = new HostedReplicas();
      hosted.add(replica);
      const source = isSlow ? slow(engine) : engine;
      const changes = new NodeChanges({ engine: source, clock, hosted });
      nodes.push(changes);
      return { listener: changes.tail, onRole: (of) => changes.tail.roleChanged(of) };
    });
    await group.elect(1);
    return new Cluster(group, nodes);
  }

  async put(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const key = `key ${this.history.length + 1}`;
      this.group.put(this.leader, key, ++this.#requests % 256);
      this.history.push(key);
    }
    await this.group.stabilize();
  }

  async handOver(to: number): Promise<void> {
    const { replica, loop } = this.group.member(this.leader);
    if (to === this.leader) return;
    replica.raft.transferLeadership(to as ReplicaId);
    loop.markDirty(replica);
    await this.group.stabilize();
    this.leader = NODES.find((id) => this.group.member(id).replica.isLeader)!;
  }

  /** Every replica trims for itself; here the leader does. */
  async trim(kept: number): Promise<void> {
    this.group.clock.advance(WINDOW_MS);
    await this.put(1);
    const { replica, engine } = this.group.member(this.leader);
    const limits = { ...RETENTION_DEFAULT, revisionsKept: kept, revisionsPerLookMin: 1 };
    void trimJournal(replica.machine, engine, this.group.clock.nowMs(), limits);
  }
}

/** Goes on at the leader when its follow ends, and tells what it has seen and what it was told is gone. */
class Follower {
  readonly #cluster: Cluster;
  #stream: TestStream;
  #position = 0;
  #batchesTaken = 0;
  #endingsTaken = 0;
  readonly seen = new Map<number, string>();
  readonly gone = new Set<number>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#stream = this.connect();
  }

  connect(): TestStream {
    this.take();
    const stream = new TestStream();
    this.#cluster.nodes[this.#cluster.leader - 1]!.serve(stream, helloOf());
    stream.say({ hello: helloOf() });
    stream.follow(VSHARD, this.#position);
    this.#batchesTaken = 0;
    this.#endingsTaken = 0;
    this.#stream = stream;
    return stream;
  }

  pause(): void {
    this.#stream.isOpen = false;
  }

  goOn(): void {
    this.#stream.open();
  }

  /** What has come; a follow that has ended begins anew. */
  take(): boolean {
    if (this.#stream === undefined) return false;
    const { batches, endings } = this.#stream;
    for (const { previousRevision, changes } of batches.slice(this.#batchesTaken)) {
      expect(previousRevision).toBe(this.#position);
      for (const { revision, key, value } of changes) {
        expect(this.seen.has(revision)).toBe(false);
        this.seen.set(revision, utf8Decode(key));
        if (value !== undefined)
          expect(utf8Decode(value.value)).toBe(`value of ${utf8Decode(key)}`);
        this.#position = revision;
      }
    }
    this.#batchesTaken = batches.length;
    const ending = endings[this.#endingsTaken];
    if (ending === undefined) return false;
    this.#endingsTaken++;
    if (ending.failure.code === ERRORS.COMPACTED.wire) {
      expect(ending.oldestRevision).toBeGreaterThan(this.#position + 1);
      while (this.#position < ending.oldestRevision - 1) this.gone.add(++this.#position);
    } else expect(ending.failure.code).toBe(ERRORS.NOT_LEADER.wire);
    this.connect();
    return true;
  }
}

async function run(steps: readonly Step[], isSlow: boolean): Promise<void> {
  const cluster = await Cluster.create(isSlow);
  const follower = new Follower(cluster);
  for (const step of steps) {
    if (step.kind === "put") await cluster.put(step.count);
    else if (step.kind === "handOver") await cluster.handOver(step.to);
    else if (step.kind === "trim") await cluster.trim(step.kept);
    else if (step.kind === "reconnect") follower.connect();
    else if (step.kind === "pause") follower.pause();
    else follower.goOn();
    await turns(3);
    follower.take();
  }
  follower.goOn();
  for (let rounds = 0; rounds < 6; rounds++) {
    await turns(8);
    follower.take();
  }
  const revisions = cluster.history.map((_, i) => i + 1);
  expect([...follower.seen.keys(), ...follower.gone].sort((a, b) => a - b)).toEqual(revisions);
  for (const [revision, key] of follower.seen) expect(key).toBe(cluster.history[revision - 1]);
  expect(cluster.group.fatal).toEqual([]);
}

describe("a follower", () => {
  it("sees each change once and in order, or is told that it is gone", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyStep(), { minLength: 5, maxLength: 30 }), fc.boolean(), run),
      {
        numRuns: 25,
      },
    );
  });
});
