/** Programs with a bus: what they publish, and that they do without it as if it were not there. */
import { connect } from "@nats-io/transport-node";
import { expect, it, onTestFinished } from "vitest";
import { decodeChangeBatch, decodeChangeHeads } from "#proto/codec/change-batch.ts";
import type { NatsServer } from "#test/processes/nats-server.ts";
import { findProgram, skippedWithout } from "#test/processes/programs.ts";
import { startNats } from "./bus-fixture.ts";
import { describeEachDeployment } from "./harness.ts";

const eventually = { timeout: 20_000, interval: 20 };

/** What everybody sees who may listen to everything. */
async function listen(nats: NatsServer) {
  const connection = await connect({ servers: [nats.address] });
  onTestFinished(() => connection.close());
  const changes: { readonly key: string; readonly value: string | undefined }[] = [];
  let head = 0;
  connection.subscribe("minikv.*.changes.*", {
    callback: (_, { data }) => {
      for (const { key, value } of decodeChangeBatch(data).changes) {
        changes.push({
          key: Buffer.from(key).toString(),
          value: value && Buffer.from(value.value).toString(),
        });
      }
    },
  });
  connection.subscribe("minikv.*.heads", {
    callback: (_, { data }) => {
      head = Math.max(head, ...decodeChangeHeads(data).heads.map(({ revision }) => revision));
    },
  });
  await connection.flush();
  return { changes, head: () => head };
}

async function put(url: string, key: string, value: string): Promise<void> {
  const answer = await fetch(`${url}/v1/kv/${key}`, { method: "PUT", body: value });
  expect(answer.ok).toBe(true);
  await answer.arrayBuffer();
}

/** So many writes that some wait for nobody else. */
const putMany = (url: string, prefix: string, count: number, value: string) =>
  Promise.all(Array.from({ length: count }, (_, at) => put(url, `${prefix}-${at}`, value)));

if (findProgram("nats-server") === undefined) {
  it.skip(`programs with a bus${skippedWithout("nats-server")}`, () => {});
} else {
  describeEachDeployment("with a bus", (start) => {
    it("changes are published, and writes, stops and starts do not depend on it", async () => {
      const nats = await startNats();
      const args = ["--nats-url", nats.url];
      const deployment = await start({ args, gatewayArgs: ["--compress-above", "0"] });
      const { url } = deployment;
      const connected = /"msg":"connected to the bus"/;
      await expect.poll(() => deployment.logs(), eventually).toMatch(connected);
      const heard = await listen(nats);
      await put(url, "a", "small");
      await put(url, "b", "x".repeat(5_000));
      await expect
        .poll(() => heard.changes, eventually)
        .toEqual([
          { key: "a", value: "small" },
          // Too large to travel along.
          { key: "b", value: undefined },
        ]);
      await expect.poll(heard.head, eventually).toBeGreaterThan(0);

      nats.pause();
      await putMany(url, "paused", 200, "y".repeat(4_000));
      nats.resume();
      await nats.kill9();
      await putMany(url, "killed", 20, "z");
      expect(await deployment.stop()).toBe(0);
      // Killed for good: a start does not wait for it.
      await deployment.restart();
      await putMany(url, "without", 20, "z");
      const read = await fetch(`${url}/v1/kv/paused-199`);
      expect((await read.text()).length).toBe(4_000);

      await nats.restart();
      const again = await listen(nats);
      await expect.poll(again.head, eventually).toBeGreaterThan(0);
      await put(url, "c", "back");
      await expect
        .poll(() => again.changes, eventually)
        .toContainEqual({ key: "c", value: "back" });
      expect(await deployment.stop()).toBe(0);
    });
  });
}
