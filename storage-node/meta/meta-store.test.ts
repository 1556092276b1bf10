import { describe, expect, it } from "vitest";
import { failureOf } from "#proto/codec/failure.ts";
import { utf8, utf8Decode } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { fullyReplicatedMap, NodeState } from "#shared/cluster-map.ts";
import type { NodeId, Revision } from "#shared/ids.ts";
import { replicaIdOf } from "#shared/ids.ts";
import { foundingChange, foundingState, type MetaChange, readMetaState } from "./map-rows.ts";
import { MetaStore } from "./meta-store.ts";
import { FakeMetaGroup } from "./testing/fake-meta-group.ts";

const node = (id: number) => ({
  id: id as NodeId,
  address: `n${id}:1`,
  zone: "z",
  host: `h${id}`,
  state: NodeState.Up,
  capacityBytes: 7,
});
const FOUNDING = fullyReplicatedMap("test-01", [node(1), node(2), node(3)]);
const TOKENS = new Map([1, 2, 3].map((id) => [id as NodeId, new Uint8Array([id])]));

async function founded() {
  const group = new FakeMetaGroup();
  const store = new MetaStore(group, new ManualClock());
  const first = { state: foundingState(FOUNDING), change: foundingChange(FOUNDING, TOKENS) };
  await store.change((state) => (state === undefined ? first : undefined));
  return { group, store, first };
}

describe("MetaStore", () => {
  it("reads back the founding map, whose version is the group's revision", async () => {
    const { group, store } = await founded();
    const state = await store.read();
    expect(state!.map).toEqual({ ...FOUNDING, version: group.revision });
    expect(state!.nextNodeId).toBe(4);
    expect(state!.joinTokens).toEqual(TOKENS);
  });

  it("has a version that grows with each change of the map, and with nothing else in its group", async () => {
    const { group, store } = await founded();
    const version = async () => (await store.read())!.map.version;
    const changes: readonly MetaChange[] = [
      { nodes: [{ ...node(2), state: NodeState.Draining }] },
      { removedNodes: [2 as NodeId] },
      { placements: [FOUNDING.placements[4]!] },
      { featureVersion: 2 },
      { nextNodeId: 9 as NodeId },
    ];
    for (const change of changes) {
      const before = await version();
      // The directory lives in the same group, and its rows take revisions too.
      group.revision = (group.revision + 3) as Revision;
      expect(await version()).toBe(before);
      await store.change((state) => ({ state: state!, change }));
      expect(await version()).toBe(group.revision);
      expect(await version()).toBeGreaterThan(before);
    }
  });

  it("reads the map again only when it has changed", async () => {
    const { group, store } = await founded();
    expect((await store.readChanged())?.map.version).toBe(group.revision);
    group.revision = (group.revision + 1) as Revision;
    expect(await store.readChanged()).toBeUndefined();
    await store.change((state) => ({ state: state!, change: { featureVersion: 2 } }));
    expect((await store.readChanged())?.map.featureVersion).toBe(2);
    expect(await store.readChanged()).toBeUndefined();
  });

  it("knows no map before the first write", async () => {
    expect(await new MetaStore(new FakeMetaGroup(), new ManualClock()).read()).toBeUndefined();
  });

  it("adds, changes and removes nodes and placements, and leaves the rest as it is", async () => {
    const { store } = await founded();
    const placement = {
      ...FOUNDING.placements[9]!,
      replicas: [{ replica: replicaIdOf(4 as NodeId, 1), role: "learner" as const }],
      lastSequence: 1,
    };
    await store.change((state) => ({
      state: state!,
      change: {
        nodes: [node(4), { ...node(2), state: NodeState.Draining }],
        removedNodes: [3 as NodeId],
        placements: [placement],
        joinTokens: new Map([[4 as NodeId, new Uint8Array([4])]]),
        nextNodeId: 5 as NodeId,
      },
    }));
    const { map, joinTokens, nextNodeId } = (await store.read())!;
    expect(map.nodes).toEqual([node(1), { ...node(2), state: NodeState.Draining }, node(4)]);
    expect([...joinTokens.keys()]).toEqual([1, 2, 4]);
    expect(nextNodeId).toBe(5);
    expect(map.placements[9]).toEqual(placement);
    expect(map.placements.filter(({ group }) => group !== 9)).toEqual(
      FOUNDING.placements.filter(({ group }) => group !== 9),
    );
  });

  it("leaves sequence 0 with the first change of members, even one that adds nobody", async () => {
    const { store } = await founded();
    const replicas = FOUNDING.placements[3]!.replicas.slice(0, 2);
    const change = { placements: [{ ...FOUNDING.placements[3]!, replicas }] };
    await store.change((state) => ({ state: state!, change }));
    expect((await store.read())!.map.placements[3]).toMatchObject({ replicas, lastSequence: 1 });
  });

  it("keeps sequence 0 when only roles or the preferred leader change", async () => {
    const { store } = await founded();
    const change = {
      placements: [{ ...FOUNDING.placements[3]!, preferredLeader: 2 as NodeId }],
    };
    await store.change((state) => ({ state: state!, change }));
    expect((await store.read())!.map.placements[3]).toMatchObject({ lastSequence: 0 });
  });

  it("computes a change again when another leader was faster", async () => {
    const { group, store } = await founded();
    const other = new MetaStore(group, new ManualClock());
    const join = (id: number) => ({ nodes: [node(id)], nextNodeId: (id + 1) as NodeId });
    let races = 0;
    const asked: number[] = [];
    group.onWrite = () => {
      if (races++ > 0) return;
      // Written between the read and the write of the first.
      void other.change((state) => ({ state: state!, change: join(state!.nextNodeId) }));
    };
    const rival = group.write.bind(group);
    group.write = (mutations, deadlineMs, done) => {
      const before = races;
      if (before > 0) {
        rival(mutations, deadlineMs, done);
        return;
      }
      group.onWrite();
      setImmediate(() => rival(mutations, deadlineMs, done));
    };
    await store.change((state) => {
      asked.push(state!.nextNodeId);
      return { state: state!, change: join(state!.nextNodeId) };
    });
    expect(asked).toEqual([4, 5]);
    expect((await store.read())!.map.nodes.map(({ id }) => id)).toEqual([1, 2, 3, 4, 5]);
  });

  it("runs changes one after the other, and goes on after one that is refused", async () => {
    const { store } = await founded();
    const seen: number[] = [];
    const join = () =>
      store.change((state) => {
        seen.push(state!.nextNodeId);
        const id = state!.nextNodeId;
        return { state: state!, change: { nodes: [node(id)], nextNodeId: (id + 1) as NodeId } };
      });
    const refused = store.change(() => {
      throw new Error("no");
    });
    const both = [join(), join()];
    await expect(refused).rejects.toThrow("no");
    await Promise.all(both);
    expect(seen).toEqual([4, 5]);
  });

  it("goes on after a change that nobody ever answers, and does not know what became of it", async () => {
    const clock = new ManualClock();
    const { group } = await founded();
    const store = new MetaStore(group, clock);
    const write = group.write.bind(group);
    group.write = () => {};
    const change = () => store.change((state) => ({ state: state!, change: { nodes: [node(1)] } }));
    const lost = change();
    lost.catch(() => {});
    for (let turn = 0; turn < 50; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
      clock.advance(1_000);
    }
    await expect(lost).rejects.toMatchObject({ code: "UNAVAILABLE", outcome: "unknown" });
    group.write = write;
    await expect(change()).resolves.toMatchObject({ kind: "changed" });
  });

  it("knows what a refused write has not done", async () => {
    const { group, store } = await founded();
    group.answer = failureOf("STORAGE_FULL", "no room", { notApplied: true });
    const change = store.change((state) => ({ state: state!, change: { nodes: [node(1)] } }));
    await expect(change).rejects.toMatchObject({ code: "UNAVAILABLE", outcome: "not_applied" });
  });

  it("says NOT_LEADER only when nothing can have been written", async () => {
    const { group, store } = await founded();
    const change = () => store.change((state) => ({ state: state!, change: { nodes: [node(1)] } }));
    group.answer = failureOf("NOT_LEADER", "lost it", { notApplied: true });
    await expect(change()).rejects.toMatchObject({ code: "NOT_LEADER" });
    group.answer = failureOf("NOT_LEADER", "lost it", { notApplied: false });
    await expect(change()).rejects.toMatchObject({ code: "UNAVAILABLE" });
    group.leads = false;
    await expect(change()).rejects.toMatchObject({ code: "NOT_LEADER" });
  });
});

describe("readMetaState()", () => {
  it("refuses rows that are no whole map", async () => {
    const { group } = await founded();
    const rows = await group.rows();
    for (const missing of ["cluster", "placement/0007", "placement/ffff"]) {
      const some = rows.filter(({ key }) => utf8Decode(key) !== missing);
      expect(() => readMetaState(some)).toThrow(/cannot be read/);
    }
    const later = [...rows, { key: utf8("tenant/1"), value: utf8("?"), revision: 1 as Revision }];
    expect(readMetaState(later)!.map.nodes).toHaveLength(3);
  });
});
