/** What a person sees of a cluster on this machine: `minikv dev status`. */
import type { ClusterStatus, MemberStatus } from "./control-protocol.ts";
import { describeEnd } from "./processes.ts";

export function statusText({
  directory,
  supervisorPid,
  gateways,
  storageNodes,
}: ClusterStatus): string {
  const rows = [
    ["process", "pid", "state", "where", "node id"],
    ...storageNodes.map((node) => row(node, node.address, node.id === null ? "?" : `${node.id}`)),
    ...gateways.map((gateway) => row(gateway, gateway.url, "")),
  ];
  const widths = rows[0]!.map((_, column) =>
    Math.max(...rows.map((cells) => cells[column]!.length)),
  );
  const lines = rows.map((cells) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join("  ")
      .trimEnd(),
  );
  return `cluster in ${directory}, supervisor ${supervisorPid}\n\n${lines.join("\n")}\n`;
}

function row(member: MemberStatus, where: string, id: string): readonly string[] {
  return [member.name, member.pid === null ? "-" : `${member.pid}`, stateOf(member), where, id];
}

function stateOf({ phase, paused, lastEnd }: MemberStatus): string {
  if (paused) return "paused";
  return phase === "ended" && lastEnd !== null ? describeEnd(lastEnd) : phase;
}
