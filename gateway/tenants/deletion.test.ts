import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { JOB_ROWS, jobRecordOf, newJob } from "#gateway/jobs/job.ts";
import { JobRunner } from "#gateway/jobs/runner.ts";
import { putTenant } from "#gateway/testing/limits.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { MemoryStorage } from "#gateway/testing/memory-storage.ts";
import { ApiKeyRecordSchema, TenantState } from "#proto/gen/minikv/v1/directory_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT, Space, toTenantId } from "#shared/ids.ts";
import { JOB_LEASE_MS, TENANT_DELETION_WAIT_MS } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { vshardOf } from "#shared/vshard.ts";
import { decodeDeletion, deletionJobName, newDeletion, TenantDeletion } from "./deletion.ts";
import { tenantRowName } from "./registry.ts";

const TENANT = toTenantId(7);
const TICK_MS = 100;
const JOB = deletionJobName(TENANT);

class Cluster {
  readonly clock = new ManualClock();
  readonly directory = new MemoryDirectory();
  readonly storage = new MemoryStorage(this.clock);
  readonly runners: JobRunner[] = [];

  gateway(): JobRunner {
    const { clock, directory, storage } = this;
    const ignore = () => undefined;
    const runner = new JobRunner({
      ...{ directory, clock, kinds: [new TenantDeletion({ directory, storage, clock })] },
      random: new SeededRandom(this.runners.length + 1),
      logger: { info: ignore, warn: ignore } as never,
    });
    runner.start();
    this.runners.push(runner);
    return runner;
  }

  async fill(tenant: number, count: number, sizeBytes = 3): Promise<void> {
    for (let at = 0; at < count; at++) await this.put(tenant, `key ${at}`, sizeBytes);
  }

  async put(tenant: number, key: string, sizeBytes = 3): Promise<void> {
    const ref = { tenant: toTenantId(tenant), key: utf8(key) };
    const input = { value: new Uint8Array(sizeBytes), contentType: "x", ttlMs: 0 };
    await this.storage.put(ref, input, { deadlineMs: 0 });
  }

  async count(tenant: number): Promise<number> {
    const all = { tenant: toTenantId(tenant), start: utf8(""), end: utf8("") };
    return await this.storage.count(all, { deadlineMs: 0 });
  }

  async delete(): Promise<void> {
    await putTenant(this.directory, TENANT, { state: TenantState.DELETING });
    await this.directory.change([newJob(JOB, newDeletion(), 0)]);
  }

  async putKey(id: string, tenantId: number): Promise<void> {
    const record = create(ApiKeyRecordSchema, { id, tenantId });
    await this.directory.change([
      { name: `key/${id}`, value: toBinary(ApiKeyRecordSchema, record) },
      { name: `key-use/${id}`, value: utf8("") },
    ]);
  }

  async run(ms: number): Promise<void> {
    for (let passedMs = 0; passedMs < ms; passedMs += TICK_MS) {
      this.clock.advance(TICK_MS);
      for (let turn = 0; turn < 60; turn++) await Promise.resolve();
    }
  }

  get isGone(): boolean {
    return this.directory.get(tenantRowName(TENANT)) === undefined;
  }

  get deletion() {
    return decodeDeletion(jobRecordOf(this.directory.get(JOB_ROWS + JOB)!)!.progress);
  }
}

describe("TenantDeletion", () => {
  it("removes all that the tenant has, and nothing of others", async () => {
    const cluster = new Cluster();
    const { directory } = cluster;
    await cluster.fill(TENANT, 1_234, 10);
    await cluster.fill(DEFAULT_TENANT, 20);
    await cluster.fill(8, 20);
    await cluster.putKey("mine", TENANT);
    await cluster.putKey("theirs", 8);
    await directory.change([
      { name: "key/unreadable", value: Uint8Array.of(0xff, 0xff) },
      { name: "data-key/00000007/00000001", value: utf8("x") },
      { name: "data-key/00000008/00000001", value: utf8("x") },
    ]);
    cluster.gateway();
    await cluster.delete();
    await cluster.run(10_000);
    // Data and keys go at once, what unlocks data and the row at the end.
    expect(await cluster.count(TENANT)).toBe(0);
    expect(directory.get("key/mine")).toBeUndefined();
    expect(cluster.deletion).toMatchObject({ phase: "waiting", removedObjects: 1_234 });
    const names = [...Array(1_234).keys()].map((at) => `key ${at}`.length + 10);
    expect(cluster.deletion.removedBytes).toBe(names.reduce((sum, size) => sum + size, 0));
    await cluster.run(TENANT_DELETION_WAIT_MS);
    expect(cluster.isGone).toBe(true);
    expect(await cluster.count(DEFAULT_TENANT)).toBe(20);
    expect(await cluster.count(8)).toBe(20);
    expect(directory.list("").map(({ name }) => name)).toEqual([
      ...["data-key/00000008/00000001", "key-use/theirs", "key/theirs", "key/unreadable"],
    ]);
  });

  it("outlives writes and keys that come after it, as long as they can come", async () => {
    const cluster = new Cluster();
    cluster.gateway();
    await cluster.delete();
    await cluster.run(TENANT_DELETION_WAIT_MS - 5_000);
    await cluster.put(TENANT, "late");
    await cluster.putKey("late", TENANT);
    expect(cluster.isGone).toBe(false);
    await cluster.run(20_000);
    expect(cluster.isGone).toBe(true);
    expect(await cluster.count(TENANT)).toBe(0);
    expect(cluster.directory.list("key")).toEqual([]);
  });

  it("does not miss a write that was stamped in time and is committed long after", async () => {
    const cluster = new Cluster();
    cluster.gateway();
    await cluster.delete();
    await cluster.run(1_000);
    // It sits in the log of its vshard until something behind it is committed.
    const { storage } = cluster;
    let isHeld = true;
    const batch = storage.batch.bind(storage);
    storage.batch = async (tenant, operations, options) => {
      const vshard = vshardOf({ tenant, space: Space.Kv, key: utf8("stuck") });
      const isHit = operations.some(
        ({ key }) => vshardOf({ tenant, space: Space.Kv, key }) === vshard,
      );
      if (isHeld && isHit) {
        isHeld = false;
        await cluster.put(TENANT, "stuck");
      }
      return await batch(tenant, operations, options);
    };
    await cluster.run(TENANT_DELETION_WAIT_MS + 20_000);
    expect(cluster.isGone).toBe(true);
    // Nothing was done that would have let it go, or it was removed with the rest.
    expect(isHeld).toBe(false);
    expect(await cluster.count(TENANT)).toBe(0);
  });

  it("does not count the time twice when gateways take turns", async () => {
    const cluster = new Cluster();
    await cluster.delete();
    for (let passedMs = 0; passedMs < TENANT_DELETION_WAIT_MS - 10_000; passedMs += 10_000) {
      const runner = cluster.gateway();
      await cluster.run(10_000);
      await runner.stop(0);
      await cluster.run(TICK_MS);
      expect(cluster.isGone).toBe(false);
    }
    cluster.gateway();
    await cluster.run(60_000);
    expect(cluster.isGone).toBe(true);
  });

  it("waits on when it moves away and comes back", async () => {
    const cluster = new Cluster();
    const { directory, clock, storage } = cluster;
    const here = new TenantDeletion({ directory, storage, clock });
    const there = new TenantDeletion({ directory, storage, clock });
    const context = { id: "00000007", deadlineMs: 0, isStopping: () => false };
    let progress = newDeletion();
    const step = async (at: TenantDeletion) => {
      const next = await at.step(progress, context);
      if (next.kind === "more") progress = next.progress;
      return decodeDeletion(progress).waitMs;
    };
    await step(here);
    clock.advance(1_000);
    expect(await step(here)).toBe(TENANT_DELETION_WAIT_MS - 1_000);
    expect(await step(there)).toBe(TENANT_DELETION_WAIT_MS - 1_000);
    clock.advance(1_000);
    expect(await step(there)).toBe(TENANT_DELETION_WAIT_MS - 2_000);
    clock.advance(1_000);
    // What it has written itself last is not what it finds.
    expect(await step(here)).toBe(TENANT_DELETION_WAIT_MS - 2_000);
  });

  it.each([1, 2, 3])(
    "gets there over failures of storage and directory (seed %i)",
    async (seed) => {
      const cluster = new Cluster();
      const random = new SeededRandom(seed);
      await cluster.fill(TENANT, 1_800);
      await cluster.fill(8, 5);
      for (let at = 0; at < 60; at++) await cluster.putKey(`k${at}`, TENANT);
      for (let at = 0; at < 3; at++) cluster.gateway();
      await cluster.delete();
      const error = new KvError("UNAVAILABLE", "a fault", { outcome: "unknown" });
      for (let fault = 0; fault < 60; fault++) {
        cluster.storage.failure = random.below(3) === 0 ? error : undefined;
        cluster.directory.failure = random.below(4) === 0 ? error : undefined;
        cluster.storage.batchFailures.clear();
        if (random.below(3) === 0) cluster.storage.batchFailures.set(random.below(500), error);
        await cluster.run(1_000);
      }
      cluster.storage.failure = undefined;
      cluster.directory.failure = undefined;
      cluster.storage.batchFailures.clear();
      await cluster.run(TENANT_DELETION_WAIT_MS + JOB_LEASE_MS + 120_000);
      expect(cluster.isGone).toBe(true);
      expect(await cluster.count(TENANT)).toBe(0);
      expect(await cluster.count(8)).toBe(5);
      expect(cluster.directory.list("").map(({ name }) => name)).toEqual([]);
    },
  );

  it("goes on from the start when its progress does not decode", () => {
    expect(decodeDeletion(utf8("{"))).toEqual(decodeDeletion(newDeletion()));
  });
});
