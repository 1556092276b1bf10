/** What routes see of encrypted storage is what they would see of plain storage. */
import { describe, expect, it } from "vitest";
import type { BatchOperation, Storage, StoredValue } from "#gateway/storage/storage.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { DEFAULT_TENANT, type Revision } from "#shared/ids.ts";
import { VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { masterKeys, putOf, refOf, World } from "./testing.ts";

const random = new SeededRandom(5);
const VALUES: readonly Uint8Array[] = [
  EMPTY_BYTES,
  utf8("small"),
  Buffer.alloc(2_000, "compressible "),
  random.fill(new Uint8Array(3_000)),
  Buffer.alloc(200_000, "large and compressible "),
  random.fill(new Uint8Array(VALUE_SIZE_BYTES_MAX)),
];
const all = { tenant: DEFAULT_TENANT, start: EMPTY_BYTES, end: EMPTY_BYTES };

const FORMS: readonly (readonly [string, (world: World) => Storage])[] = [
  ["plain storage", (world) => world.storage],
  ["compression and encryption", (world) => world.gateway().storage],
  ["encryption", (world) => world.gateway(masterKeys(0), 0).storage],
  ["compression", (world) => world.gateway("none").storage],
  ["neither", (world) => world.gateway("none", 0).storage],
];

function setUp(make: (world: World) => Storage) {
  const world = new World();
  const storage = make(world);
  const options = world.options;
  const admitted: number[] = [];
  const admitValue = (size: number) => {
    admitted.push(size);
    return undefined;
  };
  const batch = (operations: readonly BatchOperation[]) =>
    storage.batch(DEFAULT_TENANT, operations, { ...options, admitValue });
  const putAll = async () => {
    for (const [i, value] of VALUES.entries()) {
      await storage.put(refOf(`key ${i}`), putOf(value), options);
    }
  };
  return { world, storage, options, admitted, batch, putAll };
}

const same = (stored: StoredValue | undefined, value: Uint8Array) => {
  expect(stored?.valueSizeBytes).toBe(value.length);
  expect(Buffer.compare(stored!.value, value)).toBe(0);
};

describe.each(FORMS)("Storage with %s", (_, make) => {
  it("gives back values, their sizes, types and times", async () => {
    const { storage, options, putAll, world } = setUp(make);
    await putAll();
    for (const [i, value] of VALUES.entries()) {
      const found = await storage.get(refOf(`key ${i}`), options);
      same(found, value);
      expect(found).toMatchObject({
        ...{ revision: i + 1, contentType: "text/plain", expiresAtMs: 0 },
        modifiedAtMs: world.clock.nowMs(),
      });
      const head = await storage.get(refOf(`key ${i}`), { ...options, metadataOnly: true });
      expect(head).toMatchObject({ value: EMPTY_BYTES, valueSizeBytes: value.length });
    }
    expect(await storage.get(refOf("none"), options)).toBeUndefined();
  });

  it("keeps conditions, times to live and deletes", async () => {
    const { storage, options, world } = setUp(make);
    const none = { mustBeAbsent: false, mustExist: false, revisionIs: [], revisionIsNot: [] };
    const absent = { ...none, mustBeAbsent: true };
    const put = { ...putOf("one"), ttlMs: 500, condition: absent };
    expect(await storage.put(refOf("a"), put, options)).toEqual({
      ...{ kind: "stored", revision: 1, created: true },
    });
    expect(await storage.put(refOf("a"), put, options)).toEqual({
      ...{ kind: "conditionFailed", revision: 1 },
    });
    expect((await storage.get(refOf("a"), options))?.expiresAtMs).toBe(world.clock.nowMs() + 500);
    const second = { ...none, revisionIs: [1 as Revision] };
    await storage.put(refOf("a"), { ...putOf("two"), condition: second }, options);
    expect(await storage.delete(refOf("a"), second, options)).toMatchObject({
      kind: "conditionFailed",
    });
    expect(await storage.delete(refOf("a"), undefined, options)).toMatchObject({ kind: "deleted" });
  });

  it("answers the operations of a batch in their order, with sizes as clients see them", async () => {
    const { batch, admitted } = setUp(make);
    const puts = VALUES.map(
      (value, i) => ({ kind: "put", key: utf8(`key ${i}`), ...putOf(value) }) as const,
    );
    const gets = VALUES.map((_, i) => ({ kind: "get", key: utf8(`key ${i}`) }) as const);
    const outcomes = await batch([
      ...puts,
      { kind: "get", key: utf8("none") },
      ...gets,
      { kind: "delete", key: utf8("key 1") },
      { kind: "get", key: utf8("key 1") },
    ]);
    expect(outcomes.map(({ kind }) => kind)).toEqual([
      ...puts.map(() => "stored"),
      "absent",
      ...gets.map(() => "found"),
      ...["deleted", "absent"],
    ]);
    for (const [i, value] of VALUES.entries()) {
      const outcome = outcomes[VALUES.length + 1 + i]!;
      if (outcome.kind !== "found") throw new Error("a value was expected");
      same(outcome.stored, value);
    }
    expect(admitted).toEqual(VALUES.map(({ length }) => length));
  });

  it("gives pages whose bounds count what clients get", async () => {
    const { storage, options, putAll } = setUp(make);
    await putAll();
    const scan = storage.scan({ ...all, reverse: false, keysOnly: false, isStream: false });
    const first = await scan.nextPage({ rowsMax: 10, bytesMax: 100_000 }, options);
    expect(first.hasMore).toBe(true);
    const second = await scan.nextPage({ rowsMax: 10, bytesMax: 100_000 }, options);
    const third = await scan.nextPage({ rowsMax: 10, bytesMax: 100_000 }, options);
    const pages = [first, second, third].map(({ rows }) => rows);
    expect(pages.map(({ length }) => length)).toEqual([4, 1, 1]);
    for (const [i, row] of pages.flat().entries()) {
      same(row, VALUES[i]!);
      expect(row.key).toEqual(Buffer.from(`key ${i}`));
    }
    const keys = storage.scan({ ...all, reverse: true, keysOnly: true, isStream: false });
    const { rows } = await keys.nextPage({ rowsMax: 10, bytesMax: 1_000 }, options);
    expect(rows.map(({ valueSizeBytes }) => valueSizeBytes)).toEqual(
      VALUES.map(({ length }) => length).reverse(),
    );
    expect(rows.every(({ value }) => value.length === 0)).toBe(true);
    expect(await storage.count(all, options)).toBe(VALUES.length);
  });
});

describe("SealedStorage", () => {
  it("reads what was stored before encryption was switched on, also if it looks encrypted", async () => {
    const world = new World();
    const plain = world.gateway("none", 0).storage;
    await plain.put(refOf("a"), putOf("plain"), world.options);
    const sealed = world.gateway().storage;
    await sealed.put(refOf("b"), putOf("sealed"), world.options);
    // The very bytes of an encrypted value, stored by a client as a value of its own.
    const bytes = (await world.stored("b")).value;
    await world.storage.put(refOf("c"), putOf(bytes), world.options);
    for (const [key, value] of [
      ["a", utf8("plain")],
      ["b", utf8("sealed")],
      ["c", bytes],
    ] as const) {
      same(await sealed.get(refOf(key), world.options), value);
    }
  });

  it("stores nothing that can be read", async () => {
    const { world, putAll, storage, options } = setUp((w) => w.gateway().storage);
    const marker = "a text that is looked for";
    await putAll();
    await storage.put(refOf("m"), putOf(marker.repeat(100)), options);
    await storage.put(refOf("n"), putOf(marker), options);
    for (const key of ["m", "n"]) {
      const { value, encoding } = await world.stored(key);
      expect(encoding).toBe(1);
      expect(Buffer.from(value).includes("looked")).toBe(false);
    }
  });

  it("lets the other operations of a batch go on when one value is damaged", async () => {
    const { world, batch, storage, options } = setUp((w) => w.gateway().storage);
    await storage.put(refOf("a"), putOf("whole"), options);
    await storage.put(refOf("b"), putOf("damaged"), options);
    const stored = await world.stored("b");
    stored.value[40]! ^= 1;
    const outcomes = await batch([
      { kind: "get", key: utf8("b") },
      { kind: "put", key: utf8("c"), ...putOf("new") },
      { kind: "get", key: utf8("a") },
    ]);
    expect(outcomes).toMatchObject([
      { kind: "failed", error: { code: "DATA_CORRUPT" } },
      { kind: "stored" },
      { kind: "found" },
    ]);
    const scan = storage.scan({ ...all, reverse: false, keysOnly: false, isStream: true });
    const page = scan.nextPage({ rowsMax: 10, bytesMax: 1_000 }, options);
    await expect(page).rejects.toMatchObject({ code: "DATA_CORRUPT" });
  });
});
