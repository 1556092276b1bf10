/** `minikv top` as a program, in front of the all-in-one. */
import { expect, it } from "vitest";
import { startAllInOne } from "./harness.ts";
import { topAtWork } from "./top-at-work.ts";
import { workOn } from "./traffic.ts";

it("minikv top --once --json shows what the all-in-one does", async () => {
  const { url } = await startAllInOne();
  const work = workOn(url);
  const args = ["--url", url, "--once", "--json", "--timeout", "20s"];
  const { cluster, gateways, nodes } = await topAtWork(args);
  await work.end();
  expect(cluster).toMatchObject({ source: "meta_leader", without_leader: 0, vshards: 256 });
  expect(gateways).toMatchObject([{ url, answering: true, error: null }]);
  expect(nodes).toMatchObject([{ answering: true, writable: true, leaders: 257 }]);
  expect(nodes[0]!.write_p99_ms).toBeGreaterThan(0);
});
