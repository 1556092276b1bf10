/**
 * The screen of `minikv top`: lines of text for a terminal of a given size. Pure.
 *
 * What is not known is a dash. Columns that do not fit are left out, the least important first; lines
 * that do not fit are counted in the last one. Text of others (addresses, errors) is shown without
 * anything that a terminal could take for a command.
 */
import { sizeText } from "#bin/size-text.ts";
import type { GatewayView, NodeView, TopView } from "./view.ts";

export const SORTS = ["node", "leaders", "reads", "writes", "latency", "lag"] as const;
export type Sort = (typeof SORTS)[number];

export type Style = "plain" | "title" | "bad";
export type Line = { readonly text: string; readonly style: Style };

export type ScreenOptions = {
  readonly columns: number;
  /** Undefined: as many as there are. */
  readonly rows: number | undefined;
  readonly sort: Sort;
  readonly intervalMs: number;
  /** For the first line, such as 12:00:01. */
  readonly time: string;
};

export const nextSort = (sort: Sort): Sort => SORTS[(SORTS.indexOf(sort) + 1) % SORTS.length]!;

export function screenOf(view: TopView, options: ScreenOptions): readonly Line[] {
  const { columns, rows, sort } = options;
  const lines = [
    ...headLines(view, options),
    plain(""),
    ...tableOf(GATEWAY_COLUMNS, view.gateways, columns, gatewayTrouble),
    plain(""),
    ...tableOf(NODE_COLUMNS, sorted(view.nodes, sort), columns, nodeTrouble),
  ];
  const cut = lines.map(({ text, style }) => ({ text: printable(text).slice(0, columns), style }));
  if (rows === undefined || cut.length <= rows) return cut;
  const shown = Math.max(0, rows - 1);
  return [...cut.slice(0, shown), plain(`${cut.length - shown} more lines`.slice(0, columns))];
}

const plain = (text: string): Line => ({ text, style: "plain" });

function headLines({ cluster, age_ms: ageMs, total }: TopView, options: ScreenOptions): Line[] {
  const { intervalMs, sort, time } = options;
  const ending = `${time}, every ${intervalMs / 1_000} s, by ${sort}`;
  if (cluster === null) {
    return [
      { text: `minikv top   ${ending}`, style: "title" },
      { text: "no gateway has told of the cluster yet", style: "bad" },
    ];
  }
  const isGood = cluster.answering === cluster.nodes && cluster.meta_leader !== null;
  const isWhole = cluster.without_leader === 0 && cluster.without_quorum === 0;
  return [
    { text: `minikv top   cluster ${cluster.id}   ${ending}`, style: "title" },
    {
      text:
        `nodes    ${cluster.answering} of ${cluster.nodes} answer, meta group led by ` +
        `${cluster.meta_leader ?? "nobody"}, map ${cluster.map_version}`,
      style: isGood ? "plain" : "bad",
    },
    {
      text:
        `vshards  ${cluster.vshards}, without leader ${countText(cluster.without_leader)}, ` +
        `without quorum ${cluster.without_quorum}, moving ${cluster.moves}, ` +
        `${countText(cluster.objects)} keys, ${sizeText(cluster.size_bytes, "-")}`,
      style: isWhole ? "plain" : "bad",
    },
    plain(
      `total    ${rateText(total.reads_per_second)} reads/s, ` +
        `${rateText(total.writes_per_second)} writes/s, ${rateText(total.scans_per_second)} scans/s, ` +
        `${rateText(total.failures_per_second)} failed/s, ${countText(total.watchers)} watchers`,
    ),
    ...(cluster.reason === null
      ? []
      : [{ text: `seen by a gateway alone: ${cluster.reason}`, style: "bad" as const }]),
    ...(ageMs === null || ageMs === 0
      ? []
      : [
          { text: `no gateway answers; nodes as ${secondsText(ageMs)} ago`, style: "bad" as const },
        ]),
  ];
}

type Column<T> = {
  readonly title: string;
  readonly textOf: (row: T) => string;
  /** Columns of the highest number are left out first; 0 stays. */
  readonly dropped: number;
  readonly isLeft?: boolean;
};

const GATEWAY_COLUMNS: readonly Column<GatewayView>[] = [
  { title: "GATEWAY", textOf: ({ url }) => url, dropped: 0, isLeft: true },
  { title: "REQ/S", textOf: (one) => rateText(one.requests_per_second), dropped: 0 },
  { title: "5XX/S", textOf: (one) => rateText(one.failures_per_second), dropped: 1 },
  { title: "P50", textOf: (one) => timeText(one.p50_ms), dropped: 4 },
  { title: "P99", textOf: (one) => timeText(one.p99_ms), dropped: 2 },
  { title: "UNDER WAY", textOf: (one) => countText(one.in_flight), dropped: 6 },
  { title: "CONNS", textOf: (one) => countText(one.connections), dropped: 7 },
  { title: "WATCHERS", textOf: (one) => countText(one.watchers), dropped: 3 },
  { title: "WATCH LAG", textOf: (one) => timeText(one.watch_lag_ms), dropped: 5 },
];

const gatewayTrouble = ({ error, silent_ms: silentMs }: GatewayView): string | undefined =>
  error === null ? undefined : `no answer for ${secondsText(silentMs ?? 0)}: ${error}`;

const NODE_COLUMNS: readonly Column<NodeView>[] = [
  { title: "NODE", textOf: ({ id }) => String(id), dropped: 0 },
  { title: "ADDRESS", textOf: ({ address }) => address || "-", dropped: 9, isLeft: true },
  { title: "STATE", textOf: stateText, dropped: 1, isLeft: true },
  { title: "LEADS", textOf: ({ leaders }) => countText(leaders), dropped: 0 },
  { title: "HOLDS", textOf: ({ replicas }) => countText(replicas), dropped: 10 },
  { title: "READS/S", textOf: (one) => rateText(one.reads_per_second), dropped: 0 },
  { title: "WRITES/S", textOf: (one) => rateText(one.writes_per_second), dropped: 0 },
  { title: "SCANS/S", textOf: (one) => rateText(one.scans_per_second), dropped: 8 },
  { title: "FAILED/S", textOf: (one) => rateText(one.failures_per_second), dropped: 5 },
  { title: "READ P50", textOf: (one) => timeText(one.read_p50_ms), dropped: 12 },
  { title: "READ P99", textOf: (one) => timeText(one.read_p99_ms), dropped: 4 },
  { title: "WRITE P50", textOf: (one) => timeText(one.write_p50_ms), dropped: 11 },
  { title: "WRITE P99", textOf: (one) => timeText(one.write_p99_ms), dropped: 2 },
  { title: "SYNC P99", textOf: (one) => timeText(one.sync_p99_ms), dropped: 3 },
  { title: "UNAPPLIED", textOf: (one) => countText(one.apply_lag_entries), dropped: 7 },
  { title: "LAG", textOf: (one) => countText(one.lag_entries), dropped: 2 },
  { title: "USED", textOf: (one) => sizeText(one.used_bytes, "-"), dropped: 6 },
];

function stateText({ state, answering, writable }: NodeView): string {
  if (!answering) return `${state}, SILENT`;
  return writable === false ? `${state}, FULL` : state;
}

const nodeTrouble = ({ answering, writable }: NodeView): string | undefined =>
  answering && writable !== false ? undefined : "";

/** A row in trouble is marked, and says what it says behind its own cells. */
function tableOf<T>(
  all: readonly Column<T>[],
  rows: readonly T[],
  width: number,
  troubleOf: (row: T) => string | undefined,
): readonly Line[] {
  const cells = all.map(({ title, textOf }) => [title, ...rows.map(textOf)]);
  const widths = cells.map((column) => Math.max(...column.map(({ length }) => length)));
  const kept = keptColumns(all, widths, width);
  const lineOf = (row: number): string =>
    kept
      .map((at) =>
        all[at]!.isLeft === true
          ? cells[at]![row]!.padEnd(widths[at]!)
          : cells[at]![row]!.padStart(widths[at]!),
      )
      .join("  ")
      .trimEnd();
  return [
    { text: lineOf(0), style: "title" },
    ...rows.map((row, index): Line => {
      const trouble = troubleOf(row);
      if (trouble === undefined) return plain(lineOf(index + 1));
      const text = trouble === "" ? lineOf(index + 1) : `${cells[0]![index + 1]}  ${trouble}`;
      return { text, style: "bad" };
    }),
  ];
}

/** Indexes of the columns that fit. */
function keptColumns<T>(
  all: readonly Column<T>[],
  widths: readonly number[],
  width: number,
): readonly number[] {
  const kept = all.map((_, at) => at);
  const total = () => kept.reduce((sum, at) => sum + widths[at]! + 2, -2);
  while (total() > width) {
    const worst = kept.reduce((one, at) => (all[at]!.dropped > all[one]!.dropped ? at : one));
    if (all[worst]!.dropped === 0) break;
    kept.splice(kept.indexOf(worst), 1);
  }
  return kept;
}

const SORT_BY: Readonly<Record<Exclude<Sort, "node">, (node: NodeView) => number | null>> = {
  leaders: ({ leaders }) => leaders,
  reads: (one) => one.reads_per_second,
  writes: (one) => one.writes_per_second,
  latency: (one) => one.write_p99_ms,
  lag: (one) => one.lag_entries,
};

/** The largest first; what is not known last, and nodes of the same by their ids. */
function sorted(nodes: readonly NodeView[], sort: Sort): readonly NodeView[] {
  const byId = nodes.toSorted((a, b) => a.id - b.id);
  if (sort === "node") return byId;
  const rankOf = (node: NodeView): number => SORT_BY[sort](node) ?? Number.NEGATIVE_INFINITY;
  return byId.sort((a, b) => {
    const [one, other] = [rankOf(a), rankOf(b)];
    return one === other ? 0 : other - one;
  });
}

/** Control characters of a terminal begin outside of these. */
const printable = (text: string): string => text.replaceAll(/[^ -~]/g, "?");

const countText = (count: number | null): string =>
  count === null ? "-" : count.toLocaleString("en-US");

function rateText(perSecond: number | null): string {
  if (perSecond === null) return "-";
  if (perSecond > 0 && perSecond < 10) return perSecond.toFixed(1);
  return Math.round(perSecond).toLocaleString("en-US");
}

function timeText(ms: number | null): string {
  if (ms === null) return "-";
  if (ms >= 1_000) return `${(ms / 1_000).toFixed(1)} s`;
  return `${ms.toFixed(ms < 10 ? 2 : 0)} ms`;
}

const secondsText = (ms: number): string => `${Math.round(ms / 1_000)} s`;
