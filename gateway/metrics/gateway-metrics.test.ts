import { expect, it } from "vitest";
import { HttpFigures } from "#gateway/http/http-figures.ts";
import { TenantFigures } from "#gateway/limits/tenant-figures.ts";
import { CallFigures } from "#gateway/storage/call-figures.ts";
import type { StoredValue } from "#gateway/storage/storage.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { FakeClient, openTestHub, query } from "#gateway/watch/testing.ts";
import { GATEWAY_METRICS } from "./catalogue.ts";
import { type GatewayFigures, readGatewayMetrics } from "./gateway-metrics.ts";
import { TenantMetrics } from "./tenant-metrics.ts";

function figuresOf(watches: GatewayFigures["edge"]["watches"]): GatewayFigures {
  const tenants = {
    ...{ get: () => undefined, byName: () => undefined, list: () => [] },
    subscribe: () => () => undefined,
  };
  const edge: GatewayFigures["edge"] = {
    refusals: { counts: new Map() },
    remembered: () => 0,
    ...{ tenants, requests: new TenantFigures(), directory: new MemoryDirectory(), watches },
    audit: { written: 0, writeFailures: 0, lost: 0 },
    jobs: { running: () => new Map() },
    bus: undefined,
  };
  return {
    http: new HttpFigures(),
    storage: { figures: new CallFigures(), channels: () => [] },
    cluster: { map: () => undefined },
    edge,
    ofTenants: new TenantMetrics(edge),
  };
}

it("tells how many bytes of events wait for a value", async () => {
  const value = Promise.withResolvers<StoredValue | undefined>();
  const { open, history, live, hub, advance } = openTestHub({ get: () => value.promise });
  const heldBytes = () =>
    readGatewayMetrics(figuresOf(() => hub.figures()))
      .find(({ name }) => name === GATEWAY_METRICS.watchHeldBytes.name)
      ?.samples.map((sample) => sample.value);
  await open(query({ values: true }), new FakeClient());
  expect(heldBytes()).toEqual([0]);
  const { vshard, record } = history.write({ key: "k", value: "large" });
  live.listener!.onBatch({
    ...history.batch(vshard, record.revision - 1, record.revision),
    changes: [{ ...record, value: undefined }],
  });
  const { heldBytes: held } = hub.figures();
  expect(held).toBeGreaterThan(0);
  expect(heldBytes()).toEqual([held]);
  value.resolve(history.get(record));
  await advance(100);
  expect(heldBytes()).toEqual([0]);
});
