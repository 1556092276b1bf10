import { describe, expect, it } from "vitest";
import { TestAuth } from "#gateway/testing/auth.ts";
import { testGateway } from "#gateway/testing/gateway.ts";
import { AUDIT_HEARTBEAT_MS } from "#shared/audit-limits.ts";

async function follow() {
  const test = new TestAuth();
  const { app, clock } = testGateway({ auth: test });
  const key = await test.addKey("ClusterAdmin");
  const headers = { Authorization: `Bearer ${key.text}` };
  const response = await app.request("/admin/audit?follow=1", { headers });
  expect(response.status).toBe(200);
  const reader = response.body!.getReader();
  /** What the reader gets when the next heartbeat is due. */
  const heartbeat = async () => {
    const piece = reader.read();
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    clock.advance(AUDIT_HEARTBEAT_MS);
    return piece;
  };
  return { test, key, heartbeat };
}

describe("GET /admin/audit?follow=1", () => {
  it("goes on as long as its key is valid", async () => {
    const { heartbeat } = await follow();
    expect((await heartbeat()).done).toBe(false);
    expect((await heartbeat()).done).toBe(false);
  });

  it("gives nothing more to a key that was revoked", async () => {
    const { test, key, heartbeat } = await follow();
    expect((await heartbeat()).done).toBe(false);
    await test.changeKey(key.id, (record) => (record.revokedAtMs = 1n));
    // One piece may have been made before.
    const rest = heartbeat().then(heartbeat);
    await expect(rest).rejects.toThrow("broke off");
  });
});
