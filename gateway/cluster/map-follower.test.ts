import { credentials } from "@grpc/grpc-js";
/** `MapFollower` over watches that the tests command, and over real gRPC. */
import { afterEach, describe, expect, it } from "vitest";
import { FakeClusterNode } from "#gateway/testing/fake-cluster.ts";
import { toMapMessage } from "#proto/codec/cluster-map.ts";
import { type Clock, ManualClock, systemClock } from "#shared/clock.ts";
import { type ClusterMap, fullyReplicatedMap, NodeState } from "#shared/cluster-map.ts";
import { toNodeId } from "#shared/ids.ts";
import {
  CLUSTER_CALL_TIMEOUT_MS,
  MAP_WATCH_BACKOFF_MS_MAX,
  MAP_WATCH_REFRESH_INTERVAL_MS,
  MAP_WATCH_ROTATE_MS,
} from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import type { MapWatchRequest, WatchMap } from "./cluster-rpc.ts";
import { grpcWatchMap } from "./grpc-cluster-rpc.ts";
import { MapFollower } from "./map-follower.ts";

function mapOf(
  version: number,
  addresses: readonly string[] = ["a"],
  clusterId = "one",
): ClusterMap {
  const nodes = addresses.map((address, i) => ({
    id: toNodeId(i + 1),
    address,
    zone: "",
    host: "",
    state: NodeState.Up,
    capacityBytes: 0,
  }));
  return { ...fullyReplicatedMap(clusterId, nodes), version };
}

type Opened = MapWatchRequest & { isOpen: boolean };

type SetUpOptions = {
  readonly seeds?: readonly string[];
  readonly clusterName?: string;
  readonly clock?: Clock;
  readonly watch?: WatchMap;
};

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

function setUp(options: SetUpOptions = {}) {
  const clock = new ManualClock();
  const opened: Opened[] = [];
  const versions: number[] = [];
  const troubles: string[] = [];
  const watch: WatchMap = (request) => {
    const one = { ...request, isOpen: true };
    opened.push(one);
    return () => {
      one.isOpen = false;
    };
  };
  const follower = new MapFollower({
    seeds: options.seeds ?? ["a", "b", "c"],
    clusterName: options.clusterName ?? "",
    watch: options.watch ?? watch,
    clock: options.clock ?? clock,
    random: new SeededRandom(1),
    onMap: ({ version }) => versions.push(version),
    onTrouble: (address, reason) => troubles.push(`${address}: ${reason}`),
  });
  follower.start();
  cleanups.push(() => follower.close());
  const last = (): Opened => opened.at(-1)!;
  return {
    clock,
    follower,
    opened,
    versions,
    troubles,
    last,
    open: () => opened.filter(({ isOpen }) => isOpen).map(({ address }) => address),
    deliver: (map: ClusterMap, to = last()) => to.listener.onMap(toMapMessage(map)),
    breakOff: (one = last()) => {
      one.isOpen = false;
      one.listener.onClosed("broken");
    },
  };
}

describe("MapFollower", () => {
  it("takes each newer map of the node that it watches, and ignores others", () => {
    const { follower, versions, deliver } = setUp();
    for (const version of [3, 3, 2, 5, 4, 6]) deliver(mapOf(version));
    expect(versions).toEqual([3, 5, 6]);
    expect(follower.map?.version).toBe(6);
  });

  it("watches another node when the watch breaks, and keeps the map meanwhile", () => {
    const { clock, follower, opened, deliver, breakOff } = setUp();
    deliver(mapOf(3));
    breakOff();
    expect(follower.map?.version).toBe(3);
    clock.advance(50);
    expect(opened.length).toBe(2);
    expect(opened[1]!.address).not.toBe(opened[0]!.address);
  });

  it("goes round all seeds, with back-off that is bounded and starts again after a success", () => {
    const { clock, opened, breakOff, deliver } = setUp();
    for (let i = 0; i < 12; i++) {
      const before = opened.length;
      breakOff();
      expect(opened.length).toBe(before);
      clock.advance(MAP_WATCH_BACKOFF_MS_MAX);
      expect(opened.length).toBe(before + 1);
    }
    const order = opened.map(({ address }) => address).join("");
    expect("abcabcabcabcabcabc").toContain(order);
    deliver(mapOf(1));
    breakOff();
    clock.advance(50);
    expect(opened.length).toBe(14);
  });

  it("gives a node up that sends no map in time", () => {
    const { clock, opened, open, troubles } = setUp();
    clock.advance(CLUSTER_CALL_TIMEOUT_MS + 50);
    expect(opened.length).toBe(2);
    expect(open()).toEqual([opened[1]!.address]);
    expect(troubles).toEqual([`${opened[0]!.address}: it sends no cluster map`]);
  });

  it("also watches nodes that only the map names", () => {
    const { clock, opened, deliver, breakOff } = setUp({ seeds: ["a"] });
    deliver(mapOf(1, ["x", "y"]));
    for (let i = 0; i < 3; i++) {
      breakOff();
      clock.advance(MAP_WATCH_BACKOFF_MS_MAX);
    }
    expect(opened.map(({ address }) => address)).toEqual(["a", "x", "y", "a"]);
  });

  it("takes the cluster id of the first map, and holds on to it", () => {
    const { clock, follower, opened, versions, troubles, deliver, last } = setUp();
    expect(last().clusterId).toBe("");
    deliver(mapOf(1));
    deliver(mapOf(9, ["a"], "other"));
    expect(follower.map?.clusterId).toBe("one");
    expect(versions).toEqual([1]);
    expect(troubles[0]).toContain('gateway belongs to cluster "one", that storage node to "other"');
    clock.advance(50);
    expect(last().clusterId).toBe("one");
    expect(opened[0]!.isOpen).toBe(false);
  });

  it("refuses a map of another cluster than it was told of, and says which", () => {
    const { clock, follower, opened, versions, deliver } = setUp({ clusterName: "mine" });
    for (const [i, id] of ["one", "mine2", "min"].entries()) {
      deliver(mapOf(1, ["a"], id));
      expect(follower.problem).toContain(
        `storage node ${opened[i]!.address}: the gateway belongs to cluster "mine", ` +
          `that storage node to "${id}"`,
      );
      clock.advance(MAP_WATCH_BACKOFF_MS_MAX);
    }
    expect(versions).toEqual([]);
    deliver(mapOf(1, ["a"], "mine-0123abcd"));
    deliver(mapOf(2, ["a"], "mine-4567cdef"));
    expect(versions).toEqual([1]);
  });

  it("refuses what is no whole map", () => {
    const { versions, troubles, last } = setUp();
    const { placements } = toMapMessage(mapOf(1));
    last().listener.onMap({ ...toMapMessage(mapOf(1)), placements: placements.slice(1) });
    expect(versions).toEqual([]);
    expect(troubles[0]).toContain("unusable cluster map");
  });

  it("reports the same trouble with a node once, until it has worked", () => {
    const { clock, troubles, deliver, breakOff } = setUp({ seeds: ["a"] });
    const fail = () => {
      breakOff();
      clock.advance(MAP_WATCH_BACKOFF_MS_MAX);
    };
    for (let i = 0; i < 3; i++) fail();
    expect(troubles).toEqual(["a: broken"]);
    deliver(mapOf(1));
    fail();
    expect(troubles).toEqual(["a: broken", "a: broken"]);
  });

  it("looks at another node now and then, and keeps the old watch until that one delivers", () => {
    const { clock, opened, open, deliver, versions } = setUp();
    deliver(mapOf(1));
    const first = opened[0]!;
    clock.advance(MAP_WATCH_ROTATE_MS);
    expect(open()).toEqual([first.address, opened[1]!.address]);
    deliver(mapOf(2), first);
    expect(versions).toEqual([1, 2]);
    deliver(mapOf(3));
    expect(open()).toEqual([opened[1]!.address]);
    deliver(mapOf(4), first);
    expect(versions).toEqual([1, 2, 3]);
  });

  it("stays with the watch that works when another node does not", () => {
    const { clock, opened, open, deliver, breakOff } = setUp();
    deliver(mapOf(1));
    clock.advance(MAP_WATCH_ROTATE_MS);
    breakOff();
    clock.advance(MAP_WATCH_BACKOFF_MS_MAX);
    expect([opened.length, open()]).toEqual([2, [opened[0]!.address]]);
  });

  it("looks elsewhere when asked to, but not without pause", () => {
    const { clock, follower, opened, deliver } = setUp();
    deliver(mapOf(1));
    clock.advance(MAP_WATCH_REFRESH_INTERVAL_MS);
    for (let i = 0; i < 100; i++) follower.lookElsewhere();
    expect(opened.length).toBe(2);
    deliver(mapOf(1));
    follower.lookElsewhere();
    expect(opened.length).toBe(2);
    clock.advance(MAP_WATCH_REFRESH_INTERVAL_MS);
    follower.lookElsewhere();
    expect(opened.length).toBe(3);
  });

  it("does nothing more once it is closed", () => {
    const { clock, follower, opened, open, deliver, versions } = setUp();
    deliver(mapOf(1));
    clock.advance(MAP_WATCH_ROTATE_MS);
    follower.close();
    expect(open()).toEqual([]);
    opened[0]!.listener.onClosed("late");
    clock.advance(10 * MAP_WATCH_ROTATE_MS);
    expect([opened.length, versions]).toEqual([2, [1]]);
  });
});

describe("MapFollower over gRPC", () => {
  async function startNodes(count: number): Promise<FakeClusterNode[]> {
    const nodes = await Promise.all(
      Array.from({ length: count }, () => new FakeClusterNode().start()),
    );
    for (const node of nodes) cleanups.push(() => node.stop());
    return nodes;
  }

  const follow = (seeds: readonly string[], clusterName = "") =>
    setUp({
      seeds,
      clusterName,
      clock: systemClock(),
      watch: grpcWatchMap(credentials.createInsecure()),
    });

  const patience = { timeout: 20_000, interval: 5 };

  it("gets the map and each later one, and survives the nodes one by one", async () => {
    const nodes = await startNodes(2);
    const addresses = nodes.map(({ address }) => address);
    for (const node of nodes) node.publish(mapOf(1, addresses));
    const { versions } = follow(addresses);
    await expect.poll(() => versions, patience).toEqual([1]);
    const watched = nodes.find(({ watchers }) => watchers === 1)!;
    watched.publish(mapOf(2, addresses));
    await expect.poll(() => versions, patience).toEqual([1, 2]);
    watched.stop();
    const other = nodes.find((node) => node !== watched)!;
    await expect.poll(() => other.watchers, patience).toBe(1);
    other.publish(mapOf(3, addresses));
    await expect.poll(() => versions, patience).toEqual([1, 2, 3]);
    other.stop();
    await watched.start();
    watched.publish(mapOf(4, addresses));
    await expect.poll(() => versions, patience).toEqual([1, 2, 3, 4]);
  });

  it("waits for a node that starts later, and opens a watch again that was ended", async () => {
    const [node] = await startNodes(1);
    node!.stop();
    const { versions, follower } = follow([node!.address], "one");
    await expect.poll(() => follower.problem, patience).toContain("ECONNREFUSED");
    await node!.start();
    node!.publish(mapOf(1));
    await expect.poll(() => versions, patience).toEqual([1]);
    node!.endWatches();
    await expect.poll(() => node!.watched, patience).toEqual(["", "one"]);
  });
});
