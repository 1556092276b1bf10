/** Which data key encrypts, and who may use it: gateways that share a directory. */
import { describe, expect, it } from "vitest";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { DATA_KEY_SILENCE_MS_MAX, DATA_KEY_WAIT_MS_MAX } from "#shared/limits-codec.ts";
import { SeededRandom } from "#shared/random.ts";
import { newDataKey, shredMutations } from "./data-key-rows.ts";
import { masterKeys, OTHER_TENANT, putOf, refOf, World } from "./testing.ts";
import { dataKeyNumberOf } from "./value-codec.ts";

const NAME = "data-key/00000001/00000001";

async function rotate(world: World, number: number): Promise<void> {
  const parts = { masterKeys: masterKeys(0), random: new SeededRandom(number), clock: world.clock };
  await world.directory.change([newDataKey({ tenant: DEFAULT_TENANT, number }, parts)]);
}

describe("DataKeys", () => {
  it("makes one key when many write for the first time, at one gateway and at two", async () => {
    const world = new World();
    const gateways = [world.gateway(), world.gateway()];
    const refs = Array.from({ length: 20 }, (_, i) => refOf(`key ${i}`));
    await Promise.all(
      refs.map((ref, i) => gateways[i % 2]!.storage.put(ref, putOf(`v${i}`), world.options)),
    );
    expect(world.directory.list("data-key/").map(({ name }) => name)).toEqual([NAME]);
    for (const [i, ref] of refs.entries()) {
      const found = await gateways[(i + 1) % 2]!.storage.get(ref, world.options);
      expect(Buffer.from(found!.value).toString()).toBe(`v${i}`);
    }
  });

  it("uses the newest key as soon as it is there, and reads under the ones before", async () => {
    const world = new World();
    const { storage } = world.gateway();
    await storage.put(refOf("a"), putOf("old"), world.options);
    await rotate(world, 2);
    await storage.put(refOf("b"), putOf("new"), world.options);
    expect(dataKeyNumberOf(await world.stored("a"))).toBe(1);
    expect(dataKeyNumberOf(await world.stored("b"))).toBe(2);
    const later = world.gateway().storage;
    expect((await later.get(refOf("a"), world.options))?.value).toEqual(Buffer.from("old"));
  });

  it("draws a session of its own for each gateway and each key", async () => {
    const world = new World();
    const sessionOf = async (gateway: ReturnType<World["gateway"]>) => {
      await gateway.storage.put(refOf("a"), putOf("v"), world.options);
      return Buffer.from((await world.stored("a")).value.subarray(5, 21)).toString("hex");
    };
    const gateway = world.gateway();
    const first = await sessionOf(gateway);
    expect(await sessionOf(gateway)).toBe(first);
    const others = [await sessionOf(world.gateway())];
    await rotate(world, 2);
    others.push(await sessionOf(gateway));
    expect(new Set([first, ...others]).size).toBe(3);
  });

  it("waits for a key that the directory has not told of yet", async () => {
    const [here, there] = [new World(), new World()];
    await there.gateway().storage.put(refOf("a"), putOf("v"), there.options);
    const reading = here.gateway().codec.open(refOf("a"), await there.stored("a"), Infinity);
    await here.directory.change([{ name: NAME, value: there.directory.get(NAME)!.value }]);
    expect(await reading).toEqual(Buffer.from("v"));
  });

  it("waits once, and not for ever, for a key that is gone", async () => {
    const [here, there] = [new World(), new World()];
    await there.gateway().storage.put(refOf("a"), putOf("v"), there.options);
    const stored = await there.stored("a");
    const { codec } = here.gateway();
    const missing = expect.objectContaining({ code: "ENCRYPTION_KEY_MISSING" });
    const read = async () => await codec.open(refOf("a"), stored, Infinity);
    const first = read();
    here.clock.advance(DATA_KEY_WAIT_MS_MAX);
    await expect(first).rejects.toEqual(missing);
    await expect(read()).rejects.toEqual(missing);
  });

  it("never stores a plain value where others encrypt, and says what is missing", async () => {
    const world = new World();
    const plain = world.gateway("none").storage;
    expect(await plain.put(refOf("a"), putOf("v"), world.options)).toMatchObject({
      kind: "stored",
    });
    await world.gateway().storage.put(refOf("b"), putOf("v"), world.options);
    const refusal = { code: "ENCRYPTION_KEY_MISSING", outcome: "not_applied" };
    const put = plain.put(refOf("a", OTHER_TENANT), putOf("v"), world.options);
    await expect(put).rejects.toMatchObject(refusal);
    const operation = { kind: "put", key: refOf("c").key, ...putOf("v") } as const;
    const outcomes = await plain.batch(
      DEFAULT_TENANT,
      [operation, { kind: "get", key: refOf("a").key }, { kind: "get", key: refOf("b").key }],
      { ...world.options, admitValue: () => undefined },
    );
    expect(outcomes).toMatchObject([
      { kind: "failed", error: refusal },
      { kind: "found" },
      { kind: "failed", error: { code: "ENCRYPTION_KEY_MISSING" } },
    ]);
    expect(world.storage.size).toBe(2);
    expect(await plain.delete(refOf("a"), undefined, world.options)).toMatchObject({
      kind: "deleted",
    });
  });

  it("refuses to write and to read with another master key than the one that wraps", async () => {
    const world = new World();
    await world.gateway().storage.put(refOf("a"), putOf("v"), world.options);
    const { storage } = world.gateway(masterKeys(1));
    const missing = expect.objectContaining({ code: "ENCRYPTION_KEY_MISSING" });
    await expect(storage.put(refOf("b"), putOf("v"), world.options)).rejects.toMatchObject({
      ...{ code: "ENCRYPTION_KEY_MISSING", outcome: "not_applied" },
    });
    await expect(storage.get(refOf("a"), world.options)).rejects.toEqual(missing);
    const both = world.gateway(masterKeys(1, 0)).storage;
    expect((await both.get(refOf("a"), world.options))?.value).toEqual(Buffer.from("v"));
  });

  it.each([masterKeys(0), "none"] as const)(
    "writes nothing before the directory is known (%#)",
    async (keys) => {
      const world = new World();
      world.directory.isKnown = false;
      const { storage } = world.gateway(keys);
      const refusal = { code: "UNAVAILABLE", outcome: "not_applied" };
      const put = () => storage.put(refOf("a"), putOf("v"), world.options);
      await expect(put()).rejects.toMatchObject(refusal);
      expect(storage.readiness().ready).toBe(false);
      world.directory.isKnown = true;
      expect(await put()).toMatchObject({ kind: "stored" });
      expect(storage.readiness().ready).toBe(true);
    },
  );

  it.each([masterKeys(0), "none"] as const)(
    "writes no more when it could have missed a rotation or that all is encrypted now, and still reads (%#)",
    async (keys) => {
      const world = new World();
      const { storage } = world.gateway(keys);
      await storage.put(refOf("a"), putOf("v"), world.options);
      world.directory.silence = DATA_KEY_SILENCE_MS_MAX + 1;
      const refusal = { code: "UNAVAILABLE", outcome: "not_applied" };
      await expect(storage.put(refOf("a"), putOf("w"), world.options)).rejects.toMatchObject(
        refusal,
      );
      const stored = await storage.get(refOf("a"), world.options);
      expect(Buffer.from(stored!.value).toString()).toBe("v");
      world.directory.silence = DATA_KEY_SILENCE_MS_MAX;
      await storage.put(refOf("a"), putOf("w"), world.options);
    },
  );

  it("writes nothing under a damaged key, also where it is known from before, and goes on with the next", async () => {
    const world = new World();
    const known = world.gateway().storage;
    await known.put(refOf("a"), putOf("one"), world.options);
    await rotate(world, 2);
    await known.put(refOf("b"), putOf("two"), world.options);
    const damaged = NAME.replace(/1$/, "2");
    await world.directory.change([{ name: damaged, value: Uint8Array.of(0xff) }]);
    const refusal = { code: "DATA_CORRUPT", outcome: "not_applied" };
    const { storage } = world.gateway();
    for (const each of [known, storage]) {
      const put = each.put(refOf("c"), putOf("v"), world.options);
      await expect(put).rejects.toMatchObject(refusal);
    }
    await expect(storage.get(refOf("b"), world.options)).rejects.toMatchObject({
      code: "DATA_CORRUPT",
    });
    expect((await storage.get(refOf("a"), world.options))?.value).toEqual(Buffer.from("one"));
    await storage.put(refOf("c", OTHER_TENANT), putOf("v"), world.options);
    await rotate(world, 3);
    for (const each of [known, storage]) await each.put(refOf("b"), putOf("new"), world.options);
    expect(dataKeyNumberOf(await world.stored("b"))).toBe(3);
  });

  it("takes a row of no key's name for none", async () => {
    const world = new World();
    const value = Uint8Array.of(0xff);
    await world.directory.change([{ name: "data-key/00000001/nonsense", value }]);
    const { storage } = world.gateway();
    await storage.put(refOf("a"), putOf("v"), world.options);
    expect(dataKeyNumberOf(await world.stored("a"))).toBe(1);
  });

  it("writes nothing when the first key cannot be made", async () => {
    const world = new World();
    const { storage } = world.gateway();
    const unknown = { outcome: "unknown" } as const;
    world.directory.failure = new KvError("DEADLINE_EXCEEDED", "no leader", unknown);
    const put = storage.put(refOf("a"), putOf("v"), world.options);
    await expect(put).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED", outcome: "not_applied" });
    world.directory.failure = undefined;
    await storage.put(refOf("a"), putOf("v"), world.options);
    expect(world.storage.size).toBe(1);
  });
});

describe("shredMutations()", () => {
  it("makes a tenant's values unreadable, here and everywhere, and no other's", async () => {
    const world = new World();
    const gateway = world.gateway();
    for (const tenant of [DEFAULT_TENANT, OTHER_TENANT]) {
      await gateway.storage.put(refOf("a", tenant), putOf("v"), world.options);
    }
    const mutations = shredMutations(world.directory, DEFAULT_TENANT);
    await world.directory.change(mutations);
    expect(world.directory.list("data-key/").map(({ name }) => name)).toEqual([
      "data-key/00000002/00000001",
    ]);
    const ref = refOf("a", OTHER_TENANT);
    expect((await gateway.storage.get(ref, world.options))?.value).toEqual(Buffer.from("v"));
    const reading = gateway.storage.get(refOf("a"), world.options);
    await Promise.resolve();
    await Promise.resolve();
    await new Promise((resolve) => setImmediate(resolve));
    world.clock.advance(DATA_KEY_WAIT_MS_MAX);
    await expect(reading).rejects.toMatchObject({ code: "ENCRYPTION_KEY_MISSING" });
  });
});
