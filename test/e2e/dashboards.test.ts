/**
 * Every query of the dashboards and of the alerts, run against a real Prometheus that scrapes a cluster at
 * work: it must be valid, name metrics that there are, and have figures where such a cluster has some.
 */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { findFreePorts } from "#bin/dev-cluster/ports.ts";
import { systemRandom } from "#shared/random.ts";
import { CATALOGUE } from "#test/infra/catalogue.ts";
import { ROOT } from "#test/processes/minikv.ts";
import { NatsServer } from "#test/processes/nats-server.ts";
import { findProgram, skippedWithout } from "#test/processes/programs.ts";
import { type Cluster, startCluster } from "./cluster-harness.ts";
import { dashboardQueries, type MayBeEmpty, QueryCheck, ruleQueries } from "./dashboard-queries.ts";
import { Prometheus } from "./prometheus.ts";
import { topAtWork } from "./top-at-work.ts";
import { type Work, workOn } from "./traffic.ts";

const NODES = 3;
const TENANT = "shop";
/** A rate needs two scrapes; and the rules have to have been evaluated. */
const SCRAPES_MIN = 4;
const SCRAPES_TIMEOUT_MS = 90_000;

const HAS_NATS = findProgram("nats-server") !== undefined;
const WITHOUT_BUS: MayBeEmpty = Object.fromEntries(
  [...CATALOGUE.keys()]
    .filter((name) => /_bus_/.test(name))
    .map((name) => [name, "nats-server is not installed"]),
);

const MAY_BE_EMPTY: MayBeEmpty = {
  ...(HAS_NATS ? {} : WITHOUT_BUS),
  minikv_tls_certificate_expiry_timestamp_seconds: "the cluster speaks no TLS",
  minikv_gateway_storage_retries_total: "calls are sent again only when something fails",
  minikv_gateway_auth_failures_total: "authentication is off",
  minikv_gateway_jobs_running: "nothing has to be done in the background",
  "gateway: Failures by route": "nothing fails",
  "gateway: Operations that failed": "nothing fails",
  "storage: Operations that failed": "nothing fails",
};

let nats: NatsServer | undefined;
let cluster: Cluster;
const watching = new AbortController();
let httpAddresses: readonly string[];
let work: readonly Work[] = [];

beforeAll(async () => {
  if (HAS_NATS) nats = await NatsServer.start();
  const bus = nats === undefined ? [] : ["--nats-url", nats.url];
  const ports = await findFreePorts({ host: "127.0.0.1", count: NODES, random: systemRandom() });
  httpAddresses = ports.map((port) => `127.0.0.1:${port}`);
  cluster = await startCluster({
    nodes: NODES,
    gateways: 2,
    nodeArgs: (index) => ["--http-listen", httpAddresses[index]!, ...bus],
    gatewayArgs: bus,
  });
  const quotas = { bytes: 1_000_000, objects: 10_000, requests_per_second: 10_000 };
  const answer = await fetch(`${cluster.url}/admin/tenants`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ name: TENANT, quotas }),
  });
  expect([answer.status, await answer.text()]).toEqual([201, expect.any(String)]);
  for (const { url } of cluster.gateways) await watch(url);
  work = cluster.gateways.flatMap(({ url }) => [workOn(url), workOn(url, TENANT)]);
}, 180_000);

afterAll(async () => {
  watching.abort();
  await Promise.all(work.map((one) => one.end()));
  await cluster?.close();
  await nats?.close();
});

/** Resolves when the watch has begun; it goes on until the end. */
async function watch(url: string): Promise<void> {
  const { signal } = watching;
  const answer = await fetch(`${url}/v1/watch?prefix=traffic/`, { signal });
  expect(answer.status).toBe(200);
  void (async () => {
    for await (const _ of answer.body!);
  })().catch(() => {});
}

describe("minikv top --once --json", () => {
  it("shows what every gateway and every node of a cluster does", async () => {
    const urls = cluster.gateways.map(({ url }) => url);
    const args = ["--url", urls.join(), "--once", "--json", "--interval", "2s", "--timeout", "20s"];
    const { cluster: seen, total, gateways, nodes } = await topAtWork(args);
    expect(seen).toMatchObject({ source: "meta_leader", answering: NODES, vshards: 256 });
    expect(total.watchers).toBe(urls.length);
    expect(gateways.map(({ url, answering }) => [url, answering])).toEqual(
      urls.map((url) => [url, true]),
    );
    expect(nodes.length).toBe(NODES);
    for (const node of nodes) {
      expect(node).toMatchObject({ answering: true, writable: true });
    }
    expect(nodes.reduce((sum, { leaders }) => sum + (leaders ?? 0), 0)).toBe(257);
  });
});

const HAS_PROMETHEUS = findProgram("prometheus") !== undefined;

describe.skipIf(!HAS_PROMETHEUS)(`Prometheus${skippedWithout("prometheus")}`, () => {
  it("finds figures for every query of dashboards and alerts", async () => {
    const directory = mkdtempSync(join(tmpdir(), "minikv-prometheus-"));
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
    const rules = join(ROOT, "infra", "prometheus", "rules");
    const prometheus = await Prometheus.start(
      directory,
      [
        { job: "minikv-gateway", targets: cluster.gateways.map(({ address }) => address) },
        { job: "minikv-node", targets: httpAddresses },
      ],
      readdirSync(rules).map((name) => join(rules, name)),
    );
    onTestFinished(() => prometheus.close());
    await untilScraped(prometheus);
    const check = await QueryCheck.open(prometheus, MAY_BE_EMPTY);
    const queries = dashboardQueries();
    const problems = await Promise.all([
      ...queries.map((query) => check.ofDashboard(query)),
      ...(await ruleQueries(prometheus)).map((query) => check.ofRule(query)),
    ]);
    expect(problems.filter((problem) => problem !== undefined)).toEqual([]);
    expect(check.unknownExceptions(queries)).toEqual([]);
    const unhealthy = (await prometheus.rules()).filter(({ health }) => health !== "ok");
    expect(unhealthy).toEqual([]);
  });
});

async function untilScraped(prometheus: Prometheus): Promise<void> {
  const untilMs = performance.now() + SCRAPES_TIMEOUT_MS;
  const targets = NODES + cluster.gateways.length;
  const scraped = `count(sum_over_time(up[1m]) >= ${SCRAPES_MIN})`;
  while (performance.now() < untilMs) {
    const [sample] = await prometheus.query(scraped);
    const evaluated = (await prometheus.rules()).every(({ health }) => health !== "unknown");
    if (Number(sample?.value[1]) === targets && evaluated) return;
    await sleep(200);
  }
  throw new Error(`not all targets were scraped: ${(await prometheus.broken()).join("; ")}`);
}
