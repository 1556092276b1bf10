import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import {
  type BootstrapRequest,
  BootstrapResponseSchema,
  ReportRequestSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { ManualClock } from "#shared/clock.ts";
import { fullyReplicatedMap, NodeState } from "#shared/cluster-map.ts";
import { errorCodeFromWire, KvError } from "#shared/errors.ts";
import { type NodeId, type Revision, toNodeId } from "#shared/ids.ts";
import { Coordinator } from "./coordinator.ts";
import { fromFoundingMessage } from "./founding.ts";
import { MapHolder } from "./map-holder.ts";
import { MetaStore } from "./meta-store.ts";
import { makeNode } from "./testing/fixtures.ts";
import { leadingCoordinator } from "./testing/leading-coordinator.ts";
import { UsageSums } from "./usage-sums.ts";

const node = (id: number) => ({
  id: toNodeId(id),
  address: `n${id}:1`,
  zone: "",
  host: "",
  state: NodeState.Up,
  capacityBytes: 0,
});

/** Node 1 of three founders, whose meta group has no leader. */
function setUp() {
  const clock = new ManualClock();
  const map = fullyReplicatedMap("c", [node(1), node(2), node(3)]);
  const joinTokens = new Map(map.nodes.map(({ id }) => [id, Uint8Array.of(id)]));
  const maps = new MapHolder(
    map,
    async () => {},
    (error) => {
      throw error;
    },
  );
  const told: { readonly address: string; readonly request: BootstrapRequest }[] = [];
  const unused = (): never => {
    throw new KvError("UNAVAILABLE", "not in this test");
  };
  const coordinator = new Coordinator({
    nodeId: toNodeId(1),
    store: new MetaStore(
      {
        leads: false,
        leader: 0 as NodeId,
        rows: async () => [],
        clusterRevision: async () => 0 as Revision,
        write: unused,
      },
      clock,
    ),
    maps,
    usage: new UsageSums(() => 1),
    clock,
    peers: {
      discover: unused,
      bootstrap: async (address, request) => {
        told.push({ address, request });
        if (address === "n2:1") throw new KvError("UNAVAILABLE", "it is down");
        return create(BootstrapResponseSchema, {});
      },
    },
    replicationFactor: 3,
    metaReplicas: 3,
    movesAtOnceMax: 1,
    rebuildAfterMs: 1000,
    founding: { map, joinTokens },
    onPlan: () => {},
  });
  const pass = async (forMs: number): Promise<void> => {
    for (let ms = 0; ms < forMs; ms += 100) {
      clock.advance(100);
      coordinator.tick();
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  };
  return { map, maps, told, pass };
}

describe("a founder", () => {
  // It may have died before it told anybody; without the others the meta group can elect nobody.
  it("tells the others of the founding until the map is written", async () => {
    const { map, maps, told, pass } = setUp();
    await pass(3000);
    const addresses = told.map(({ address }) => address);
    expect(new Set(addresses)).toEqual(new Set(["n2:1", "n3:1"]));
    expect(addresses.length).toBeGreaterThan(4);
    expect(fromFoundingMessage(told[0]!.request).map).toEqual(map);
    maps.offer({ ...map, version: 1 });
    await pass(100);
    const before = told.length;
    await pass(3000);
    expect(told.length).toBe(before);
  });
});

describe("a report", () => {
  // The node would be told that it was removed, and say so.
  it("of a node that has just joined is taken, though the map in use here is older", async () => {
    const { ask, coordinator } = await leadingCoordinator();
    await ask();
    const from = (nodeId: number, clusterId = "c-1") =>
      coordinator.report(create(ReportRequestSchema, { clusterId, nodeId }));
    expect((await from(4)).failure).toBeUndefined();
    for (const other of [await from(5), await from(4, "c-2")]) {
      expect(errorCodeFromWire(other.failure!.code)).toBe("INVALID_ARGUMENT");
    }
  });
});

describe("a planner that fails", () => {
  // Nothing would ever be moved again, and nobody would know.
  it("is told of, once for each reason, and goes on", async () => {
    const { pass, maps, group, failures } = await leadingCoordinator();
    // By the map in use here there is something to do.
    const nodes = [...maps.current.nodes, makeNode(9, { state: NodeState.Removing })];
    maps.offer({ ...maps.current, version: maps.current.version + 1, nodes });
    const rows = group.rows.bind(group);
    const damaged = () => Promise.reject(new Error("the rows are damaged"));
    group.rows = damaged;
    await pass(10_000);
    expect(failures).toEqual(["Error: the rows are damaged"]);
    group.rows = rows;
    await pass(2_000);
    group.rows = damaged;
    await pass(2_000);
    expect(failures).toHaveLength(2);
  });
});
