import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import {
  type ChangeClusterRequest,
  ChangeClusterRequestSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { type ClusterMap, NodeState } from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import { toNodeId } from "#shared/ids.ts";
import { type OperatorChange, operatorChange } from "./operator-changes.ts";
import type { PlannerInput } from "./planner.ts";
import { LOST, makeInput, makeMap, makeNode, makeNodes, SILENT, WELL } from "./testing/fixtures.ts";

type Change = NonNullable<MessageInitShape<typeof ChangeClusterRequestSchema>["change"]>;

const NEXT_NODE_ID = toNodeId(7);

function ask(change: Change, input: PlannerInput): OperatorChange {
  const request: ChangeClusterRequest = create(ChangeClusterRequestSchema, { change });
  const wanted = request.change as Parameters<typeof operatorChange>[0];
  return operatorChange(wanted, input, NEXT_NODE_ID);
}

const drain = (nodeId: number): Change => ({ case: "drain", value: { nodeId } });
const cancel = (nodeId: number): Change => ({ case: "cancelDrain", value: { nodeId } });
const remove = (nodeId: number): Change => ({ case: "remove", value: { nodeId } });
const transfer = (group: number, nodeId: number): Change => ({
  case: "transfer",
  value: { group, nodeId },
});

function refusalOf(change: Change, input: PlannerInput): KvError {
  try {
    ask(change, input);
  } catch (error) {
    if (error instanceof KvError) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

const inState = (map: ClusterMap, id: number, state: NodeState): ClusterMap => ({
  ...map,
  nodes: map.nodes.map((node) => (node.id === id ? { ...node, state } : node)),
});

const three = makeMap(makeNodes(3));
const four = makeMap(makeNodes(4));

describe("operatorChange()", () => {
  it("refuses with CLUSTER_CONFLICT what the cluster does not allow, and says why", () => {
    const dead = makeInput(three, { nodes: { 2: LOST, 3: LOST } });
    const refused: readonly [Change, PlannerInput, RegExp][] = [
      [drain(9), makeInput(three), /no node 9/],
      [drain(1), makeInput(makeMap(makeNodes(1))), /add a node first/],
      [remove(1), makeInput(three), /drain it first/],
      [remove(3), dead, /start node 2 again first/],
      [transfer(0, 3), makeInput(inState(three, 3, NodeState.Draining)), /node 3 is draining/],
    ];
    for (const [change, input, why] of refused) {
      const { code, message } = refusalOf(change, input);
      expect([code, message]).toEqual(["CLUSTER_CONFLICT", expect.stringMatching(why)]);
    }
  });

  it("calls malformed what no cluster could do", () => {
    expect(refusalOf(transfer(256, 1), makeInput(three)).code).toBe("INVALID_ARGUMENT");
  });

  it("asks to come back where it will be clear in a moment, and vouches that nothing was done", () => {
    const electing = { ...makeInput(four, { nodes: { 4: LOST } }), groups: new Map() };
    const { code, outcome } = refusalOf(remove(4), electing);
    expect([code, outcome]).toEqual(["UNAVAILABLE", "not_applied"]);
  });

  it("marks a dead node that still holds replicas, and takes an empty one out at once", () => {
    const dead = makeInput(four, { nodes: { 4: SILENT } });
    const { change, detail } = ask(remove(4), dead);
    expect(change).toEqual({ nodes: [makeNode(4, { state: NodeState.Removing })] });
    expect(detail).toMatch(/^node 4 is being removed: \d+ replicas to take off it/);
    const marked = makeInput(inState(four, 4, NodeState.Removing), { nodes: { 4: SILENT } });
    expect(ask(remove(4), marked).change).toBeUndefined();
    const empty = { ...four, nodes: [...four.nodes, makeNode(5)] };
    const gone = ask(remove(5), makeInput(empty, { nodes: { 5: SILENT } }));
    expect(gone.change).toEqual({ removedNodes: [5] });
  });

  it("is content when a node is gone that was there once, and refuses one that never was", () => {
    const { change, detail } = ask(remove(6), makeInput(three));
    expect([change, detail]).toEqual([undefined, "node 6 was removed already"]);
    expect(refusalOf(remove(7), makeInput(three)).code).toBe("CLUSTER_CONFLICT");
  });

  it("says when groups will get smaller because no other node is there", () => {
    const smaller = /vshards go on with 2 of 3 replicas, which survive the loss of 0 nodes/;
    expect(ask(drain(3), makeInput(three)).detail).toMatch(smaller);
    expect(ask(remove(3), makeInput(three, { nodes: { 3: LOST } })).detail).toMatch(smaller);
    expect(ask(drain(4), makeInput(four)).detail).not.toMatch(/survive/);
  });

  it("cancels drains and removals, and is content when there is none", () => {
    for (const state of [NodeState.Draining, NodeState.Removing]) {
      const { change } = ask(cancel(3), makeInput(inState(three, 3, state)));
      expect(change).toEqual({ nodes: [makeNode(3)] });
    }
    expect(ask(cancel(3), makeInput(three))).toEqual({
      change: undefined,
      detail: "node 3 is not being drained",
    });
  });

  // It would be taken away again by the next plan, behind the operator's back.
  it.each([
    ["is silent", SILENT, /does not answer/],
    ["is slow", { ...WELL, slow: true }, /is slow/],
    ["cannot write", { ...WELL, writable: false }, /takes no writes/],
  ])("hands no leadership to a node that %s", (_, seen, why) => {
    const refusal = refusalOf(transfer(0, 2), makeInput(three, { nodes: { 2: seen } }));
    expect([refusal.code, refusal.message]).toEqual([
      "CLUSTER_CONFLICT",
      expect.stringMatching(why),
    ]);
  });
});
