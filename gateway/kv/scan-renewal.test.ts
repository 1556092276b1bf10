import { beforeEach, describe, expect, it } from "vitest";
import { TestAuth } from "#gateway/testing/auth.ts";
import { type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { TenantState } from "#proto/gen/minikv/v1/directory_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import type { TenantId } from "#shared/ids.ts";
import { SCAN_CHUNK_ROWS_MAX } from "#shared/limits.ts";

const COUNT = 4 * SCAN_CHUNK_ROWS_MAX;

let test: TestAuth;
let gateway: TestGateway;
let tenant: TenantId;
beforeEach(async () => {
  test = new TestAuth();
  gateway = testGateway({ auth: test });
  tenant = await test.addTenant(2, "two");
  for (let n = 0; n < COUNT; n++) {
    const key = utf8(`k${String(n).padStart(6, "0")}`);
    const input = { value: utf8("v"), contentType: "text/plain", ttlMs: 0 };
    await gateway.storage.put({ tenant, key }, input, { deadlineMs: 0 });
  }
});

/** The lines of a stream of which `meanwhile` happens behind the first piece. */
async function streamed(credential: string, meanwhile: () => Promise<unknown>) {
  const headers = {
    Accept: "application/x-ndjson",
    Authorization: `Bearer ${credential}`,
    "Minikv-Tenant": "two",
  };
  const response = await gateway.app.request("/v1/kv?prefix=k&keys_only", { headers });
  expect(response.status).toBe(200);
  const reader = response.body!.getReader();
  let text = new TextDecoder().decode((await reader.read()).value);
  await meanwhile();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    text += new TextDecoder().decode(piece.value);
  }
  const lines = text.trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line));
}

describe("a stream whose reader may not read on", () => {
  it("goes to its end with a key that stays valid", async () => {
    const key = await test.addKey("ReadOnly", { tenant });
    expect(await streamed(key.text, async () => undefined)).toHaveLength(COUNT);
  });

  it("ends when its key is revoked, and says so", async () => {
    const key = await test.addKey("ReadOnly", { tenant });
    const revoke = () => test.changeKey(key.id, (record) => (record.revokedAtMs = 1n));
    const lines = await streamed(key.text, revoke);
    expect(lines.length).toBeLessThan(COUNT);
    expect(lines.at(-1)).toMatchObject({
      error: { code: "UNAUTHENTICATED", status: 401 },
      cursor: expect.any(String),
    });
  });

  it("ends when its tenant is suspended, whoever reads", async () => {
    const key = await test.addKey("ReadOnly", { tenant });
    const root = await test.addKey("ClusterAdmin");
    for (const { text } of [key, root]) {
      await test.addTenant(2, "two");
      const lines = await streamed(text, () => test.addTenant(2, "two", TenantState.SUSPENDED));
      expect(lines.at(-1)).toMatchObject({ error: { code: "FORBIDDEN", status: 403 } });
    }
  });
});
