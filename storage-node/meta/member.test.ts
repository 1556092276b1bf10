import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { ReportResponseSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import { ManualClock } from "#shared/clock.ts";
import { fullyReplicatedMap, NodeState } from "#shared/cluster-map.ts";
import { type NodeId, type ReplicaId, replicaIdOf, toNodeId } from "#shared/ids.ts";
import { LEADER_TRANSFER_PAUSE_MS, TICK_MS } from "#shared/limits.ts";
import { simpleConfiguration } from "#storage-node/raft/configuration.ts";
import type { Replica } from "#storage-node/replica/replica.ts";
import { soloTransport } from "#storage-node/transport/transport.ts";
import type { Coordinator } from "./coordinator.ts";
import { MapHolder } from "./map-holder.ts";
import { Member } from "./member.ts";
import type { MetaStore } from "./meta-store.ts";
import type { ClusterPeers } from "./peers.ts";

const node = (id: number) => ({
  ...{ id: toNodeId(id), address: `n${id}:1`, zone: "", host: "" },
  ...{ state: NodeState.Up, capacityBytes: 0 },
});
const ids = [1, 2, 3].map((id) => replicaIdOf(toNodeId(id), 0));

/** Node 2 leads group 0, which is to be led by node 1. */
async function leading() {
  const clock = new ManualClock();
  const map = fullyReplicatedMap("c", [node(1), node(2), node(3)]);
  const asked: ReplicaId[] = [];
  const replicaOf = (group: number, isLeader: boolean) => ({
    ...{ group, isLeader, applied: { index: 9, term: 1 } },
    machine: { counters: () => new Map() },
    raft: {
      ...{ id: ids[1], term: 1, leader: ids[1], commit: 9, lastIndex: 9 },
      ...{ configuration: simpleConfiguration(ids), configurationSettled: true },
      status: () => ({
        configuration: simpleConfiguration(ids),
        lastIndex: 9,
        peers: [ids[0]!, ids[2]!].map((id) => ({
          ...{ id, match: 9, commit: 9, state: "replicate", recentlyActive: true },
        })),
      }),
      transferLeadership: (to: ReplicaId) => {
        asked.push(to);
        return { kind: "started" };
      },
    },
  });
  const hosted = map.placements.map(({ group }) => replicaOf(group, group === 0));
  const host = {
    hosted: [...hosted, replicaOf(map.meta.group, false)] as unknown as Replica[],
    create: async () => {},
    destroy: async () => {},
    markDirty: () => {},
  };
  const member = new Member({
    ...{ nodeId: toNodeId(2), host, transport: soloTransport(), clock, softwareVersion: "test" },
    peers: {
      report: async () => create(ReportResponseSchema, {}),
    } as Partial<ClusterPeers> as ClusterPeers,
    maps: new MapHolder(
      map,
      async () => {},
      () => {},
    ),
    store: { leader: 1 as NodeId, leads: false } as MetaStore,
    coordinator: { tick: () => {} } as Coordinator,
    self: { ...node(2), joinToken: new Uint8Array(0), seeds: [], bootstrapExpect: 0 },
    figures: () => ({ usedBytes: 0, capacityBytes: 0, syncMicros: 0, writable: true }),
    onRemoved: () => {},
    onFatal: (error) => {
      throw error;
    },
  });
  await member.start();
  const pass = (ms: number): void => {
    for (let passed = 0; passed < ms; passed += TICK_MS) clock.advance(TICK_MS);
  };
  return { asked, pass, member };
}

describe("a leader that another node is to have", () => {
  it("hands over at once, and pauses before it tries again what came to nothing", async () => {
    const { asked, pass, member } = await leading();
    pass(TICK_MS);
    expect(asked).toEqual([ids[0]]);
    pass(LEADER_TRANSFER_PAUSE_MS - TICK_MS);
    expect(asked).toHaveLength(1);
    pass(TICK_MS);
    expect(asked).toEqual([ids[0], ids[0]]);
    await member.stop();
  });
});
