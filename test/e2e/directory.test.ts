/**
 * The directory over real processes and real gRPC: what one gateway changes every other one sees, whoever
 * leads the meta group, and whatever a gateway has missed. Gateways are played by their followers.
 */
import { credentials } from "@grpc/grpc-js";
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { MetaLeaderAdmin } from "#gateway/cluster/cluster-admin.ts";
import { grpcClusterRpc, grpcWatchMap } from "#gateway/cluster/grpc-cluster-rpc.ts";
import { MapFollower } from "#gateway/cluster/map-follower.ts";
import { DirectoryFollower } from "#gateway/directory/directory-follower.ts";
import type { DirectoryRpc, FollowListener } from "#gateway/directory/directory-rpc.ts";
import { grpcDirectoryRpc } from "#gateway/directory/grpc-directory-rpc.ts";
import { utf8, utf8Decode } from "#shared/bytes.ts";
import { systemClock } from "#shared/clock.ts";
import { nodesOfPlacement } from "#shared/cluster-map.ts";
import { systemRandom } from "#shared/random.ts";
import { type Cluster, startCluster } from "./cluster-harness.ts";

/** Against hanging, not a measure: the machine may be busy. */
const BUSY = { timeout: 60_000, interval: 20 };
const TEST_TIMEOUT_MS = 180_000;
const INSECURE = credentials.createInsecure();
const clock = systemClock();
const random = systemRandom();

const soon = (): { readonly deadlineMs: number } => ({ deadlineMs: clock.nowMs() + 50_000 });

/** The real calls, until they are cut. */
class CuttableRpc implements DirectoryRpc {
  readonly #rpc = grpcDirectoryRpc(INSECURE);
  #isCut = false;
  #cuts = new Set<() => void>();
  streams = 0;

  follow(address: string, listener: FollowListener) {
    if (this.#isCut) {
      setImmediate(() => listener.onClosed("cut"));
      return { send: () => {}, cancel: () => {} };
    }
    this.streams++;
    const call = this.#rpc.follow(address, listener);
    this.#cuts.add(() => {
      call.cancel();
      listener.onClosed("cut");
    });
    return call;
  }

  change(...args: Parameters<DirectoryRpc["change"]>) {
    return this.#rpc.change(...args);
  }

  cut(): void {
    this.#isCut = true;
    for (const cut of this.#cuts) cut();
    this.#cuts = new Set();
  }

  heal(): void {
    this.#isCut = false;
  }
}

class Player {
  readonly rpc = new CuttableRpc();
  readonly #map: MapFollower;
  readonly directory: DirectoryFollower;
  readonly admin: MetaLeaderAdmin;

  constructor(seeds: readonly string[]) {
    this.#map = new MapFollower({
      seeds,
      clusterName: "",
      watch: grpcWatchMap(INSECURE),
      clock,
      random,
      onMap: () => {},
      onTrouble: () => {},
    });
    const addressOf = (id: number) => this.#map.map?.nodes.find((node) => node.id === id)?.address;
    const leader = {
      clusterId: () => this.#map.map?.clusterId,
      addresses: () => {
        const members = this.#map.map === undefined ? [] : nodesOfPlacement(this.#map.map.meta);
        return members.flatMap((id) => addressOf(id) ?? []);
      },
      addressOf,
      whyNone: () => this.#map.problem,
      clock,
      random,
    };
    this.directory = new DirectoryFollower({
      ...{ ...leader, rpc: this.rpc, onTrouble: () => {} },
      onListenerFailed: (_, error) => {
        throw error;
      },
    });
    this.admin = new MetaLeaderAdmin({ ...leader, rpc: grpcClusterRpc(INSECURE) });
    this.#map.start();
    this.directory.start();
  }

  get mapVersion(): number {
    return this.#map.map?.version ?? 0;
  }

  put(name: string, value: string, expectedRevision?: number): Promise<boolean> {
    const expected = expectedRevision === undefined ? {} : { expectedRevision };
    return this.directory.change([{ name, value: utf8(value), ...expected }], soon());
  }

  remove(name: string): Promise<boolean> {
    return this.directory.change([{ name, value: undefined }], soon());
  }

  rows(prefix = ""): Readonly<Record<string, string>> {
    const rows = this.directory.list(prefix);
    return Object.fromEntries(rows.map(({ name, value }) => [name, utf8Decode(value)]));
  }

  close(): void {
    this.directory.close();
    this.#map.close();
  }
}

let cluster: Cluster;
let one: Player;
let other: Player;
beforeAll(async () => {
  cluster = await startCluster({ nodes: 3, gateways: 0 });
  const seeds = cluster.storageNodes.map(({ address }) => address);
  one = new Player(seeds);
  other = new Player(seeds);
}, TEST_TIMEOUT_MS);
afterAll(async () => {
  one?.close();
  other?.close();
  await cluster?.close();
});

/** A test that is run once more finds no rows, and no node that is gone. */
beforeEach(async () => {
  await cluster.restart();
  const isReady = ({ directory, mapVersion }: Player) => directory.isKnown && mapVersion > 0;
  await expect.poll(() => [one, other].every(isReady), BUSY).toBe(true);
  other.rpc.heal();
  for (const { name } of one.directory.list("")) await one.remove(name);
  await expect.poll(() => other.rows(), BUSY).toEqual({});
}, TEST_TIMEOUT_MS);

describe("the directory of a cluster", { timeout: TEST_TIMEOUT_MS }, () => {
  it("is the same at every gateway, row by row, and makes no new cluster map", async () => {
    const before = one.mapVersion;
    expect(await one.put("tenant/1", "a", 0)).toBe(true);
    expect(one.rows()).toEqual({ "tenant/1": "a" });
    await expect.poll(() => other.rows(), BUSY).toEqual({ "tenant/1": "a" });
    // Whoever lost has heard of the winner's row.
    expect(await other.put("tenant/1", "b", 0)).toBe(false);
    const { revision } = other.directory.get("tenant/1")!;
    expect(await other.put("tenant/1", "b", revision)).toBe(true);
    await expect.poll(() => one.rows(), BUSY).toEqual({ "tenant/1": "b" });
    expect(one.directory.revision).toBeGreaterThan(revision);
    expect([one.mapVersion, other.mapVersion]).toEqual([before, before]);
  });

  it("brings a gateway that was cut off up to date, with what was removed meanwhile", async () => {
    await one.put("gone/1", "x");
    await one.put("kept/1", "x");
    await expect.poll(() => other.rows(), BUSY).toEqual(one.rows());
    other.rpc.cut();
    const heard: (readonly [string, boolean])[] = [];
    const stop = other.directory.subscribe("", (name, row) =>
      heard.push([name, row !== undefined]),
    );
    await one.remove("gone/1");
    await one.put("new/1", "y");
    expect(other.rows("gone/")).toEqual({ "gone/1": "x" });
    other.rpc.heal();
    await expect.poll(() => other.rows(), BUSY).toEqual(one.rows());
    stop();
    expect(heard.sort()).toEqual([
      ["gone/1", false],
      ["new/1", true],
    ]);
  });

  it("goes on, with every change that was answered, when the leader is killed", async () => {
    await one.put("count", "0");
    let isOver = false;
    let made = 0;
    const changing = (async () => {
      while (!isOver) {
        const { revision } = one.directory.get("count")!;
        if (await one.put("count", `${made + 1}`, revision)) made++;
      }
    })();
    onTestFinished(() => {
      isOver = true;
    });
    await expect.poll(() => other.rows("count").count !== "0", BUSY).toBe(true);
    const { metaLeaderNodeId } = await one.admin.status(soon());
    const leader = cluster.storageNodes.find(({ id }) => id === metaLeaderNodeId)!;
    await leader.kill9();
    const atKill = made;
    await expect.poll(() => made > atKill + 3, BUSY).toBe(true);
    isOver = true;
    await changing;
    await expect.poll(() => other.rows(), BUSY).toEqual(one.rows());
    expect(one.rows("count")).toEqual({ count: `${made}` });
    await leader.restart();
    await one.put("after", "all");
    await expect.poll(() => other.rows("after"), BUSY).toEqual({ after: "all" });
  });
});
