/**
 * Dashboards as they are written here, and the JSON that Grafana (10 and newer) takes. Pure.
 *
 * A dashboard is rows of panels, a panel is a title, a unit and queries; where each lies, its id and
 * all that is the same everywhere follows from that.
 */

export type Query = {
  readonly expr: string;
  /** With `{{label}}`; of a table unused. */
  readonly legend: string;
};

/** Units by Grafana's names. */
export type Unit =
  | "short"
  | "s"
  | "bytes"
  | "Bps"
  | "reqps"
  | "ops"
  | "percentunit"
  | "bool_yes_no";

export type Panel = {
  readonly kind: "timeseries" | "stat" | "table";
  readonly title: string;
  /** What one sees and when it is bad, where the title does not say it. */
  readonly description?: string;
  readonly unit: Unit;
  readonly queries: readonly Query[];
  readonly isStacked?: boolean;
  /** From here on it is shown in red; a stat that must not exceed it. */
  readonly redFrom?: number;
  /** Below this it is shown in red. */
  readonly redBelow?: number;
};

export type Row = { readonly title: string; readonly panels: readonly Panel[] };

export type VariableName = "cluster" | "instance" | "tenant";

export type Dashboard = {
  /** Of the file, and with `minikv-` in front of the dashboard in Grafana. */
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly variables: readonly VariableName[];
  readonly rows: readonly Row[];
};

/** What a query has to choose by: the cluster and instances that are selected at the top. */
export const HERE = 'cluster=~"$cluster", instance=~"$instance"';

/** Per second, over what Grafana deems right for the scrape interval. */
export const rate = (metric: string, labels = HERE): string =>
  `rate(${metric}{${labels}}[$__rate_interval])`;

/** A quantile of a histogram, for each value of the labels `by`. */
export function quantile(
  q: number,
  histogram: string,
  by: readonly string[],
  labels = HERE,
): string {
  const grouping = [...by, "le"].join(", ");
  return `histogram_quantile(${q}, sum by (${grouping}) (${rate(`${histogram}_bucket`, labels)}))`;
}

/** Median and p99 of a histogram in one panel. */
export const quantiles = (histogram: string, labels = HERE): readonly Query[] => [
  { expr: quantile(0.5, histogram, [], labels), legend: "p50" },
  { expr: quantile(0.99, histogram, [], labels), legend: "p99" },
];

export const timeseries = (
  title: string,
  unit: Unit,
  queries: readonly Query[],
  more: Partial<Panel> = {},
): Panel => ({ kind: "timeseries", title, unit, queries, ...more });

export const stat = (
  title: string,
  unit: Unit,
  expr: string,
  more: Partial<Panel> = {},
): Panel => ({ kind: "stat", title, unit, queries: [{ expr, legend: title }], ...more });

export const table = (title: string, expr: string, more: Partial<Panel> = {}): Panel => ({
  kind: "table",
  title,
  unit: "short",
  queries: [{ expr, legend: "" }],
  ...more,
});
