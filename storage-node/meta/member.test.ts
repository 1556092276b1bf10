/** What a member does with the maps that it hears of. */
import { describe, expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import { type ClusterMap, fullyReplicatedMap } from "#shared/cluster-map.ts";
import { FEATURE_VERSION } from "#shared/features.ts";
import { toNodeId } from "#shared/ids.ts";
import { soloTransport } from "#storage-node/transport/transport.ts";
import { MapHolder } from "./map-holder.ts";
import { Member, type MemberOptions } from "./member.ts";
import { makeNode, makeNodes } from "./testing/fixtures.ts";

const NODE = toNodeId(9);

/** Node 9, which holds nothing of the cluster of the others. */
async function setUp() {
  const map = { ...fullyReplicatedMap("c-1", makeNodes(3)), version: 1 };
  const fatal: unknown[] = [];
  const kept: string[][] = [];
  const peers: string[][] = [];
  const maps = new MapHolder(
    map,
    async () => {},
    (error) => fatal.push(error),
  );
  const unused = {} as never;
  const options: MemberOptions = {
    nodeId: NODE,
    host: {
      hosted: [],
      create: async () => {},
      destroy: async () => {},
      markDirty: () => {},
    },
    transport: {
      ...soloTransport(),
      setPeers: (addresses) => peers.push([...addresses.values()]),
    },
    peers: { keepOnly: (addresses: Iterable<string>) => kept.push([...addresses]) } as never,
    maps,
    store: { leads: false, leader: 0 } as never,
    coordinator: unused,
    directory: { stop: () => {} } as never,
    clock: new ManualClock(),
    softwareVersion: "test",
    self: { address: "self:1" } as never,
    figures: unused,
    onRemoved: () => {},
    onFatal: (error) => fatal.push(error),
  };
  const member = new Member(options);
  await member.start();
  const hear = async (change: Partial<ClusterMap>): Promise<void> => {
    maps.offer({ ...maps.current, version: maps.current.version + 1, ...change });
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  };
  return { member, hear, fatal, kept, peers };
}

describe("a member", () => {
  it("keeps ways to the nodes of the newest map alone", async () => {
    const { member, hear, kept, fatal } = await setUp();
    const [one, two] = makeNodes(2);
    await hear({ nodes: [one!, makeNode(2, { address: "moved:1" }), makeNode(9)] });
    await hear({ nodes: [two!] });
    expect(kept).toEqual([
      makeNodes(3).map(({ address }) => address),
      [one!.address, "moved:1"],
      [two!.address],
    ]);
    expect(fatal).toEqual([]);
    await member.stop();
  });

  it("ends when its cluster uses what its build does not know", async () => {
    const { member, hear, fatal, peers } = await setUp();
    await hear({ featureVersion: FEATURE_VERSION });
    expect(fatal).toEqual([]);
    const before = peers.length;
    await hear({ featureVersion: FEATURE_VERSION + 1 });
    expect(fatal).toMatchObject([{ code: "CLUSTER_CONFLICT" }]);
    expect(String(fatal[0])).toMatch(/this storage node is of an older build/);
    // It has not acted by the map.
    expect(peers).toHaveLength(before);
    await member.stop();
  });
});
