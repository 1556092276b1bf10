/** `MetaLeaderAdmin` against nodes that answer what the tests say, and over real gRPC. */
import { create } from "@bufbuild/protobuf";
import { credentials } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import { FakeClusterNode } from "#gateway/testing/fake-cluster.ts";
import { toMapMessage } from "#proto/codec/cluster-map.ts";
import {
  type ChangeClusterRequest,
  ChangeClusterRequestSchema,
  ChangeClusterResponseSchema,
  GetClusterStatusResponseSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { FailureSchema } from "#proto/gen/minikv/v1/storage_pb.ts";
import { ManualClock, systemClock } from "#shared/clock.ts";
import { fullyReplicatedMap, NodeState } from "#shared/cluster-map.ts";
import { ERRORS, type ErrorCode, KvError } from "#shared/errors.ts";
import { toNodeId } from "#shared/ids.ts";
import { CLUSTER_CALL_TIMEOUT_MS } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { MetaLeaderAdmin } from "./cluster-admin.ts";
import { type ClusterRpc, NoAnswer } from "./cluster-rpc.ts";
import { grpcClusterRpc } from "./grpc-cluster-rpc.ts";

const failure = (code: ErrorCode, options: { leader?: number; notApplied?: boolean } = {}) =>
  create(FailureSchema, {
    code: ERRORS[code].wire,
    detail: "a reason",
    notApplied: options.notApplied ?? true,
    leaderNodeId: options.leader ?? 0,
  });

const drain = create(ChangeClusterRequestSchema, {
  change: { case: "drain", value: { nodeId: 3 } },
});

const makeNode = { address: "a:1", zone: "", host: "", state: NodeState.Up, capacityBytes: 0 };

type Behaviour = () => ReturnType<typeof failure> | NoAnswer | undefined;

/** Nodes 1 to 3; node 1 leads unless told otherwise. */
function setUp(behaviours: Readonly<Record<string, Behaviour>> = {}) {
  const clock = new ManualClock();
  const asked: string[] = [];
  const answer = (address: string) => {
    asked.push(address);
    const result = behaviours[address]?.();
    if (result instanceof NoAnswer) throw result;
    return result;
  };
  const rpc: ClusterRpc = {
    status: async (address) => {
      const result = answer(address);
      return create(GetClusterStatusResponseSchema, result ? { failure: result } : {});
    },
    change: async (address) => {
      const result = answer(address);
      return create(ChangeClusterResponseSchema, result ? { failure: result } : { detail: "done" });
    },
  };
  const admin = new MetaLeaderAdmin({
    rpc,
    clusterId: () => "c",
    addresses: () => Object.keys(behaviours),
    addressOf: (nodeId) => (nodeId >= 1 && nodeId <= 3 ? `n${nodeId}` : undefined),
    whyNone: () => "nobody is known",
    clock,
    random: new SeededRandom(1),
  });
  /** Lets time pass while the call runs. */
  const run = async <T>(call: Promise<T>): Promise<T> => {
    let isOver = false;
    const done = call.finally(() => (isOver = true));
    done.catch(() => {});
    for (let i = 0; i < 10_000 && !isOver; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      if (!isOver) clock.advance(10);
    }
    return done;
  };
  const within = (ms: number) => ({ deadlineMs: clock.nowMs() + ms });
  return { admin, asked, run, within };
}

const errorOf = (call: Promise<unknown>): Promise<KvError> =>
  call.then(
    () => Promise.reject(new Error("a failure was expected")),
    (error: unknown) => (error instanceof KvError ? error : Promise.reject(error)),
  );

describe("MetaLeaderAdmin", () => {
  const redirects = { n1: () => undefined, n2: () => failure("NOT_LEADER", { leader: 1 }) };

  it("follows the hint to the leader, and asks it first from then on", async () => {
    const { admin, asked, run, within } = setUp(redirects);
    for (let i = 0; i < 4; i++) await run(admin.status(within(1_000)));
    expect(asked.filter((address) => address === "n2").length).toBeLessThanOrEqual(1);
    expect(asked.slice(-3)).toEqual(["n1", "n1", "n1"]);
  });

  it("waits for a leader until the deadline", async () => {
    let attempts = 0;
    const later: Behaviour = () => (attempts++ < 5 ? failure("NOT_LEADER") : undefined);
    const { admin, run, within } = setUp({ n1: later, n2: later, n3: later });
    expect((await run(admin.change(drain, within(10_000)))).detail).toBe("done");
    const never: Behaviour = () => failure("NOT_LEADER");
    const other = setUp({ n1: never, n2: never });
    const error = await errorOf(other.run(other.admin.change(drain, other.within(2_000))));
    expect(error).toMatchObject({ code: "NOT_LEADER", outcome: "not_applied" });
    expect(other.asked.length).toBeGreaterThan(3);
    expect(other.asked.length).toBeLessThan(40);
  });

  it("says at the deadline what the leader said, and not who else did not answer", async () => {
    const { admin, run, within } = setUp({
      n1: () => failure("UNAVAILABLE"),
      n2: () => new NoAnswer("n2 cannot be reached", { mayHaveArrived: false }),
      n3: () => failure("NOT_LEADER"),
    });
    for (const ms of [2_000, 2_300, 2_600]) {
      const error = await errorOf(run(admin.change(drain, within(ms))));
      expect(error).toMatchObject({ code: "UNAVAILABLE", outcome: "not_applied" });
      expect(error.message).toBe("until the deadline: a reason");
    }
  });

  it("does not follow a hint for ever", async () => {
    const { admin, asked, run, within } = setUp({
      n1: () => failure("NOT_LEADER", { leader: 2 }),
      n2: () => failure("NOT_LEADER", { leader: 1 }),
    });
    await errorOf(run(admin.status(within(2_000))));
    expect(asked.length).toBeLessThan(40);
  });

  it("reports a refusal with its reason, at once", async () => {
    const { admin, asked, run, within } = setUp({ n1: () => failure("CONFLICT") });
    const error = await errorOf(run(admin.change(drain, within(10_000))));
    expect(error).toMatchObject({ code: "CONFLICT", message: "a reason", outcome: "not_applied" });
    expect(asked).toEqual(["n1"]);
  });

  it("asks another node when one does not answer, and keeps the doubt", async () => {
    const answers = [
      new NoAnswer("lost", { mayHaveArrived: true }),
      failure("CONFLICT", { notApplied: true }),
    ];
    const next: Behaviour = () => answers.shift();
    const { admin, asked, run, within } = setUp({ n1: next, n2: next });
    const error = await errorOf(run(admin.change(drain, within(10_000))));
    expect(error).toMatchObject({ code: "CONFLICT", outcome: "unknown" });
    expect(new Set(asked).size).toBe(2);
  });

  it("knows that what never arrived was not done", async () => {
    const unreachable: Behaviour = () => new NoAnswer("down", { mayHaveArrived: false });
    const { admin, run, within } = setUp({ n1: unreachable });
    const error = await errorOf(run(admin.change(drain, within(1_000))));
    expect(error).toMatchObject({ code: "UNAVAILABLE", outcome: "not_applied" });
    expect(error.message).toContain("down");
  });

  it("says why there is nobody to ask", async () => {
    const { admin, run, within } = setUp();
    const error = await errorOf(run(admin.status(within(1_000))));
    expect(error.message).toContain("nobody is known");
  });
});

describe("MetaLeaderAdmin over gRPC", () => {
  const cleanups: (() => void)[] = [];
  afterEach(() => {
    for (const cleanup of cleanups.splice(0)) cleanup();
  });

  async function startNode(): Promise<FakeClusterNode> {
    const node = await new FakeClusterNode().start();
    cleanups.push(() => node.stop());
    return node;
  }

  function adminFor(nodes: readonly FakeClusterNode[]): MetaLeaderAdmin {
    return new MetaLeaderAdmin({
      rpc: grpcClusterRpc(credentials.createInsecure()),
      clusterId: () => "c",
      addresses: () => nodes.map(({ address }) => address),
      addressOf: (nodeId) => nodes[nodeId - 1]?.address,
      whyNone: () => "",
      clock: systemClock(),
      random: new SeededRandom(1),
    });
  }

  const within = (ms: number) => ({ deadlineMs: Date.now() + ms });

  it("carries status and changes, and finds the leader", async () => {
    const [follower, leader] = [await startNode(), await startNode()];
    follower.status = () => ({ failure: failure("NOT_LEADER", { leader: 2 }) });
    follower.change = () => ({ failure: failure("NOT_LEADER", { leader: 2 }) });
    leader.status = () => ({ metaLeaderNodeId: 2 });
    leader.change = () => ({ detail: "draining", mapVersion: 7n });
    const admin = adminFor([follower, leader]);
    expect(await admin.status(within(20_000))).toMatchObject({ metaLeaderNodeId: 2 });
    const answer = await adminFor([follower, leader]).change(drain, within(20_000));
    expect(answer).toMatchObject({ detail: "draining", mapVersion: 7n });
    const request: ChangeClusterRequest = leader.changes[0]!;
    expect(request.change).toMatchObject({ case: "drain", value: { nodeId: 3 } });
    expect(request.clusterId).toBe("c");
  });

  it("takes no status of another cluster that has got an address since", async () => {
    const [other, leader] = [await startNode(), await startNode()];
    const node = { ...makeNode, id: toNodeId(1) };
    const statusOf = (name: string) => () => ({
      map: toMapMessage(fullyReplicatedMap(name, [node])),
    });
    other.status = statusOf("another");
    leader.status = statusOf("c");
    for (let turn = 0; turn < 2; turn++) {
      const { map } = await adminFor([other, leader]).status(within(20_000));
      expect(map?.clusterId).toBe("c");
    }
    const error = await errorOf(adminFor([other]).status(within(500)));
    expect(error.code).toBe("UNAVAILABLE");
  });

  it("goes on to the next node after one that is down, and one that never answers", async () => {
    const [down, silent, leader] = [await startNode(), await startNode(), await startNode()];
    down.stop();
    leader.status = () => ({ metaLeaderNodeId: 3 });
    leader.change = () => ({ failure: failure("INVALID_ARGUMENT") });
    const admin = adminFor([down, silent, leader]);
    const deadline = within(10 * CLUSTER_CALL_TIMEOUT_MS);
    expect(await admin.status(deadline)).toMatchObject({ metaLeaderNodeId: 3 });
    expect(await errorOf(admin.change(drain, deadline))).toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    const [alone] = [adminFor([silent])];
    const error = await errorOf(alone.change(drain, within(300)));
    expect(error).toMatchObject({ code: "UNAVAILABLE", outcome: "unknown" });
  });
});
