import { describe, expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import { type ClusterMap, fullyReplicatedMap, NodeState } from "#shared/cluster-map.ts";
import { toNodeId } from "#shared/ids.ts";
import { MapHolder } from "./map-holder.ts";
import { MapWatch } from "./map-watch.ts";
import type { ClusterPeers } from "./peers.ts";

type Listener = Parameters<ClusterPeers["watchMap"]>[2];

const node = (id: number, address = `n${id}:1`) => ({
  id: toNodeId(id),
  address,
  zone: "",
  host: "",
  state: NodeState.Up,
  capacityBytes: 0,
});

/** Node 4 of a cluster whose meta group lives on nodes 1 to 3. */
function setUp(address = "n4:1") {
  const founders = [node(1), node(2), node(3)];
  const map: ClusterMap = {
    ...fullyReplicatedMap("c", founders),
    version: 5,
    nodes: [...founders, node(4, address)],
  };
  const clock = new ManualClock();
  const opened: { readonly address: string; readonly listener: Listener; over: boolean }[] = [];
  const maps = new MapHolder(
    map,
    async () => {},
    (error) => {
      throw error;
    },
  );
  const watch = new MapWatch({
    nodeId: toNodeId(4),
    address,
    maps,
    clock,
    peers: {
      watchMap: (target, _clusterId, listener) => {
        const one = { address: target, listener, over: false };
        opened.push(one);
        return () => {
          one.over = true;
        };
      },
    },
  });
  const tick = (forMs: number): void => {
    for (let ms = 0; ms < forMs; ms += 100) {
      clock.advance(100);
      watch.tick();
    }
  };
  return { map, maps, watch, opened, tick, addresses: () => opened.map((one) => one.address) };
}

describe("the watch of the map", () => {
  it("takes over newer maps from a member of the meta group", async () => {
    const { map, maps, opened, tick, addresses } = setUp();
    tick(100);
    expect(addresses()).toEqual(["n1:1"]);
    opened[0]!.listener.onMap({ ...map, version: 6 });
    await Promise.resolve();
    expect(maps.current.version).toBe(6);
  });

  it("goes on to the next node when one ends it, after a pause", () => {
    const { opened, tick, addresses } = setUp();
    tick(100);
    opened[0]!.listener.onEnd();
    tick(200);
    expect(addresses()).toEqual(["n1:1"]);
    tick(500);
    expect(addresses()).toEqual(["n1:1", "n2:1"]);
  });

  // Two nodes that watch each other, or one that is cut off with the node it watches, hear nothing.
  it("does not stay with a node that tells nothing new", () => {
    const { opened, tick, addresses } = setUp();
    tick(45_000);
    expect(new Set(addresses())).toEqual(new Set(["n1:1", "n2:1", "n3:1"]));
    expect(opened.filter(({ over }) => !over)).toHaveLength(1);
  });

  it("never watches its own address, which an earlier node may have had", () => {
    const { tick, addresses } = setUp("n1:1");
    tick(45_000);
    expect(new Set(addresses())).toEqual(new Set(["n2:1", "n3:1"]));
  });

  it("watches nobody any more once it is stopped", () => {
    const { opened, watch, tick } = setUp();
    tick(100);
    watch.stop();
    expect(opened.map(({ over }) => over)).toEqual([true]);
  });
});
