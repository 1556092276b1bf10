/** A dashboard as the JSON that Grafana takes. Pure: the same source gives the same bytes. */
import type { Dashboard, Panel, Query, VariableName } from "./panel.ts";

/** Of Grafana 10.3; later ones bring it up to their own by themselves. */
const SCHEMA_VERSION = 39;
const COLUMNS = 24;
const DATASOURCE = { type: "prometheus", uid: "$datasource" };
const REF_IDS = "ABCDEFGH";

const SIZES: Readonly<Record<Panel["kind"], { readonly w: number; readonly h: number }>> = {
  stat: { w: 4, h: 4 },
  timeseries: { w: 8, h: 8 },
  table: { w: 24, h: 8 },
};

export const fileText = (dashboard: Dashboard): string =>
  `${JSON.stringify(dashboardJson(dashboard), null, 2)}\n`;

export function dashboardJson({ name, title, description, variables, rows }: Dashboard) {
  const panels: object[] = [];
  let y = 0;
  for (const row of rows) {
    panels.push(rowJson(row.title, panels.length + 1, y++));
    let x = 0;
    let height = 0;
    for (const panel of row.panels) {
      const { w, h } = SIZES[panel.kind];
      if (x + w > COLUMNS) {
        x = 0;
        y += height;
        height = 0;
      }
      panels.push(panelJson(panel, panels.length + 1, { x, y, w, h }));
      x += w;
      height = Math.max(height, h);
    }
    y += height;
  }
  return {
    uid: `minikv-${name}`,
    title,
    description,
    tags: ["minikv"],
    schemaVersion: SCHEMA_VERSION,
    version: 1,
    editable: true,
    graphTooltip: 1,
    refresh: "30s",
    time: { from: "now-1h", to: "now" },
    timezone: "",
    annotations: { list: [alertsShown] },
    links: [dashboardLinks],
    templating: { list: [datasourceVariable, ...variables.map((one) => VARIABLES[one])] },
    panels,
  };
}

/** Where an alert fires, in every panel. */
const alertsShown = {
  name: "Alerts",
  datasource: DATASOURCE,
  enable: true,
  iconColor: "red",
  expr: 'ALERTS{alertname=~"Minikv.+", alertstate="firing", cluster=~"$cluster"}',
  titleFormat: "{{alertname}}",
  textFormat: "{{instance}}",
  step: "60s",
};

const dashboardLinks = {
  type: "dashboards",
  title: "minikv",
  tags: ["minikv"],
  asDropdown: true,
  includeVars: true,
  keepTime: true,
  targetBlank: false,
};

const datasourceVariable = {
  name: "datasource",
  label: "Prometheus",
  type: "datasource",
  query: "prometheus",
  current: {},
  hide: 0,
  includeAll: false,
  multi: false,
  options: [],
  refresh: 1,
  regex: "",
};

function variable(name: VariableName, label: string, query: string) {
  return {
    name,
    label,
    type: "query",
    datasource: DATASOURCE,
    definition: query,
    query: { qryType: 1, query, refId: `${name}-values` },
    // `.*` and not the list: it also matches where there is no such label.
    allValue: ".*",
    current: { selected: true, text: ["All"], value: ["$__all"] },
    hide: 0,
    includeAll: true,
    multi: true,
    options: [],
    refresh: 2,
    regex: "",
    sort: 1,
  };
}

const VARIABLES: Readonly<Record<VariableName, object>> = {
  cluster: variable("cluster", "Cluster", "label_values(minikv_build_info, cluster)"),
  instance: variable(
    "instance",
    "Instance",
    'label_values(minikv_build_info{cluster=~"$cluster"}, instance)',
  ),
  tenant: variable(
    "tenant",
    "Tenant",
    'label_values(minikv_gateway_tenant_requests_total{cluster=~"$cluster"}, tenant)',
  ),
};

const rowJson = (title: string, id: number, y: number) => ({
  id,
  type: "row",
  title,
  collapsed: false,
  gridPos: { x: 0, y, w: COLUMNS, h: 1 },
  panels: [],
});

type Place = { readonly x: number; readonly y: number; readonly w: number; readonly h: number };

function panelJson(panel: Panel, id: number, gridPos: Place) {
  return {
    id,
    type: panel.kind,
    title: panel.title,
    ...(panel.description === undefined ? {} : { description: panel.description }),
    gridPos,
    datasource: DATASOURCE,
    targets: panel.queries.map((query, index) => targetJson(panel, query, REF_IDS[index]!)),
    fieldConfig: { defaults: fieldDefaults(panel), overrides: [] },
    options: OPTIONS[panel.kind],
    ...(panel.kind === "table" ? { transformations: TABLE_TRANSFORMATIONS } : {}),
  };
}

const targetJson = ({ kind }: Panel, { expr, legend }: Query, refId: string) => ({
  refId,
  datasource: DATASOURCE,
  editorMode: "code",
  expr,
  ...(kind === "timeseries" ? { range: true, instant: false } : { range: false, instant: true }),
  ...(kind === "table" ? { format: "table" } : { legendFormat: legend }),
});

function fieldDefaults(panel: Panel) {
  const { kind, unit, isStacked = false } = panel;
  const common = { unit, thresholds: { mode: "absolute", steps: thresholdSteps(panel) } };
  if (kind !== "timeseries") return { ...common, color: { mode: "thresholds" }, mappings: [] };
  return {
    ...common,
    color: { mode: "palette-classic" },
    min: 0,
    custom: {
      drawStyle: "line",
      fillOpacity: isStacked ? 20 : 5,
      lineWidth: 1,
      showPoints: "never",
      spanNulls: false,
      stacking: { group: "A", mode: isStacked ? "normal" : "none" },
      thresholdsStyle: { mode: panel.redFrom === undefined ? "off" : "line" },
    },
  };
}

function thresholdSteps({ kind, redFrom, redBelow }: Panel) {
  if (redBelow !== undefined) {
    return [
      { color: "red", value: null },
      { color: "green", value: redBelow },
    ];
  }
  const base = { color: kind === "table" ? "text" : "green", value: null };
  return redFrom === undefined ? [base] : [base, { color: "red", value: redFrom }];
}

const OPTIONS: Readonly<Record<Panel["kind"], object>> = {
  timeseries: {
    legend: {
      displayMode: "table",
      placement: "bottom",
      showLegend: true,
      calcs: ["lastNotNull", "max"],
    },
    tooltip: { mode: "multi", sort: "desc" },
  },
  stat: {
    colorMode: "value",
    graphMode: "none",
    justifyMode: "auto",
    orientation: "auto",
    reduceOptions: { calcs: ["lastNotNull"], fields: "", values: false },
    textMode: "auto",
  },
  table: { cellHeight: "sm", showHeader: true },
};

/** Without the columns that say nothing. */
const TABLE_TRANSFORMATIONS = [
  {
    id: "organize",
    options: {
      excludeByName: { Time: true, __name__: true, job: true },
      indexByName: {},
      renameByName: {},
    },
  },
];
