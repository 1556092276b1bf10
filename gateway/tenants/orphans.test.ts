/** Rows that nobody owns any more: how they come about, which are found, and which must stay. */
import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { DataKeys } from "#gateway/codec/data-keys.ts";
import { masterKeys } from "#gateway/codec/testing.ts";
import { JOB_ROWS, newJob } from "#gateway/jobs/job.ts";
import { JobRunner } from "#gateway/jobs/runner.ts";
import { putTenant } from "#gateway/testing/limits.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { MemoryStorage } from "#gateway/testing/memory-storage.ts";
import {
  ApiKeyRecordSchema,
  TenantRecordSchema,
  TenantState,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { DEFAULT_TENANT, toTenantId } from "#shared/ids.ts";
import { ORPHANS_LOOK_INTERVAL_MS, TENANT_DELETION_WAIT_MS } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { deletionJobName, newDeletion, TenantDeletion } from "./deletion.ts";
import { OrphanSweep, orphansIn } from "./orphans.ts";
import { tenantRowName } from "./registry.ts";

const TICK_MS = 500;
const GONE = toTenantId(7);
const ignore = () => undefined;
const logger = { info: ignore, warn: ignore } as never;
const dataKey = (tenant: number) => `data-key/${tenant.toString(16).padStart(8, "0")}/00000001`;

class World {
  readonly clock = new ManualClock();
  readonly directory = new MemoryDirectory();
  readonly random = new SeededRandom(1);
  readonly sweep = new OrphanSweep({ ...this.parts, logger });

  get parts() {
    const { clock, directory, random } = this;
    return { clock, directory, random };
  }

  put(name: string, value = utf8("")): Promise<boolean> {
    return this.directory.change([{ name, value }]);
  }

  /** The next id that a tenant would get. */
  nextTenant(id: number): Promise<boolean> {
    return this.put(
      "tenant-next",
      toBinary(TenantRecordSchema, create(TenantRecordSchema, { id })),
    );
  }

  async key(id: string, tenantId: number, name = `key/${id}`): Promise<void> {
    await this.put(
      name,
      toBinary(ApiKeyRecordSchema, create(ApiKeyRecordSchema, { id, tenantId })),
    );
    await this.put(`key-use/${id}`);
  }

  async run(ms: number): Promise<void> {
    for (let passedMs = 0; passedMs < ms; passedMs += TICK_MS) {
      this.clock.advance(TICK_MS);
      for (let turn = 0; turn < 30; turn++) await Promise.resolve();
    }
  }

  get names(): readonly string[] {
    return this.directory.list("").map(({ name }) => name);
  }
}

it("a data key that a write made behind the deletion of its tenant is removed", async () => {
  const world = new World();
  const { clock, directory, random } = world;
  await world.nextTenant(GONE + 1);
  await putTenant(directory, GONE, { state: TenantState.DELETING });
  await directory.change([newJob(deletionJobName(GONE), newDeletion(), 0)]);
  const storage = new MemoryStorage(clock);
  const kinds = [new TenantDeletion({ directory, storage, clock })];
  const runner = new JobRunner({ ...world.parts, kinds, logger });
  runner.start();
  await world.run(TENANT_DELETION_WAIT_MS + 60_000);
  expect(directory.get(tenantRowName(GONE))).toBeUndefined();
  expect(directory.list(JOB_ROWS)).toEqual([]);
  // Held up until now: a write that was let in before.
  const keys = new DataKeys({ directory, masterKeys: masterKeys(0), clock, random });
  await keys.sealing(GONE, clock.nowMs() + 1_000);
  expect(world.names).toContain(dataKey(GONE));
  await world.run(2 * ORPHANS_LOOK_INTERVAL_MS);
  expect(world.names).toEqual(["tenant-next"]);
  await runner.stop(0);
  world.sweep.stop();
});

describe("orphansIn()", () => {
  it("has what tenants have left behind that are gone, and what API keys have", async () => {
    const world = new World();
    await world.nextTenant(9);
    await putTenant(world.directory, 8);
    for (const tenant of [DEFAULT_TENANT, GONE, 8]) {
      await world.put(dataKey(tenant));
      await world.key(`of${tenant}`, tenant);
    }
    await world.key("rootkey", DEFAULT_TENANT, "root");
    await world.put("key-use/gone");
    const names = orphansIn(world.directory).map(({ name }) => name);
    expect(names).toEqual([dataKey(GONE), "key/of7", "key-use/gone"]);
  });

  it("has no row of a tenant that is suspended, being deleted, unreadable or yet to come", async () => {
    const world = new World();
    await world.nextTenant(9);
    await putTenant(world.directory, 5, { state: TenantState.SUSPENDED });
    await putTenant(world.directory, 6, { state: TenantState.DELETING });
    await world.put(tenantRowName(7), new Uint8Array([255]));
    for (const tenant of [5, 6, 7, 9, 10]) {
      await world.put(dataKey(tenant));
      await world.key(`of${tenant}`, tenant);
    }
    await world.put("key/unreadable", new Uint8Array([255]));
    await world.put("key-use/unreadable");
    await world.put("data-key/nonsense");
    expect(orphansIn(world.directory)).toEqual([]);
  });

  it("has nothing of tenants while nobody knows which ids were given", async () => {
    const world = new World();
    await world.put(dataKey(GONE));
    expect(orphansIn(world.directory)).toEqual([]);
    await world.put("tenant-next", new Uint8Array([255]));
    expect(orphansIn(world.directory)).toEqual([]);
  });

  it("leaves a time of use alone that may be that of a root key it cannot read", async () => {
    const world = new World();
    await world.put("root", new Uint8Array([255]));
    await world.put("key-use/whose");
    expect(orphansIn(world.directory)).toEqual([]);
  });
});

describe("OrphanSweep", () => {
  it("removes only the rows that it has seen, and tries again", async () => {
    const world = new World();
    await world.put("key-use/gone");
    world.directory.failure = new Error("no leader");
    await world.run(2 * ORPHANS_LOOK_INTERVAL_MS);
    expect(world.names).toEqual(["key-use/gone"]);
    world.directory.failure = undefined;
    await world.run(2 * ORPHANS_LOOK_INTERVAL_MS);
    expect(world.names).toEqual([]);
    world.sweep.stop();
    await world.put("key-use/gone");
    await world.run(2 * ORPHANS_LOOK_INTERVAL_MS);
    expect(world.names).toEqual(["key-use/gone"]);
  });
});
