/** Rotation of a data key: which values it encrypts anew, and when the old key goes. */
import { describe, expect, it } from "vitest";
import { type JobStep, newJob } from "#gateway/jobs/job.ts";
import { JobRunner } from "#gateway/jobs/runner.ts";
import { latin1, utf8 } from "#shared/bytes.ts";
import { DEFAULT_TENANT, Space } from "#shared/ids.ts";
import { JOB_PAUSE_MS_MAX } from "#shared/limits.ts";
import {
  DATA_KEY_GRACE_MS,
  DATA_KEY_WAIT_MS_MAX,
  RESEAL_PAUSE_MS,
  RESEAL_ROWS_PER_STEP,
} from "#shared/limits-codec.ts";
import { vshardOf } from "#shared/vshard.ts";
import { newDataKey } from "./data-key-rows.ts";
import {
  decodeResealing,
  newResealing,
  type Resealing,
  ResealJob,
  resealJobName,
} from "./reseal-job.ts";
import { masterKeys, putOf, refOf, World } from "./testing.ts";
import { dataKeyNumberOf } from "./value-codec.ts";

const ID = "00000001";
const [OLD, NEW] = ["data-key/00000001/00000001", "data-key/00000001/00000002"];

function setUp() {
  const world = new World();
  const { directory, clock, storage } = world;
  const gateway = world.gateway();
  const job = new ResealJob({ directory, storage, codec: gateway.codec, clock });
  let progress = newResealing(2);
  const context = () => ({ id: ID, deadlineMs: clock.nowMs() + 5_000, isStopping: () => false });
  const step = async (by = job): Promise<JobStep> => {
    const done = await by.step(progress, context());
    if (done.kind === "more") progress = done.progress;
    return done;
  };
  /** As the runner would, as long as `during` holds. */
  const run = async (during: (resealing: Resealing) => boolean): Promise<JobStep | undefined> => {
    for (let steps = 0; steps < 10_000; steps++) {
      if (!during(decodeResealing(progress))) return undefined;
      const taken = await step();
      if (taken.kind === "done") return taken;
      clock.advance(taken.pauseMs ?? 0);
    }
    throw new Error("the job does not end");
  };
  const rotate = async (number = 2) => {
    const parts = { masterKeys: masterKeys(0), random: gateway.random, clock };
    await directory.change([newDataKey({ tenant: DEFAULT_TENANT, number }, parts)]);
  };
  const numbers = async (...keys: string[]) =>
    await Promise.all(keys.map(async (key) => dataKeyNumberOf(await world.stored(key))));
  return { world, gateway, job, step, run, rotate, numbers, read: () => decodeResealing(progress) };
}

describe("ResealJob", () => {
  it("brings all values under the new key, and changes nothing that clients see", async () => {
    const { world, gateway, run, rotate, numbers } = setUp();
    const plain = world.gateway("none", 0).storage;
    await plain.put(refOf("plain"), putOf("stored in the open"), world.options);
    const keys = Array.from({ length: 2 * RESEAL_ROWS_PER_STEP }, (_, i) => `key ${1_000 + i}`);
    for (const key of keys) {
      const put = { ...putOf(`value of ${key}`.repeat(50)), ttlMs: 50_000_000 };
      await gateway.storage.put(refOf(key), put, world.options);
    }
    const before = await gateway.storage.get(refOf(keys[7]!), world.options);
    await rotate();
    world.clock.advance(1_000);
    await run(({ phase }) => phase === "pass");
    expect(new Set(await numbers("plain", ...keys))).toEqual(new Set([2]));
    expect(await gateway.storage.get(refOf(keys[7]!), world.options)).toEqual(before);
    const opened = await gateway.storage.get(refOf("plain"), world.options);
    expect(opened).toMatchObject({ revision: 1, value: Buffer.from("stored in the open") });
  });

  it("drops the old key only with a pass that began after the grace, and found nothing", async () => {
    const { world, gateway, run, rotate, read, step, numbers } = setUp();
    await gateway.storage.put(refOf("a"), putOf("v"), world.options);
    const late = await world.stored("a");
    await rotate();
    const startMs = world.clock.monotonicMs();
    await run(({ phase }) => phase === "pass");
    expect(read()).toMatchObject({ examined: 1, resealed: 1, isLast: false });
    // A gateway that has not heard of the rotation.
    const { value, valueSizeBytes, encoding } = late;
    const held = { value, encoding: encoding!, logicalSizeBytes: valueSizeBytes };
    await run(({ waitMs }) => waitMs > JOB_PAUSE_MS_MAX);
    await world.storage.put(refOf("a"), { ...putOf(""), ...held }, world.options);
    expect(world.directory.get(OLD)).toBeDefined();
    await run(({ isLast }) => !isLast);
    expect(world.clock.monotonicMs() - startMs).toBeGreaterThanOrEqual(DATA_KEY_GRACE_MS);
    await step();
    expect(read()).toMatchObject({ resealed: 2, isLast: true, found: 0 });
    expect(await numbers("a")).toEqual([2]);
    const done = await step();
    expect(done).toEqual({ kind: "done", mutations: [{ name: OLD, value: undefined }] });
  });

  it("keeps the old key for a write that was stamped in time and is committed long after", async () => {
    const { world, gateway, run, rotate, numbers } = setUp();
    await gateway.storage.put(refOf("stuck"), putOf("v"), world.options);
    const { value, valueSizeBytes, encoding } = await world.stored("stuck");
    const late = { value, encoding: encoding!, logicalSizeBytes: valueSizeBytes };
    await rotate();
    await run(({ waitMs }) => waitMs > JOB_PAUSE_MS_MAX);
    const { storage } = world;
    const { tenant, key } = refOf("stuck");
    let isCommitted = false;
    const batch = storage.batch.bind(storage);
    storage.batch = async (of, operations, options) => {
      const vshard = vshardOf({ tenant, space: Space.Kv, key });
      const isHit = operations.some(
        (one) => vshardOf({ tenant, space: Space.Kv, key: one.key }) === vshard,
      );
      if (isHit && !isCommitted) {
        isCommitted = true;
        await storage.put(refOf("stuck"), { ...putOf(""), ...late }, world.options);
      }
      return await batch(of, operations, options);
    };
    const done = await run(() => true);
    expect(isCommitted).toBe(true);
    expect(await numbers("stuck")).toEqual([2]);
    expect(done).toEqual({ kind: "done", mutations: [{ name: OLD, value: undefined }] });
  });

  it("goes on at another gateway without counting the wait twice", async () => {
    const { world, gateway, run, rotate, read, step } = setUp();
    await gateway.storage.put(refOf("a"), putOf("v"), world.options);
    await rotate();
    await run(({ phase }) => phase === "pass");
    await step();
    const { directory, clock, storage } = world;
    const { codec } = world.gateway();
    const other = new ResealJob({ directory, storage, codec, clock });
    const { waitMs } = read();
    world.clock.advance(10_000);
    await step(other);
    expect(read().waitMs).toBe(waitMs);
    world.clock.advance(3_000);
    await step(other);
    expect(read().waitMs).toBe(waitMs - 3_000);
    // The first one, which does not know that it has lost the job.
    await step();
    expect(read().waitMs).toBe(waitMs - 3_000);
  });

  it("waits anew for each rotation, also where it has once begun to wait for an earlier one", async () => {
    const { world, gateway, job, rotate } = setUp();
    await gateway.storage.put(refOf("a"), putOf("v"), world.options);
    await rotate();
    const { clock } = world;
    const context = () => ({ id: ID, deadlineMs: clock.nowMs() + 5_000, isStopping: () => false });
    // The first rotation is taken over by another gateway behind this step, and done there.
    await job.step(newResealing(2), context());
    clock.advance(2 * DATA_KEY_GRACE_MS);
    const parts = { masterKeys: masterKeys(0), random: gateway.random, clock };
    await world.directory.change([newDataKey({ tenant: DEFAULT_TENANT, number: 3 }, parts)]);
    const first = await job.step(newResealing(3), context());
    if (first.kind !== "more") throw new Error("the job has ended");
    expect(decodeResealing(first.progress)).toMatchObject({
      ...{ number: 3, phase: "waiting", waitMs: DATA_KEY_GRACE_MS },
    });
  });

  it("keeps the old key for a value that cannot be read, and leaves that as it is", async () => {
    const { world, gateway, run, rotate } = setUp();
    for (const key of ["a", "b"]) await gateway.storage.put(refOf(key), putOf(key), world.options);
    const damaged = await world.stored("a");
    damaged.value[damaged.value.length - 1]! ^= 1;
    const bytes = Uint8Array.from(damaged.value);
    await rotate();
    expect(await run(() => true)).toEqual({ kind: "done", mutations: [] });
    expect(Uint8Array.from((await world.stored("a")).value)).toEqual(bytes);
    expect(dataKeyNumberOf(await world.stored("b"))).toBe(2);
  });

  it("does nothing while the new key is damaged, and goes on with the next one", async () => {
    const { world, gateway, run, rotate, step, numbers } = setUp();
    await gateway.storage.put(refOf("a"), putOf("v"), world.options);
    await world.directory.change([{ name: NEW, value: Uint8Array.of(0xff) }]);
    await expect(step()).rejects.toMatchObject({ code: "DATA_CORRUPT" });
    expect(await numbers("a")).toEqual([1]);
    await rotate(3);
    const done = await run(() => true);
    expect(done).toEqual({ kind: "done", mutations: [{ name: OLD, value: undefined }] });
    expect(await numbers("a")).toEqual([3]);
    const found = await gateway.storage.get(refOf("a"), world.options);
    expect(found?.value).toEqual(Buffer.from("v"));
  });

  it("ends also when earlier rotations have left more keys than one change may have", async () => {
    const { world, gateway, rotate } = setUp();
    const { directory, clock, storage } = world;
    await gateway.storage.put(refOf("a"), putOf("v"), world.options);
    await rotate();
    const newest = 150;
    for (let number = 3; number <= newest; number++) {
      const parts = { masterKeys: masterKeys(0), random: gateway.random, clock };
      await directory.change([newDataKey({ tenant: DEFAULT_TENANT, number }, parts)]);
    }
    const name = "job/reseal/00000001";
    const { value } = newJob(resealJobName(DEFAULT_TENANT), newResealing(newest), clock.nowMs());
    await directory.change([{ name, value }]);
    const job = new ResealJob({ directory, storage, codec: gateway.codec, clock });
    const logger = { info: () => {}, warn: () => {} };
    const runner = new JobRunner({
      ...{ directory, kinds: [job], clock, random: gateway.random, logger },
    });
    runner.start();
    for (let ms = 0; ms < DATA_KEY_GRACE_MS + 60_000; ms += 1_000) {
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
      clock.advance(1_000);
    }
    await runner.stop(0);
    expect(directory.get(name)).toBeUndefined();
    expect(directory.list("data-key/00000001/").map((row) => row.name)).toEqual([
      "data-key/00000001/00000096",
    ]);
    const read = await gateway.storage.get(refOf("a"), world.options);
    expect(latin1(read!.value)).toBe("v");
  });

  it("ends also when the data key of a value is gone, and keeps what there is of old keys", async () => {
    const { world, gateway, step, rotate, read } = setUp();
    await gateway.storage.put(refOf("a"), putOf("a"), world.options);
    await rotate();
    await world.directory.change([{ name: OLD, value: undefined }]);
    // The key is waited for, in case that the directory has not told of it yet.
    const stepping = step();
    for (let turn = 0; turn < 50; turn++) await Promise.resolve();
    world.clock.advance(DATA_KEY_WAIT_MS_MAX);
    await stepping;
    expect(read()).toMatchObject({ phase: "waiting", unreadable: 1 });
  });

  it("leaves a value alone that is changed or deleted meanwhile", async () => {
    const { world, gateway, step, rotate, read } = setUp();
    for (const key of ["a", "b"]) await gateway.storage.put(refOf(key), putOf(key), world.options);
    await rotate();
    const { promise, resolve } = Promise.withResolvers<void>();
    const stepping = step();
    await expect.poll(() => world.storage.calls.at(-1)?.method).toBe("page");
    world.storage.gate = promise;
    await expect.poll(() => world.storage.calls.at(-1)?.method).toBe("reseal");
    world.storage.gate = Promise.resolve();
    await gateway.storage.put(refOf("a"), putOf("newer"), world.options);
    await gateway.storage.delete(refOf("b"), undefined, world.options);
    resolve();
    await stepping;
    expect(read()).toMatchObject({ phase: "waiting", examined: 2 });
    const found = await gateway.storage.get(refOf("a"), world.options);
    expect(found).toMatchObject({ revision: 3, value: Buffer.from("newer") });
    expect(await gateway.storage.get(refOf("b"), world.options)).toBeUndefined();
  });

  it("ends when the tenant is gone, and waits for a key that is not known yet", async () => {
    const { world, gateway, step } = setUp();
    expect(await step()).toEqual({ kind: "done", mutations: [] });
    await gateway.storage.put(refOf("a"), putOf("v"), world.options);
    await expect(step()).rejects.toMatchObject({ code: "UNAVAILABLE" });
    expect(world.directory.get(NEW)).toBeUndefined();
  });

  it("drops nothing by a progress that it cannot read", async () => {
    for (const progress of ["", "{}", '{"number":"2"}', "[1]", '{"number":0}']) {
      expect(() => decodeResealing(utf8(progress))).toThrow("the job's progress");
    }
    expect(decodeResealing(newResealing(7))).toMatchObject({
      number: 7,
      waitMs: DATA_KEY_GRACE_MS,
    });
    expect(RESEAL_PAUSE_MS).toBeLessThanOrEqual(JOB_PAUSE_MS_MAX);
  });
});
