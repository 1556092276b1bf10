/**
 * What a cluster on one machine keeps over restarts, in `dev.json`: which members it has, and on which
 * ports they are found. Pure, but for reading and writing the file.
 *
 * The nodes of the first start found the cluster, and are the seeds of one another for ever. Nodes that
 * come later join. Names are never given twice, as node ids are not.
 */
import { readFileSync } from "node:fs";
import { KvError } from "#shared/errors.ts";
import { DEV_NODES_MAX } from "#shared/limits.ts";
import { writeJsonFile } from "./atomic-file.ts";

export const STATE_FORMAT = 1;
/** Only this machine reaches the storage nodes. */
export const NODE_HOST = "127.0.0.1";

export type NodePlace = {
  /** `node-1`, `node-2`, … */
  readonly name: string;
  readonly port: number;
  /** Empty for none. */
  readonly zone: string;
  /** Of the nodes that founded the cluster. */
  readonly founder: boolean;
};

export type ClusterState = {
  readonly format: number;
  readonly clusterId: string;
  readonly nodes: readonly NodePlace[];
  /** Number of the next node's name. */
  readonly nextNode: number;
  /** Addresses of the founders, in the order of their names. */
  readonly seeds: readonly string[];
  /** Of the gateways at the last start. */
  readonly gatewayPorts: readonly number[];
};

export const addressOf = ({ port }: Pick<NodePlace, "port">): string => `${NODE_HOST}:${port}`;

/** A cluster that is yet to be founded by as many nodes as there are ports. */
export function newState(
  clusterId: string,
  ports: readonly number[],
  zones: readonly string[],
): ClusterState {
  const empty = { format: STATE_FORMAT, clusterId, nodes: [], nextNode: 1, gatewayPorts: [] };
  const seeds = ports.map((port) => addressOf({ port }));
  return withNodes({ ...empty, seeds }, ports, zones);
}

/** With a node for each port added. Ports that are seeds become founders. */
export function withNodes(
  state: ClusterState,
  ports: readonly number[],
  zones: readonly string[],
): ClusterState {
  const added = ports.map((port, index) => {
    const number = state.nextNode + index;
    const founder = state.seeds.includes(addressOf({ port }));
    return { name: `node-${number}`, port, zone: zoneOf(number, zones), founder };
  });
  return {
    ...state,
    nodes: [...state.nodes, ...added],
    nextNode: state.nextNode + ports.length,
  };
}

/** With the zones of this start; without any, nodes keep what they had. */
export function withZones(state: ClusterState, zones: readonly string[]): ClusterState {
  if (zones.length === 0) return state;
  const nodes = state.nodes.map((node) => ({
    ...node,
    zone: zoneOf(Number(node.name.slice("node-".length)), zones),
  }));
  return { ...state, nodes };
}

export function withoutNode(state: ClusterState, name: string): ClusterState {
  return { ...state, nodes: state.nodes.filter((node) => node.name !== name) };
}

function zoneOf(number: number, zones: readonly string[]): string {
  return zones.length === 0 ? "" : zones[(number - 1) % zones.length]!;
}

/** Why a cluster cannot be started with so many nodes; undefined when it can. */
export function refuseFewerNodes(state: ClusterState, wanted: number): string | undefined {
  const count = state.nodes.length;
  if (wanted >= count) return undefined;
  return (
    `this cluster has ${count} nodes, and ${wanted} were asked for. A node holds replicas that the ` +
    `others may need: start all of them with --nodes ${count}, take one out with "minikv cluster ` +
    'remove" and then "minikv dev forget", or begin a new cluster in another --dir.'
  );
}

/** @returns undefined when there is none. @throws KvError DATA_CORRUPT when it cannot be read */
export function readState(path: string): ClusterState | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw new KvError("UNAVAILABLE", `cannot read ${path}: ${String(error)}`, { cause: error });
  }
  try {
    return parseState(JSON.parse(text));
  } catch (error) {
    throw new KvError(
      "DATA_CORRUPT",
      `${path} is damaged: ${String(error)}. Correct it, or begin a new cluster in another --dir.`,
      { cause: error },
    );
  }
}

export function writeState(path: string, state: ClusterState): void {
  writeJsonFile(path, state);
}

/** @throws RangeError when a field is missing or has another form */
function parseState(value: unknown): ClusterState {
  const { format, clusterId, nodes, nextNode, seeds, gatewayPorts } = fieldsOf(value);
  if (format !== STATE_FORMAT) throw new RangeError(`its format is not ${STATE_FORMAT}`);
  const places = listOf(nodes, "nodes").map((item): NodePlace => {
    const { name, port, zone, founder } = fieldsOf(item);
    const number = /^node-(\d{1,6})$/.exec(textOf(name, "name"))?.[1];
    require(number !== undefined && Number(number) < Number(nextNode), "a node's name");
    require(typeof founder === "boolean", "founder");
    return { name: name as string, port: portOf(port), zone: textOf(zone, "zone"), founder };
  });
  require(places.length <= DEV_NODES_MAX, "the number of nodes");
  require(new Set(places.map(({ name }) => name)).size === places.length, "names that differ");
  require(Number.isSafeInteger(nextNode), "nextNode");
  return {
    format,
    clusterId: textOf(clusterId, "clusterId"),
    nodes: places,
    nextNode: nextNode as number,
    seeds: listOf(seeds, "seeds").map((seed) => textOf(seed, "a seed")),
    gatewayPorts: listOf(gatewayPorts, "gatewayPorts").map(portOf),
  };
}

function require(condition: boolean, what: string): asserts condition {
  if (!condition) throw new RangeError(`${what} is missing or wrong`);
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  require(typeof value === "object" && value !== null, "an object");
  return value as Readonly<Record<string, unknown>>;
}

function listOf(value: unknown, what: string): readonly unknown[] {
  require(Array.isArray(value), what);
  return value as readonly unknown[];
}

function textOf(value: unknown, what: string): string {
  require(typeof value === "string", what);
  return value;
}

function portOf(value: unknown): number {
  const isPort = Number.isSafeInteger(value) && Number(value) > 0 && Number(value) <= 65_535;
  require(isPort, "a port");
  return value as number;
}
