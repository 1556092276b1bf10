import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import {
  type BootstrapResponse,
  BootstrapResponseSchema,
  ChangeClusterRequestSchema,
  type DiscoverResponse,
  DiscoverResponseSchema,
  ReportRequestSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { fullyReplicatedMap, type Placement } from "#shared/cluster-map.ts";
import { ERRORS, errorCodeFromWire, KvError } from "#shared/errors.ts";
import { replicaIdOf, toNodeId } from "#shared/ids.ts";
import { INVITED_ANSWER_TIMEOUT_MS } from "#shared/limits.ts";
import { Coordinator } from "./coordinator.ts";
import { MapHolder } from "./map-holder.ts";
import { foundingChange, foundingState } from "./map-rows.ts";
import { MetaStore } from "./meta-store.ts";
import { FakeMetaGroup } from "./testing/fake-meta-group.ts";
import { makeNode } from "./testing/fixtures.ts";

const ADDRESS = "10.0.0.4:7400";
const MAP = fullyReplicatedMap("c-1", [makeNode(1), makeNode(2), makeNode(3)]);
const refused = (detail: string) =>
  create(BootstrapResponseSchema, {
    failure: { code: ERRORS.INVALID_ARGUMENT.wire, detail, notApplied: true },
  });

/** The leader of the meta group, and one node that waits to be invited. */
async function setUp(
  candidate: {
    readonly discover?: () => Promise<DiscoverResponse>;
    readonly bootstrap?: () => Promise<BootstrapResponse>;
  } = {},
) {
  const clock = new ManualClock();
  const group = new FakeMetaGroup();
  const store = new MetaStore(group, clock);
  const tokens = new Map(MAP.nodes.map(({ id }) => [id, Uint8Array.of(id)]));
  await store.change(() => ({
    state: foundingState(MAP),
    change: foundingChange(MAP, tokens),
  }));
  const map = (await store.read())!.map;
  const fatal = (error: unknown): never => {
    throw error;
  };
  const waiting = { address: ADDRESS, zone: "z", joinToken: utf8("token") };
  const coordinator = new Coordinator({
    nodeId: toNodeId(1),
    store,
    maps: new MapHolder(map, async () => {}, fatal),
    clock,
    peers: {
      discover: candidate.discover ?? (async () => create(DiscoverResponseSchema, waiting)),
      bootstrap: candidate.bootstrap ?? (async () => create(BootstrapResponseSchema, {})),
    },
    replicationFactor: 3,
    metaReplicas: 3,
    movesAtOnceMax: 1,
    rebuildAfterMs: 1000,
    founding: undefined,
    onPlan: () => {},
  });
  const ask = async (clusterId = "c-1") => {
    const change = { case: "invite" as const, value: { address: ADDRESS } };
    const asked = coordinator.change(create(ChangeClusterRequestSchema, { clusterId, change }));
    for (let turn = 0; turn < 20; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
      clock.advance(INVITED_ANSWER_TIMEOUT_MS / 10);
    }
    const { failure, nodeId, detail } = await asked;
    if (failure === undefined) return { nodeId, detail };
    const { code, notApplied, detail: why } = failure;
    return { code: errorCodeFromWire(code), notApplied, why };
  };
  const nodes = async () => (await store.read())!.map.nodes.map(({ id }) => id);
  return { ask, nodes, group, store, coordinator };
}

describe("a report", () => {
  // The node would be told that it was removed, and say so.
  it("of a node that has just joined is taken, though the map in use here is older", async () => {
    const { ask, coordinator } = await setUp();
    await ask();
    const from = (nodeId: number, clusterId = "c-1") =>
      coordinator.report(create(ReportRequestSchema, { clusterId, nodeId }));
    expect((await from(4)).failure).toBeUndefined();
    for (const other of [await from(5), await from(4, "c-2")]) {
      expect(errorCodeFromWire(other.failure!.code)).toBe("INVALID_ARGUMENT");
    }
  });
});

describe("an invitation", () => {
  it("gives the node its row, and tells it", async () => {
    const { ask, nodes } = await setUp();
    expect(await ask()).toEqual({ nodeId: 4, detail: "node 4 joins" });
    expect(await nodes()).toEqual([1, 2, 3, 4]);
  });

  it("meant for another cluster changes nothing", async () => {
    const { ask, nodes } = await setUp();
    expect(await ask("c-2")).toEqual({
      code: "CLUSTER_CONFLICT",
      notApplied: true,
      why: 'this is cluster "c-1", not "c-2"',
    });
    expect(await ask("")).toMatchObject({ code: "INVALID_ARGUMENT", notApplied: true });
    expect(await nodes()).toEqual([1, 2, 3]);
  });

  it("of a node that does not answer names it, before whoever asked gives up", async () => {
    const { ask, nodes } = await setUp({ discover: () => new Promise(() => {}) });
    expect(await ask()).toEqual({
      code: "UNAVAILABLE",
      notApplied: true,
      why: `${ADDRESS} does not answer within ${INVITED_ANSWER_TIMEOUT_MS} ms`,
    });
    expect(await nodes()).toEqual([1, 2, 3]);
  });

  it("whose answer is lost is not called undone: the row is there, and asking again ends it", async () => {
    let calls = 0;
    const { ask, nodes } = await setUp({
      bootstrap: async () => {
        if (calls++ === 0) throw new KvError("UNAVAILABLE", "lost");
        return create(BootstrapResponseSchema, {});
      },
    });
    expect(await ask()).toMatchObject({ code: "UNAVAILABLE", notApplied: false });
    expect(await nodes()).toEqual([1, 2, 3, 4]);
    expect(await ask()).toEqual({ nodeId: 4, detail: "node 4 joins" });
    expect(await nodes()).toEqual([1, 2, 3, 4]);
  });

  it("that the node refuses is taken back", async () => {
    const { ask, nodes } = await setUp({
      bootstrap: async () => refused("it has another cluster"),
    });
    expect(await ask()).toEqual({
      code: "CLUSTER_CONFLICT",
      notApplied: true,
      why: `${ADDRESS} does not take the invitation: it has another cluster`,
    });
    expect(await nodes()).toEqual([1, 2, 3]);
  });

  it("that the node refuses and that cannot be taken back says what is left", async () => {
    const { ask, nodes, store } = await setUp({
      bootstrap: async () => {
        const state = (await store.read())!;
        const row = state.map.placements[0]!;
        const learner = { replica: replicaIdOf(toNodeId(4), 1), role: "learner" as const };
        const placement: Placement = { ...row, replicas: [...row.replicas, learner] };
        await store.change((now) => ({ state: now!, change: { placements: [placement] } }));
        return refused("no");
      },
    });
    expect(await ask()).toMatchObject({
      code: "CLUSTER_CONFLICT",
      notApplied: false,
      why: expect.stringMatching(/Its row is left in the map: minikv cluster remove 4/),
    });
    expect(await nodes()).toEqual([1, 2, 3, 4]);
  });

  it.each([
    ["is a member already", "c-1", 3, { nodeId: 3, detail: expect.stringMatching(/already/) }],
    ["belongs to another cluster", "d", 1, { code: "CLUSTER_CONFLICT", notApplied: true }],
    ["was removed", "c-1", 9, { code: "CLUSTER_CONFLICT", why: expect.stringMatching(/empty/) }],
  ])("of a node that %s", async (_, clusterId, nodeId, expected) => {
    const there = create(DiscoverResponseSchema, { address: ADDRESS, clusterId, nodeId });
    const { ask } = await setUp({ discover: async () => there });
    expect(await ask()).toMatchObject(expected);
  });
});
