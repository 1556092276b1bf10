/** The report on planted bugs, for docs/simulation.md. */
import type { Finding } from "./runner.ts";

export function markdownTable(
  findings: readonly Finding[],
  bugs: ReadonlyMap<number, string>,
): string {
  const lines = [
    "| Bug | Planted as | Simulator | Broken rule | Seeds | Events | Seconds |",
    "|---|---|---|---|---|---|---|",
  ];
  let last = 0;
  for (const finding of findings) {
    const { bug, mutation, simulation, rule, open, seeds, events, seconds } = finding;
    const title = bug === last ? "" : `${bug}: ${bugs.get(bug)}`;
    last = bug;
    const found =
      rule === undefined
        ? [open === undefined ? "**not found**" : "**open**", `> ${seeds}`]
        : [rule, `${seeds}`];
    const name = mutation.replace(/^\d+ /, "");
    const cells = [title, name, simulation, ...found, events, seconds.toFixed(1)];
    lines.push(`| ${cells.join(" | ")} |`);
  }
  return lines.join("\n");
}
