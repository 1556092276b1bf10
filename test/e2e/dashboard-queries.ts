/** Every query of dashboards and rules, and what is wrong with it on a given Prometheus. */
import { DASHBOARDS } from "#infra/grafana/source/dashboards.ts";
import { CATALOGUE } from "#test/infra/catalogue.ts";
import type { Prometheus, Sample } from "./prometheus.ts";

export type NamedQuery = { readonly name: string; readonly expr: string };
export type DashboardQuery = NamedQuery & { readonly legend: string };

/** Metrics, or names of queries, that may have no figures in the cluster of a test, and why. */
export type MayBeEmpty = Readonly<Record<string, string>>;

/** Those of Prometheus itself. */
const OWN_NAMES = new Set(["up", "ALERTS"]);

/** With everything selected at the top, and rates over the last scrapes. */
const filledIn = (expr: string): string =>
  expr.replaceAll("$__rate_interval", "5s").replaceAll(/\$(cluster|instance|tenant)/g, ".*");

export const dashboardQueries = (): readonly DashboardQuery[] =>
  DASHBOARDS.flatMap(({ name, rows }) =>
    rows.flatMap(({ panels }) =>
      panels.flatMap(({ title, queries }) =>
        queries.map(({ expr, legend }) => ({
          name: `${name}: ${title}`,
          expr: filledIn(expr),
          legend,
        })),
      ),
    ),
  );

export const ruleQueries = async (prometheus: Prometheus): Promise<readonly NamedQuery[]> =>
  (await prometheus.rules()).map(({ name, query }) => ({ name, expr: query }));

/** Names of metrics in a query: words that are followed by neither a bracket nor within one. */
export function metricNames(expr: string): readonly string[] {
  const bare = expr
    .replaceAll(/"[^"]*"/g, "")
    .replaceAll(/\{[^}]*\}/g, "")
    .replaceAll(/\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, "")
    .replaceAll(/\[[^\]]*\]/g, "");
  const words = bare.matchAll(/[a-zA-Z_:][\w:]*(?=\s*(.?))/g);
  const names = [...words].filter(([, next]) => next !== "(").map(([word]) => word);
  return [...new Set(names.filter((name) => !/^(and|or|unless|bool|by|offset)$/.test(name)))];
}

/**
 * The family of a series, as Prometheus names it: a histogram has three series, and a counter's name
 * ends in _total or not, as the format of the scrape has it.
 */
const familyOf = (name: string, families: ReadonlySet<string>): string =>
  families.has(name) ? name : name.replace(/_(?:bucket|sum|count|total)$/, "");

const isNumber = ({ value: [, text] }: Sample): boolean => text !== "NaN";

export class QueryCheck {
  readonly #prometheus: Prometheus;
  readonly #families: ReadonlySet<string>;
  readonly #recorded: ReadonlySet<string>;
  readonly #mayBeEmpty: MayBeEmpty;

  private constructor(
    prometheus: Prometheus,
    families: ReadonlySet<string>,
    recorded: ReadonlySet<string>,
    mayBeEmpty: MayBeEmpty,
  ) {
    this.#prometheus = prometheus;
    this.#families = families;
    this.#recorded = recorded;
    this.#mayBeEmpty = mayBeEmpty;
  }

  static async open(prometheus: Prometheus, mayBeEmpty: MayBeEmpty): Promise<QueryCheck> {
    const recorded = (await prometheus.rules()).filter(({ type }) => type === "recording");
    const names = new Set(recorded.map(({ name }) => name));
    return new QueryCheck(prometheus, await prometheus.families(), names, mayBeEmpty);
  }

  /** What is wrong with a query that has to have figures; undefined when nothing is. */
  async ofDashboard({ name, expr }: NamedQuery): Promise<string | undefined> {
    const metrics = metricNames(expr);
    const isExcused = [name, ...metrics].some((one) => this.#mayEmpty(one));
    const looks = isExcused ? [] : [expr];
    return this.#problem({ name, expr }, metrics, looks);
  }

  /** An alert that does not fire has no figures: its metrics have to have some. */
  async ofRule({ name, expr }: NamedQuery): Promise<string | undefined> {
    const metrics = metricNames(expr);
    const looks = metrics.filter((one) => !this.#mayEmpty(one));
    return this.#problem({ name, expr }, metrics, looks);
  }

  /** Exceptions of what there is not. */
  unknownExceptions(queries: readonly NamedQuery[]): readonly string[] {
    const names = new Set(queries.map(({ name }) => name));
    return Object.keys(this.#mayBeEmpty).filter((one) => !names.has(one) && !this.#isKnown(one));
  }

  #mayEmpty(metric: string): boolean {
    return metric in this.#mayBeEmpty || metric.replace(/_bucket$/, "") in this.#mayBeEmpty;
  }

  #isKnown(metric: string): boolean {
    if (OWN_NAMES.has(metric) || this.#recorded.has(metric)) return true;
    if (this.#families.has(familyOf(metric, this.#families))) return true;
    // Targets do not even name it as long as there is none.
    return this.#mayEmpty(metric) && CATALOGUE.get(metric)?.optional === true;
  }

  async #problem(
    { name, expr }: NamedQuery,
    metrics: readonly string[],
    looks: readonly string[],
  ): Promise<string | undefined> {
    const unknown = metrics.filter((one) => !this.#isKnown(one));
    if (unknown.length > 0) return `${name}: unknown ${unknown.join(", ")}`;
    try {
      await this.#prometheus.query(expr);
      for (const look of looks) {
        const samples = await this.#prometheus.query(look);
        if (!samples.some(isNumber)) return `${name}: no figure of ${look}`;
      }
    } catch (error) {
      return `${name}: ${error instanceof Error ? error.message : String(error)}: ${expr}`;
    }
    return undefined;
  }
}
