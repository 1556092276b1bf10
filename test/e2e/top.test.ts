/** `minikv top` as a program, in front of the all-in-one. */
import { expect, it } from "vitest";
import type { TopView } from "#bin/top/view.ts";
import { spawnMinikv, startAllInOne } from "./harness.ts";
import { workOn } from "./traffic.ts";

it("minikv top --once --json shows what the all-in-one does", async () => {
  const { url } = await startAllInOne();
  const work = workOn(url);
  const top = spawnMinikv(["top", "--url", url, "--once", "--json", "--timeout", "20s"]);
  const { code } = await top.waitForExit();
  await work.end();
  expect([code, top.stderr]).toEqual([0, ""]);
  const { cluster, total, gateways, nodes } = JSON.parse(top.stdout) as TopView;
  expect(cluster).toMatchObject({ source: "meta_leader", without_leader: 0, vshards: 256 });
  expect(total.reads_per_second).toBeGreaterThan(0);
  expect(total.writes_per_second).toBeGreaterThan(0);
  expect(gateways).toMatchObject([{ url, answering: true, error: null }]);
  expect(gateways[0]!.requests_per_second).toBeGreaterThan(0);
  expect(nodes).toMatchObject([{ answering: true, writable: true, leaders: 257 }]);
  expect(nodes[0]!.write_p99_ms).toBeGreaterThan(0);
  expect(nodes[0]!.sync_p99_ms).toBeGreaterThan(0);
});
