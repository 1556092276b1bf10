import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { toMapMessage } from "#proto/codec/cluster-map.ts";
import {
  BootstrapResponseSchema,
  DiscoverResponseSchema,
  JoinResponseSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { ManualClock } from "#shared/clock.ts";
import { fullyReplicatedMap } from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import { FEATURE_VERSION } from "#shared/features.ts";
import { MemberCandidate, type NewMembership, type SelfDescription } from "./bootstrap.ts";
import { joinedNode } from "./coordinator.ts";
import { toFoundingMessage } from "./founding.ts";
import { applyChange, foundingChange, foundingState, type MetaState } from "./map-rows.ts";
import type { ClusterPeers } from "./peers.ts";
import { makeNode } from "./testing/fixtures.ts";
import { failureMessage } from "./wire-failure.ts";

/** A machine with a data directory that outlives its processes, unless it is wiped. */
class Machine {
  readonly address: string;
  token: Uint8Array;
  membership: NewMembership | undefined;
  candidate: MemberCandidate | undefined;
  reachable = true;
  failure: unknown;
  /** What its build knows, as it tells others; older ones tell 0. */
  featureVersion = FEATURE_VERSION;
  /** Nothing can be written to it. */
  diskFails = false;
  readonly waits: string[] = [];

  constructor(address: string, token: number) {
    this.address = address;
    this.token = new Uint8Array([token]);
  }
}

class World {
  readonly clock = new ManualClock();
  readonly machines = new Map<string, Machine>();
  /** What the meta group would hold, once somebody has founded. */
  state: MetaState | undefined;
  /** What the leader of the meta group goes by instead of the map, if its build does not look. */
  checkedFeatures: number | undefined;
  #tokens = 0;
  /** Called before a founding or an invitation is delivered; false loses it. */
  deliver: (to: string) => boolean = () => true;
  /** Whether it leads the meta group. The others do not know who does. */
  leads: (address: string) => boolean = () => true;

  machine(address: string): Machine {
    const machine = new Machine(address, ++this.#tokens);
    this.machines.set(address, machine);
    return machine;
  }

  /** Another directory: nothing is left but the address. */
  wipe(machine: Machine): void {
    machine.token = new Uint8Array([++this.#tokens]);
    machine.membership = undefined;
  }

  start(
    machine: Machine,
    seeds: readonly string[],
    bootstrapExpect: number,
    clusterName = "test",
  ): void {
    const self: SelfDescription = {
      address: machine.address,
      zone: "",
      host: machine.address,
      capacityBytes: 0,
      joinToken: machine.token,
      seeds: [...seeds].sort(),
      bootstrapExpect,
    };
    machine.failure = undefined;
    if (machine.membership !== undefined) return;
    machine.candidate = new MemberCandidate({
      self,
      peers: this.#peers(),
      clock: this.clock,
      clusterId: `test-${machine.address}-${machine.token[0]}`,
      clusterName,
      replicationFactor: 3,
      metaReplicas: 3,
      adopt: async (membership) => {
        if (machine.diskFails) throw new KvError("INTERNAL", "the disk fails");
        machine.membership = membership;
        const { founding } = membership;
        if (founding === undefined || this.state !== undefined) return;
        const change = foundingChange(founding.map, founding.joinTokens);
        this.state = applyChange(foundingState(founding.map), change);
      },
      onWaiting: (reason) => machine.waits.push(reason),
    });
    this.#describe.set(machine.address, self);
    machine.candidate.run().catch((error: unknown) => {
      machine.failure = error;
    });
  }

  readonly #describe = new Map<string, SelfDescription>();

  #at(address: string): Machine {
    const machine = this.machines.get(address);
    if (machine?.reachable && machine.candidate !== undefined) return machine;
    throw new KvError("UNAVAILABLE", `${address} does not answer`);
  }

  #peers(): ClusterPeers {
    return {
      discover: async (address) => {
        const { membership, featureVersion } = this.#at(address);
        const { seeds, bootstrapExpect, zone, host, joinToken } = this.#describe.get(address)!;
        return create(DiscoverResponseSchema, {
          clusterId: membership?.map.clusterId ?? "",
          nodeId: membership?.nodeId ?? 0,
          address,
          seeds: [...seeds],
          bootstrapExpect,
          zone,
          host,
          joinToken,
          featureVersion,
        });
      },
      bootstrap: async (address, request) => {
        if (!this.deliver(address)) throw new KvError("UNAVAILABLE", "lost");
        try {
          await this.#at(address).candidate!.told(request);
          return create(BootstrapResponseSchema, {});
        } catch (error) {
          return create(BootstrapResponseSchema, { failure: failureMessage(error, 0 as never) });
        }
      },
      join: async (address, request) => {
        this.#at(address);
        if (this.state === undefined) throw new KvError("UNAVAILABLE", "no quorum");
        if (!this.leads(address)) {
          const refusal = new KvError("NOT_LEADER", "this node does not lead the meta group");
          const failure = failureMessage(refusal, 0 as never);
          return create(JoinResponseSchema, { failure, map: toMapMessage(this.state.map) });
        }
        const map = {
          ...this.state.map,
          featureVersion: this.checkedFeatures ?? this.state.map.featureVersion,
        };
        let joined: ReturnType<typeof joinedNode>;
        try {
          joined = joinedNode({ ...this.state, map }, request);
        } catch (error) {
          const failure = failureMessage(error, 0 as never);
          return create(JoinResponseSchema, { failure, map: toMapMessage(this.state.map) });
        }
        const { node, change } = joined;
        if (change !== undefined) this.state = applyChange(this.state, change);
        return create(JoinResponseSchema, {
          nodeId: node.id,
          map: toMapMessage({ ...this.state.map, version: 100 }),
        });
      },
      report: async () => {
        throw new KvError("UNAVAILABLE", "unused");
      },
      watchMap: () => () => {},
      keepOnly: () => {},
      close: () => {},
    };
  }

  /** Some seconds of everybody's time. */
  async pass(): Promise<void> {
    for (let step = 0; step < 20; step++) {
      this.clock.advance(200);
      for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

const SEEDS = ["a:1", "b:1", "c:1"];

const ids = (...machines: readonly Machine[]) =>
  machines.map(({ membership }) => membership?.nodeId);
const clusters = (...machines: readonly Machine[]) =>
  new Set(machines.map(({ membership }) => membership?.map.clusterId));

describe("MemberCandidate", () => {
  it("founds one cluster of all seeds, whatever the order of their starts", async () => {
    for (const order of [SEEDS, [...SEEDS].reverse()]) {
      const world = new World();
      const [a, b, c] = SEEDS.map((seed) => world.machine(seed));
      for (const address of order) {
        world.start(world.machines.get(address)!, SEEDS, 3);
        await world.pass();
      }
      expect(ids(a!, b!, c!)).toEqual([1, 2, 3]);
      expect(clusters(a!, b!, c!).size).toBe(1);
      for (const machine of [a, b, c]) {
        expect(machine!.membership!.founding).toEqual(a!.membership!.founding);
        expect(machine!.membership!.map.version).toBe(0);
      }
    }
  });

  it("founds nothing while a seed is missing", async () => {
    const world = new World();
    const [a, b] = SEEDS.map((seed) => world.machine(seed));
    world.start(a!, SEEDS, 3);
    world.start(b!, SEEDS, 3);
    await world.pass();
    expect(ids(a!, b!)).toEqual([undefined, undefined]);
    expect(a!.waits).toContain("seed c:1 does not answer");
  });

  it("founds nothing among seeds that disagree, and says about what", async () => {
    const world = new World();
    const [a, b, c] = SEEDS.map((seed) => world.machine(seed));
    world.start(a!, SEEDS, 3);
    world.start(b!, SEEDS, 3);
    world.start(c!, SEEDS, 2);
    await world.pass();
    expect(ids(a!, b!, c!)).toEqual([undefined, undefined, undefined]);
    expect(a!.waits.join()).toMatch(/c:1 was started with bootstrap-expect 2, this node with 3/);
  });

  it("refuses to found with more or fewer seeds than expected", async () => {
    const world = new World();
    const [a, b] = SEEDS.map((seed) => world.machine(seed));
    world.start(b!, ["a:1", "b:1"], 3);
    world.start(a!, ["a:1", "b:1"], 3);
    await world.pass();
    expect(String(a!.failure)).toMatch(/bootstrap-expect is 3, but seeds names 2 nodes/);
  });

  it("gives founders that missed the founding the ids that were meant for them", async () => {
    const world = new World();
    const [a, b, c] = SEEDS.map((seed) => world.machine(seed));
    world.deliver = (to) => to === "b:1";
    for (const machine of [a, b, c]) world.start(machine!, SEEDS, 3);
    await world.pass();
    expect(ids(a!, b!, c!)).toEqual([1, 2, 3]);
    expect(clusters(a!, b!, c!).size).toBe(1);
    expect(c!.membership!.founding).toBeUndefined();
  });

  it("does not found a second cluster when the founder was wiped", async () => {
    const world = new World();
    const [a, b, c] = SEEDS.map((seed) => world.machine(seed));
    for (const machine of [a, b, c]) world.start(machine!, SEEDS, 3);
    await world.pass();
    world.wipe(a!);
    world.start(a!, SEEDS, 3);
    await world.pass();
    expect(ids(a!)).toEqual([4]);
    expect(clusters(a!, b!, c!).size).toBe(1);
    expect(world.state!.map.nodes.map(({ id }) => id)).toEqual([1, 2, 3, 4]);
  });

  it("joins a cluster that exists with a fresh id, once for one directory", async () => {
    const world = new World();
    const founders = SEEDS.map((seed) => world.machine(seed));
    for (const machine of founders) world.start(machine, SEEDS, 3);
    await world.pass();
    const late = world.machine("d:1");
    world.start(late, SEEDS, 0);
    await world.pass();
    expect(ids(late)).toEqual([4]);
    // The process ended before it had written the id down.
    late.membership = undefined;
    world.start(late, SEEDS, 0);
    await world.pass();
    expect(ids(late)).toEqual([4]);
    world.wipe(late);
    world.start(late, SEEDS, 0);
    await world.pass();
    expect(ids(late)).toEqual([5]);
  });

  // It became a member, and its own settings refused its directory at the next start.
  it("joins no other cluster than the one it was started for", async () => {
    const world = new World();
    for (const seed of SEEDS) world.start(world.machine(seed), SEEDS, 3);
    await world.pass();
    const stray = world.machine("d:1");
    world.start(stray, SEEDS, 0, "other");
    await world.pass();
    expect(ids(stray)).toEqual([undefined]);
    expect(String(stray.failure)).toMatch(/belongs to cluster "test-a:1-1", but .* for "other"/);
    expect(world.state!.map.nodes).toHaveLength(3);
  });

  it("founds a cluster that the oldest of its builds knows", async () => {
    const world = new World();
    const machines = SEEDS.map((seed) => world.machine(seed));
    machines[2]!.featureVersion = 0;
    for (const machine of machines) world.start(machine, SEEDS, 3);
    await world.pass();
    expect(machines.map(({ membership }) => membership!.map.featureVersion)).toEqual([1, 1, 1]);
    const all = new World();
    for (const seed of SEEDS) all.start(all.machine(seed), SEEDS, 3);
    await all.pass();
    expect(all.state!.map.featureVersion).toBe(FEATURE_VERSION);
  });

  it.each([
    ["whose leader looks", undefined],
    ["whose leader is of a build that does not look", 1],
  ])("joins no cluster that uses what its build does not know, %s", async (_, checked) => {
    const world = new World();
    for (const seed of SEEDS) world.start(world.machine(seed), SEEDS, 3);
    await world.pass();
    const { state } = world;
    world.state = { ...state!, map: { ...state!.map, featureVersion: FEATURE_VERSION + 1 } };
    world.checkedFeatures = checked;
    const late = world.machine("d:1");
    world.start(late, SEEDS, 0);
    await world.pass();
    expect(ids(late)).toEqual([undefined]);
    expect(late.failure).toMatchObject({ code: "CLUSTER_CONFLICT" });
    expect(String(late.failure)).toMatch(/is of an older build of minikv: .* Update it/);
    const invited = world.machine("e:1");
    world.start(invited, [], 0);
    const map = { ...fullyReplicatedMap("test-1", [makeNode(1)]), featureVersion: 99 };
    const joinTokens = new Map([[map.nodes[0]!.id, invited.token]]);
    const told = invited.candidate!.told(toFoundingMessage({ map, joinTokens }));
    await expect(told).rejects.toMatchObject({ code: "CLUSTER_CONFLICT" });
    expect(ids(invited)).toEqual([undefined]);
  });

  it("takes no invitation of another cluster", async () => {
    const world = new World();
    const waiting = world.machine("d:1");
    world.start(waiting, [], 0, "other");
    const map = fullyReplicatedMap("test-1", [makeNode(1)]);
    const joinTokens = new Map([[map.nodes[0]!.id, waiting.token]]);
    const told = waiting.candidate!.told(toFoundingMessage({ map, joinTokens }));
    await expect(told).rejects.toMatchObject({ code: "CLUSTER_CONFLICT" });
    expect(ids(waiting)).toEqual([undefined]);
  });

  // It waited for ever for a membership that nobody would write any more.
  it("fails when it is told of the founding and cannot write it down", async () => {
    const world = new World();
    const [a, b, c] = SEEDS.map((seed) => world.machine(seed));
    b!.diskFails = true;
    for (const machine of [a, b, c]) world.start(machine!, SEEDS, 3);
    await world.pass();
    expect(ids(a!, b!, c!)).toEqual([1, undefined, 3]);
    expect(String(b!.failure)).toMatch(/the disk fails/);
  });

  // The seeds may long have given their replicas of the meta group to others.
  it("joins through members of the meta group that are no seeds of it", async () => {
    const world = new World();
    for (const seed of SEEDS) world.start(world.machine(seed), SEEDS, 3);
    await world.pass();
    world.leads = (address) => address === "c:1";
    const late = world.machine("d:1");
    world.start(late, ["a:1"], 0);
    await world.pass();
    expect(ids(late)).toEqual([4]);
  });
});
