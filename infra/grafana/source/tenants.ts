/** Who uses how much: requests, limits, storage and quotas of tenants. */
import { type Dashboard, HERE, type Query, rate, table, timeseries } from "./panel.ts";

const OWN = `tenant=~"$tenant", ${HERE}`;

/** All gateways know the same of what is stored; the one that has heard most counts. */
const stored = (metric: string): string => `max by (tenant) (${metric}{${OWN}})`;
const byTenant = (expr: string): readonly Query[] => [{ expr, legend: "{{tenant}}" }];

const partOfQuota = (what: "bytes" | "objects"): string =>
  `${stored(`minikv_gateway_tenant_stored_${what}`)}
  / (${stored(`minikv_gateway_tenant_quota_${what}`)} > 0)`;

export const tenants: Dashboard = {
  name: "tenants",
  title: "minikv / Tenants",
  description: "The 100 tenants with most use; the others together are _other.",
  variables: ["cluster", "instance", "tenant"],
  rows: [
    {
      title: "Requests",
      panels: [
        timeseries(
          "Requests",
          "reqps",
          byTenant(`sum by (tenant) (${rate("minikv_gateway_tenant_requests_total", OWN)})`),
          { isStacked: true },
        ),
        timeseries("Requests by outcome", "reqps", [
          {
            expr: `sum by (tenant, outcome) (${rate("minikv_gateway_tenant_requests_total", OWN)})`,
            legend: "{{tenant}} {{outcome}}",
          },
        ]),
        timeseries(
          "Refused over a rate",
          "reqps",
          byTenant(`sum by (tenant) (${rate("minikv_gateway_tenant_rate_limited_total", OWN)})`),
        ),
      ],
    },
    {
      title: "Storage",
      panels: [
        timeseries("Stored", "bytes", byTenant(stored("minikv_gateway_tenant_stored_bytes")), {
          isStacked: true,
        }),
        timeseries("Keys", "short", byTenant(stored("minikv_gateway_tenant_stored_objects")), {
          isStacked: true,
        }),
        timeseries(
          "Part of the quota that is used",
          "percentunit",
          [
            { expr: partOfQuota("bytes"), legend: "bytes of {{tenant}}" },
            { expr: partOfQuota("objects"), legend: "keys of {{tenant}}" },
          ],
          { redFrom: 0.9 },
        ),
        table("Largest", `topk(20, ${stored("minikv_gateway_tenant_stored_bytes")})`, {
          unit: "bytes",
        }),
      ],
    },
  ],
};
