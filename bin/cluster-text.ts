/** The cluster's state as text for a terminal, made of the JSON of `GET /admin/status`. Pure. */
import type { StatusJson } from "#gateway/admin/status.ts";
import { sizeText } from "./size-text.ts";

type NodeJson = StatusJson["nodes"][number];
type MoveJson = StatusJson["moves"][number];

const UNKNOWN = "?";
/** Numbers of vshards that are spelt out; the rest is counted. */
const LISTED_MAX = 16;

export function statusText(status: StatusJson): string {
  const { nodes, meta, vshards, lag, moves } = status;
  const answering = nodes.filter((node) => node.answering).length;
  const lines = [
    `cluster ${status.cluster_id}, map ${status.map_version}, ` +
      `feature version ${status.feature_version}, ` +
      `${answering} of ${nodes.length} nodes answer`,
    ...(status.reason === null ? [] : [`seen by this gateway alone: ${status.reason}`]),
    `meta group on ${meta.nodes.join(", ")}: ${metaText(meta)}`,
    "",
    ...nodeTable(nodes),
    ...departures(nodes),
    "",
    `${vshards.count} vshards, ${sizeText(vshards.size_bytes, UNKNOWN)}, ` +
      `${countText(vshards.objects)} keys`,
    `without a quorum: ${listText(vshards.without_quorum)}`,
    `without a leader: ${listText(vshards.without_leader)}`,
    `furthest behind: ${lagText(lag)}`,
    moves.length === 0 ? "nothing moves" : `${moves.length} moves:`,
    ...moves.map((move) => `  ${moveText(move)}`),
  ];
  return `${lines.join("\n")}\n`;
}

/** What is left to do before a node that drains or is removed is empty; undefined for others. */
export function drainText(node: NodeJson): string | undefined {
  if (node.drain === null) return undefined;
  const { replicas_left: replicas, leaders_left: leaders, blocked } = node.drain;
  const left = `node ${node.id}: ${leaders ?? UNKNOWN} leaders and ${replicas} replicas left`;
  return blocked ? `${left}; it cannot go on: ${blocked}` : left;
}

const departures = (nodes: readonly NodeJson[]): readonly string[] =>
  nodes.flatMap((node) => {
    const text = drainText(node);
    return text === undefined ? [] : [`${node.state}: ${text}`];
  });

const metaText = ({ leader, has_quorum }: StatusJson["meta"]): string => {
  if (leader !== null) return `led by ${leader}`;
  return has_quorum ? "no leader known" : "NO QUORUM";
};

const lagText = (lag: StatusJson["lag"]): string =>
  lag === null
    ? "nobody"
    : `node ${lag.node} in ${groupText(lag.group)}, ${countText(lag.entries)} entries`;

const groupText = (group: number | "meta"): string =>
  group === "meta" ? "the meta group" : `vshard ${group}`;

function moveText({ group, from, to }: MoveJson): string {
  const targets = to.map(({ node, lag_entries: lag, needs_snapshot: snapshot }) => {
    if (snapshot) return `${node} (waits for a snapshot)`;
    return lag === null ? `${node}` : `${node} (${countText(lag)} entries behind)`;
  });
  const parts = [
    ...(targets.length > 0 ? [`${targets.join(", ")} joins`] : []),
    ...(from.length > 0 ? [`${from.join(", ")} leaves`] : []),
  ];
  return `${groupText(group)}: ${parts.join(", ")}`;
}

const COLUMNS: readonly (readonly [string, (node: NodeJson) => string, "left" | "right"])[] = [
  ["NODE", ({ id }) => String(id), "right"],
  ["ADDRESS", ({ address }) => address || "-", "left"],
  ["STATE", ({ state }) => state, "left"],
  ["ANSWERS", ({ answering }) => (answering ? "yes" : "NO"), "left"],
  ["ZONE", ({ zone }) => zone || "-", "left"],
  ["HOST", ({ host }) => host || "-", "left"],
  ["LEADS", ({ leaders }) => countText(leaders), "right"],
  ["HOLDS", ({ replicas }) => countText(replicas), "right"],
  ["LAG", ({ lag_entries_max: lag }) => countText(lag), "right"],
  ["USED", ({ used_bytes: used }) => sizeText(used, UNKNOWN), "right"],
  ["OF", ({ capacity_bytes: capacity }) => sizeText(capacity || null, UNKNOWN), "right"],
  ["SYNC", ({ sync_micros: sync }) => syncText(sync), "right"],
  ["WRITES", ({ writable }) => (writable === null ? UNKNOWN : writable ? "yes" : "NO"), "left"],
  ["VERSION", ({ software_version: version }) => version ?? UNKNOWN, "left"],
];

function nodeTable(nodes: readonly NodeJson[]): readonly string[] {
  const rows = [
    COLUMNS.map(([title]) => title),
    ...nodes.map((node) => COLUMNS.map(([, textOf]) => textOf(node))),
  ];
  const widths = COLUMNS.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows.map((row) =>
    row
      .map((cell, i) =>
        COLUMNS[i]![2] === "right" ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!),
      )
      .join("  ")
      .trimEnd(),
  );
}

function listText(vshards: readonly number[] | null): string {
  if (vshards === null) return UNKNOWN;
  if (vshards.length === 0) return "none";
  const listed = vshards.slice(0, LISTED_MAX).join(", ");
  const rest = vshards.length - LISTED_MAX;
  return rest > 0 ? `${listed} and ${rest} more (${vshards.length})` : listed;
}

const countText = (count: number | null): string =>
  count === null ? UNKNOWN : count.toLocaleString("en-US");

const syncText = (micros: number | null): string =>
  micros === null ? UNKNOWN : `${(micros / 1_000).toFixed(1)} ms`;
