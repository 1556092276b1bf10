/** `GrpcClusterPeers` over gRPC: channels of nodes that have left are closed, and no sooner than their calls end. */
import { create } from "@bufbuild/protobuf";
import { afterEach, describe, expect, it } from "vitest";
import {
  DiscoverResponseSchema,
  JoinRequestSchema,
  JoinResponseSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { systemClock } from "#shared/clock.ts";
import { type ClusterMap, fullyReplicatedMap } from "#shared/cluster-map.ts";
import { insecureCredentials } from "#shared/runtime/grpc-credentials.ts";
import type { ClusterHandler } from "#storage-node/meta/peers.ts";
import { makeNode } from "#storage-node/meta/testing/fixtures.ts";
import { GrpcClusterPeers } from "./cluster-client.ts";
import { clusterService } from "./cluster-service.ts";
import { startRpcServer } from "./server.ts";

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const MAP = fullyReplicatedMap("c-1", [makeNode(1)]);

async function serve() {
  const joins: (() => void)[] = [];
  const watchers = new Set<(map: ClusterMap) => void>();
  const unused = (): never => {
    throw new Error("not in this test");
  };
  const handler: ClusterHandler = {
    discover: () => create(DiscoverResponseSchema, { nodeId: 7 }),
    join: () =>
      new Promise((resolve) =>
        joins.push(() => resolve(create(JoinResponseSchema, { nodeId: 8 }))),
      ),
    watchMap: (_, onMap) => {
      watchers.add(onMap);
      onMap(MAP);
      return () => watchers.delete(onMap);
    },
    ...{ bootstrap: unused, report: unused, change: unused, status: unused, stateHash: unused },
  };
  const server = await startRpcServer({
    listen: "127.0.0.1:0",
    credentials: insecureCredentials().server,
    services: [clusterService(() => handler)],
    clock: systemClock(),
  });
  ends.push(() => server.close(0));
  return { address: server.address, joins, watchers };
}

function openPeers(): GrpcClusterPeers {
  const peers = new GrpcClusterPeers(insecureCredentials().channel);
  ends.push(() => peers.close());
  return peers;
}

describe("GrpcClusterPeers", () => {
  it("keeps the channels of the nodes of the map, and gives up those of nodes that left or moved", async () => {
    const [stays, leaves] = [await serve(), await serve()];
    const peers = openPeers();
    await peers.discover(stays.address);
    await peers.discover(leaves.address);
    expect(peers.addresses).toEqual([stays.address, leaves.address]);
    peers.keepOnly(new Set([stays.address]));
    expect(peers.addresses).toEqual([stays.address]);
    expect((await peers.discover(stays.address)).nodeId).toBe(7);
  });

  it("keeps the channel of an address beside the map for as long as a call takes", async () => {
    const seed = await serve();
    const peers = openPeers();
    peers.keepOnly(new Set());
    const joined = peers.join(seed.address, create(JoinRequestSchema, {}));
    await expect.poll(() => seed.joins.length).toBe(1);
    peers.keepOnly(new Set());
    expect(peers.addresses).toEqual([seed.address]);
    for (const answer of seed.joins) answer();
    expect((await joined).nodeId).toBe(8);
    expect(peers.addresses).toEqual([]);
    expect((await peers.discover(seed.address)).nodeId).toBe(7);
    expect(peers.addresses).toEqual([]);
  });

  it("counts a watch as a call, whoever ends it", async () => {
    const node = await serve();
    const peers = openPeers();
    const maps: ClusterMap[] = [];
    const listener = { onMap: (map: ClusterMap) => maps.push(map), onEnd: () => {} };
    const stop = peers.watchMap(node.address, "c-1", listener);
    await expect.poll(() => maps.length).toBe(1);
    peers.keepOnly(new Set());
    expect(peers.addresses).toEqual([node.address]);
    stop();
    stop();
    expect(peers.addresses).toEqual([]);
    await expect.poll(() => node.watchers.size).toBe(0);
  });

  it("gives up the channel of an address at which nobody answers", async () => {
    const peers = openPeers();
    peers.keepOnly(new Set());
    await expect(peers.discover("127.0.0.1:1")).rejects.toMatchObject({ code: "UNAVAILABLE" });
    expect(peers.addresses).toEqual([]);
  });
});
