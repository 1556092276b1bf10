/**
 * The nodes as the planner sees them: the row of the map, what was observed, and what follows from both.
 *
 * Whether a node keeps its replicas is told by its state alone, which changes slowly: a node that does
 * not answer for a moment must not set anything in motion. Whether it gets new ones or should lead is
 * told by what was observed last.
 */
import { type ClusterNode, NodeState } from "#shared/cluster-map.ts";
import type { NodeId } from "#shared/ids.ts";
import { NODE_FILL_PERCENT_MAX } from "#shared/limits.ts";
import type { NodeObservation } from "./types.ts";

export type NodeView = {
  /** Position among the views; loads are kept by it. */
  readonly index: number;
  readonly id: NodeId;
  readonly state: NodeState;
  /** Failure domains. A host without a name is a domain of its own; a zone without one is one zone. */
  readonly zone: string;
  readonly host: string;
  /** It keeps the replicas it has. */
  readonly stays: boolean;
  /** Nothing is copied from or to it for long. */
  readonly lost: boolean;
  readonly answering: boolean;
  readonly slow: boolean;
  /** It answers, and has no room to write. */
  readonly full: boolean;
  /** It may be given replicas. */
  readonly receives: boolean;
  readonly leads: boolean;
  /** It leads as it did until something is known of it. */
  readonly known: boolean;
  /** Bytes that may be put on it. */
  readonly roomBytes: number;
};

/** It answers, or nothing is known of it yet. */
export const mayAnswer = (view: NodeView | undefined): boolean =>
  view !== undefined && (view.answering || !view.known);

export type NodeViews = {
  readonly list: readonly NodeView[];
  readonly byId: ReadonlyMap<NodeId, NodeView>;
  /** Rows whose state changes. */
  readonly changes: readonly ClusterNode[];
  readonly reasons: readonly string[];
};

export function viewNodes(
  nodes: readonly ClusterNode[],
  observations: ReadonlyMap<NodeId, NodeObservation>,
): NodeViews {
  const changes: ClusterNode[] = [];
  const reasons: string[] = [];
  const list = nodes.map((node, index) => {
    const observation = observations.get(node.id);
    const state = nextState(node, observation);
    if (state !== node.state) {
      changes.push({ ...node, state });
      const why = state === NodeState.Down ? "it is lost" : "it answers again";
      reasons.push(`node ${node.id}: ${node.state} → ${state}: ${why}`);
    }
    return viewNode(index, { ...node, state }, observation);
  });
  return { list, byId: new Map(list.map((view) => [view.id, view])), changes, reasons };
}

/** A node that departs goes on departing when it is lost: it was asked to go. */
function nextState(node: ClusterNode, observation: NodeObservation | undefined): NodeState {
  if (node.state === NodeState.Up && observation?.lost === true && !observation.answering)
    return NodeState.Down;
  if (node.state === NodeState.Down && observation?.answering === true) return NodeState.Up;
  return node.state;
}

/** Operators say that it will not come back. If it does, it leaves like one that drains. */
const isGivenUp = ({ state }: ClusterNode, observation: NodeObservation | undefined): boolean =>
  state === NodeState.Removing && observation?.answering === false;

function viewNode(
  index: number,
  node: ClusterNode,
  observation: NodeObservation | undefined,
): NodeView {
  const stays = node.state === NodeState.Up;
  const answering = observation?.answering ?? false;
  const slow = observation?.slow ?? false;
  const writable = observation?.writable ?? false;
  return {
    index,
    id: node.id,
    state: node.state,
    zone: node.zone,
    host: node.host === "" ? `node ${node.id}` : `${node.zone}/${node.host}`,
    stays,
    lost:
      node.state === NodeState.Down || isGivenUp(node, observation) || observation?.lost === true,
    answering,
    slow,
    full: answering && !writable,
    receives: stays && answering && writable,
    leads: stays && answering && writable && !slow,
    known: observation !== undefined,
    roomBytes: roomBytes(observation),
  };
}

function roomBytes(observation: NodeObservation | undefined): number {
  if (observation === undefined || observation.capacityBytes === 0) return Number.POSITIVE_INFINITY;
  return (observation.capacityBytes * NODE_FILL_PERCENT_MAX) / 100 - observation.usedBytes;
}

/** Views for a cluster of which only the map is known, or that is being founded. */
export function viewNodesOfMap(nodes: readonly ClusterNode[]): NodeViews {
  const asInMap = ({ id, state }: ClusterNode): [NodeId, NodeObservation] => {
    const lost = state === NodeState.Down;
    const unknown = { slow: false, usedBytes: 0, capacityBytes: 0 };
    return [id, { ...unknown, answering: !lost, lost, writable: !lost }];
  };
  return viewNodes(nodes, new Map(nodes.map(asInMap)));
}
