import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, it, onTestFinished } from "vitest";
import { gatewayWaitsFor } from "./gateway-readiness.ts";

/** A gateway that gives this answer; its URL. */
async function gateway(status: number, body: string): Promise<string> {
  const server = createServer(({ url }, response) => {
    response.writeHead(url === "/health/ready" ? status : 404).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    return new Promise<void>((resolve) => void server.close(() => resolve()));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

it("waits for nothing when it is ready", async () => {
  expect(await gatewayWaitsFor(await gateway(200, "{}"))).toBeUndefined();
});

it.each([
  ['{"detail":"no leader"}', "to be ready (503 no leader)"],
  ["not JSON", "to be ready (503 not JSON)"],
  ['{"status":503}', 'to be ready (503 {"status":503})'],
])("says what %s says", async (body, reason) => {
  expect(await gatewayWaitsFor(await gateway(503, body))).toBe(reason);
});

it("says that nobody answers", async () => {
  expect(await gatewayWaitsFor("http://127.0.0.1:1")).toMatch(/^to answer \(.+\)$/);
});
