import { describe, expect, it } from "vitest";
import { RequestRefused } from "#gateway/http/problem.ts";
import type { BatchOperation } from "#gateway/storage/storage.ts";
import { TenantRegistry, tenantRowName } from "#gateway/tenants/registry.ts";
import { putTenant } from "#gateway/testing/limits.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { MemoryStorage } from "#gateway/testing/memory-storage.ts";
import { TenantState } from "#proto/gen/minikv/v1/directory_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT, toTenantId } from "#shared/ids.ts";
import { TenantStorage } from "./tenant-storage.ts";

const TENANT = toTenantId(7);
const OPTIONS = { deadlineMs: Number.MAX_SAFE_INTEGER };
const BATCH_OPTIONS = { ...OPTIONS, admitValue: () => undefined };

async function setUp(quotas: { bytes?: number; objects?: number } = {}) {
  const directory = new MemoryDirectory();
  const inner = new MemoryStorage(new ManualClock());
  const charged: number[] = [];
  await putTenant(directory, TENANT, {
    quotas: { bytes: BigInt(quotas.bytes ?? 0), objects: BigInt(quotas.objects ?? 0) },
  });
  const storage = new TenantStorage({
    ...{ inner, directory, tenants: new TenantRegistry(directory) },
    chargeOperations: (_, operations) => charged.push(operations),
  });
  const put = (key: string, sizeBytes: number, more = {}) =>
    storage.put(
      { tenant: TENANT, key: utf8(key) },
      { value: new Uint8Array(sizeBytes), contentType: "x", ttlMs: 0, ...more },
      OPTIONS,
    );
  const hear = (bytes: number, objects: number) => {
    directory.usage.set(TENANT, { bytes, objects });
    directory.usageVersion++;
  };
  return { directory, inner, storage, put, hear, charged };
}

const putOf = (key: string, sizeBytes: number): BatchOperation => ({
  ...{ kind: "put", key: utf8(key), value: new Uint8Array(sizeBytes) },
  ...{ contentType: "x", ttlMs: 0 },
});

const refusal = async (promise: Promise<unknown>): Promise<RequestRefused> => {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof RequestRefused) return error;
  throw new Error("was not refused", { cause: error });
};

describe("a quota of bytes", () => {
  it("refuses the put that would exceed it, with limit and actual", async () => {
    const { inner, put } = await setUp({ bytes: 100 });
    await put("a", 49);
    await put("b", 49);
    const { code, outcome, limit, actual } = await refusal(put("c", 1));
    expect({ code, outcome, limit, actual }).toEqual({
      code: "STORAGE_QUOTA_EXCEEDED",
      outcome: "not_applied",
      ...{ limit: 100, actual: 102 },
    });
    expect(inner.size).toBe(2);
  });

  it("counts what was heard, and forgets what it has stored before that", async () => {
    const { put, hear } = await setUp({ bytes: 100 });
    await put("a", 49);
    hear(50, 1);
    await put("b", 49);
    await refusal(put("c", 9));
    hear(60, 2);
    await put("c", 39);
    await refusal(put("d", 0));
  });

  it("always takes deletions, and what they free when it is heard", async () => {
    const { storage, put, hear } = await setUp({ bytes: 100 });
    await put("a", 99);
    await refusal(put("b", 9));
    await storage.delete({ tenant: TENANT, key: utf8("a") }, undefined, OPTIONS);
    hear(0, 0);
    await put("b", 9);
  });

  it("lets a value be replaced by one that fits, when it has looked", async () => {
    const { inner, put } = await setUp({ bytes: 100 });
    await put("a", 59);
    await put("b", 39);
    expect(inner.calls.filter(({ method }) => method === "get")).toEqual([]);
    await put("a", 59);
    await put("a", 1);
    const { actual } = await refusal(put("b", 40));
    expect(actual).toBe(101);
    expect(inner.calls.filter(({ method }) => method === "get")).toHaveLength(3);
  });

  it("counts nothing of a put that stored nothing, and all of one that may have", async () => {
    const { inner, put } = await setUp({ bytes: 100 });
    await put("a", 9);
    const condition = { mustBeAbsent: true, mustExist: false, revisionIs: [], revisionIsNot: [] };
    expect((await put("a", 79, { condition })).kind).toBe("conditionFailed");
    inner.failure = new KvError("NOT_LEADER", "no leader", { outcome: "not_applied" });
    await expect(put("b", 79)).rejects.toThrow("no leader");
    inner.failure = undefined;
    await put("b", 39);
    inner.failure = new KvError("DEADLINE_EXCEEDED", "too late", { outcome: "unknown" });
    await expect(put("c", 39)).rejects.toThrow("too late");
    inner.failure = undefined;
    const { actual } = await refusal(put("d", 19));
    expect(actual).toBe(110);
  });

  it("counts what is under way, however long that takes", async () => {
    const { inner, put, hear } = await setUp({ bytes: 100 });
    const { promise, resolve } = Promise.withResolvers<void>();
    inner.gate = promise;
    const first = put("a", 79);
    hear(0, 0);
    hear(0, 0);
    const second = refusal(put("b", 29));
    resolve();
    await first;
    expect((await second).actual).toBe(110);
  });
});

describe("a quota of objects", () => {
  it("counts new keys, and gives back what was there already", async () => {
    const { put } = await setUp({ objects: 2 });
    await put("a", 1);
    await put("a", 1);
    await put("a", 1);
    await put("b", 1000);
    await put("b", 5000);
    const { limit, actual } = await refusal(put("c", 1));
    expect([limit, actual]).toEqual([2, 3]);
  });
});

describe("a batch", () => {
  it("is refused in the puts that do not fit, and carried out for the rest", async () => {
    const { storage, charged } = await setUp({ bytes: 100 });
    const operations: BatchOperation[] = [
      putOf("a", 49),
      putOf("big", 200),
      { kind: "get", key: utf8("a") },
      putOf("b", 48),
      putOf("c", 5),
      { kind: "delete", key: utf8("a") },
    ];
    const outcomes = await storage.batch(TENANT, operations, BATCH_OPTIONS);
    expect(outcomes.map(({ kind }) => kind)).toEqual([
      ...["stored", "failed", "found", "stored", "failed", "deleted"],
    ]);
    expect(outcomes[1]).toMatchObject({ error: { code: "STORAGE_QUOTA_EXCEEDED", actual: 253 } });
    expect(charged).toEqual([6]);
  });

  it("counts what it has stored, and nothing when it failed as a whole", async () => {
    const { inner, storage, put } = await setUp({ bytes: 100 });
    inner.failure = new KvError("OVERLOADED", "not now", { outcome: "not_applied" });
    await expect(storage.batch(TENANT, [putOf("a", 89)], BATCH_OPTIONS)).rejects.toThrow("not now");
    inner.failure = undefined;
    await storage.batch(TENANT, [putOf("a", 49)], BATCH_OPTIONS);
    expect((await refusal(put("b", 50))).actual).toBe(101);
  });

  it("of which nothing passes is not sent", async () => {
    const { inner, storage } = await setUp({ bytes: 10 });
    const outcomes = await storage.batch(TENANT, [putOf("a", 49)], BATCH_OPTIONS);
    expect(outcomes.map(({ kind }) => kind)).toEqual(["failed"]);
    expect(inner.calls).toEqual([]);
  });

  it("is charged before anything is begun", async () => {
    const { directory, inner } = await setUp();
    const storage = new TenantStorage({
      ...{ inner, directory, tenants: new TenantRegistry(directory) },
      chargeOperations: () => {
        throw new RequestRefused("RATE_LIMITED", "too many");
      },
    });
    await refusal(storage.batch(TENANT, [putOf("a", 1)], BATCH_OPTIONS));
    expect(inner.calls).toEqual([]);
  });
});

describe("the last door", () => {
  it("stores nothing for a tenant that is being deleted, is gone, or never was", async () => {
    const { directory, inner, storage, put } = await setUp();
    await put("a", 1);
    await putTenant(directory, TENANT, { state: TenantState.DELETING });
    expect((await refusal(put("b", 1))).code).toBe("FORBIDDEN");
    expect((await refusal(storage.batch(TENANT, [putOf("b", 1)], BATCH_OPTIONS))).code).toBe(
      "FORBIDDEN",
    );
    // Only puts: what is there can be removed.
    const removal: BatchOperation = { kind: "delete", key: utf8("a") };
    await storage.batch(TENANT, [removal], BATCH_OPTIONS);
    await directory.change([{ name: tenantRowName(TENANT), value: undefined }]);
    expect((await refusal(put("b", 1))).code).toBe("FORBIDDEN");
    expect(inner.size).toBe(0);
  });

  it("decides when the body is there, not when the request was let in", async () => {
    const { directory, put } = await setUp();
    const upload = Promise.withResolvers<void>();
    const late = refusal(upload.promise.then(() => put("b", 1)));
    await putTenant(directory, TENANT, { state: TenantState.DELETING });
    upload.resolve();
    expect((await late).code).toBe("FORBIDDEN");
  });

  it("is closed when nothing was heard of the directory for long, but not for the default tenant", async () => {
    const { directory, storage, put } = await setUp();
    directory.silence = 60_001;
    const { code, outcome } = await refusal(put("a", 1));
    expect([code, outcome]).toEqual(["UNAVAILABLE", "not_applied"]);
    await storage.put(
      { tenant: DEFAULT_TENANT, key: utf8("a") },
      { value: utf8("v"), contentType: "x", ttlMs: 0 },
      OPTIONS,
    );
    directory.silence = 0;
    await put("a", 1);
  });

  it("lets suspended tenants finish what was let in", async () => {
    const { directory, put } = await setUp();
    await putTenant(directory, TENANT, { state: TenantState.SUSPENDED });
    await put("a", 1);
  });
});
