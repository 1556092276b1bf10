/** Values there and back, and whatever else storage might give instead of them. */
import fc from "fast-check";
import { compressSync } from "lz4-napi";
import { describe, expect, it } from "vitest";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT, type TenantId } from "#shared/ids.ts";
import { VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { ENCODED_VALUE_SIZE_BYTES_MAX } from "#shared/limits-codec.ts";
import { SeededRandom } from "#shared/random.ts";
import { masterKeys, OTHER_TENANT, refOf, World } from "./testing.ts";
import { dataKeyNumberOf, type EncodedValue } from "./value-codec.ts";

const random = new SeededRandom(3);
const noise = (size: number) => random.fill(new Uint8Array(size));
const text = (size: number) => Buffer.alloc(size, "all work and no play ");
/** In the past: keys that are not there are not waited for. */
const DEADLINE_MS = 0;
const REF = refOf("key");
const DATA_CORRUPT = expect.objectContaining({ code: "DATA_CORRUPT" });

/** As storage would give it. */
const given = ({ value, encoding, logicalSizeBytes }: EncodedValue) => ({
  ...{ value, encoding },
  valueSizeBytes: encoding === 0 ? value.length : logicalSizeBytes,
});

const world = new World();
const { codec } = world.gateway();
const encryptOnly = new World().gateway(masterKeys(0), 0).codec;
const compressOnly = new World().gateway("none").codec;
const neither = new World().gateway("none", 0).codec;

const sealed = async (value: Uint8Array, ref = REF, by = codec) =>
  given(await by.seal(ref, value, DEADLINE_MS));
const opened = async (stored: ReturnType<typeof given>, ref = REF, by = codec) =>
  await by.open(ref, stored, DEADLINE_MS);

describe("ValueCodec", () => {
  it.each([
    ["compression and encryption", codec],
    ["encryption", encryptOnly],
    ["compression", compressOnly],
    ["neither", neither],
  ])("gives back what was stored, whatever its size, with %s", async (_, by) => {
    const anyValue = fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.nat({ max: 3_000 }).map(noise),
      fc.nat({ max: 3_000 }).map(text),
    );
    await fc.assert(
      fc.asyncProperty(anyValue, async (value) => {
        expect(Buffer.compare(await opened(await sealed(value, REF, by), REF, by), value)).toBe(0);
      }),
      { numRuns: 60 },
    );
    for (const size of [0, 1, 512, 513, 65_536, 65_537, VALUE_SIZE_BYTES_MAX]) {
      for (const value of [noise(size), text(size)]) {
        const stored = await sealed(value, REF, by);
        expect(stored.value.length).toBeLessThanOrEqual(ENCODED_VALUE_SIZE_BYTES_MAX);
        expect(stored.valueSizeBytes).toBe(size);
        expect(Buffer.compare(await opened(stored, REF, by), value)).toBe(0);
      }
    }
  });

  it("encrypts the same value in other bytes each time, and adds 43 of them", async () => {
    const value = noise(100);
    const all = await Promise.all(Array.from({ length: 50 }, () => sealed(value)));
    expect(new Set(all.map((stored) => Buffer.from(stored.value).toString("hex"))).size).toBe(50);
    // No two of one session have the same counter, of which the nonce is made.
    const heads = all.map((stored) => Buffer.from(stored.value.subarray(1, 27)).toString("hex"));
    expect(new Set(heads).size).toBe(50);
    expect(all[0]?.value.length).toBe(143);
    expect(Buffer.from(all[0]!.value).includes(value)).toBe(false);
  });

  it("compresses what is above the bound and gets smaller, and leaves alone what is not", async () => {
    const sizes = async (value: Uint8Array, by = compressOnly) => {
      const { value: bytes, encoding } = await by.seal(REF, value, DEADLINE_MS);
      return { bytes: bytes.length, encoding };
    };
    expect(await sizes(text(512))).toEqual({ bytes: 512, encoding: 0 });
    expect((await sizes(text(513))).bytes).toBeLessThan(100);
    expect(await sizes(noise(5_000))).toEqual({ bytes: 5_000, encoding: 0 });
    expect((await sizes(text(100_000))).bytes).toBeLessThan(1_000);
    expect((await sizes(text(5_000), codec)).bytes).toBeLessThan(200);
    expect(await sizes(noise(5_000), codec)).toEqual({ bytes: 5_043, encoding: 1 });
    // A thirty-second of it could be saved.
    const value = Buffer.concat([noise(31_000), text(1_000)]);
    expect(await sizes(value)).toEqual({ bytes: 32_000, encoding: 0 });
  });

  it("refuses a value with any bit flipped, and of any other length", async () => {
    for (const value of [noise(40), text(2_000)]) {
      const stored = await sealed(value);
      for (let bit = 0; bit < stored.value.length * 8; bit++) {
        const bytes = Uint8Array.from(stored.value);
        bytes[bit >>> 3]! ^= 1 << (bit & 7);
        const failure: unknown = await opened({ ...stored, value: bytes }).catch((e: unknown) => e);
        expect(failure).toBeInstanceOf(KvError);
        // A data key of another number does not exist; all else is damage.
        const isNumber = bit >= 8 && bit < 40;
        const code = isNumber ? "ENCRYPTION_KEY_MISSING" : "DATA_CORRUPT";
        expect(failure).toMatchObject({ code });
        if (isNumber) bit += 7;
      }
      for (let size = 0; size < stored.value.length; size++) {
        const cut = { ...stored, value: stored.value.subarray(0, size) };
        await expect(opened(cut)).rejects.toEqual(DATA_CORRUPT);
      }
      const longer = { ...stored, value: Buffer.concat([stored.value, Buffer.alloc(1)]) };
      await expect(opened(longer)).rejects.toEqual(DATA_CORRUPT);
    }
  });

  it("refuses a value at another key, of another tenant, and with another size or encoding", async () => {
    const stored = await sealed(text(600));
    await sealed(text(600), refOf("key", OTHER_TENANT));
    const refused = async (ref: ReturnType<typeof refOf>, change = {}) =>
      expect(opened({ ...stored, ...change }, ref)).rejects.toMatchObject({ code: "DATA_CORRUPT" });
    await refused(refOf("kez"));
    await refused(refOf("key", OTHER_TENANT));
    await refused(REF, { valueSizeBytes: 599 });
    await refused(REF, { valueSizeBytes: VALUE_SIZE_BYTES_MAX + 1 });
    await refused(REF, { encoding: 2 });
    // A key that ends where the other's associated data would go on.
    await refused(refOf("ke"));
  });

  it("allocates nothing for a compressed value that lies about its size", async () => {
    const honest = compressSync(text(5_000));
    const lying = (claim: number, size: number) => {
      const value = Buffer.concat([Buffer.of(1), honest]);
      value.writeUInt32LE(claim, 1);
      return opened({ value, encoding: 1, valueSizeBytes: size }, REF, compressOnly);
    };
    expect((await lying(5_000, 5_000)).length).toBe(5_000);
    await expect(lying(0xffff_ffff, 5_000)).rejects.toEqual(DATA_CORRUPT);
    await expect(lying(0xffff_ffff, 0xffff_ffff)).rejects.toEqual(DATA_CORRUPT);
    await expect(lying(5_001, 5_001)).rejects.toEqual(DATA_CORRUPT);
    await expect(lying(4_999, 4_999)).rejects.toEqual(DATA_CORRUPT);
    await expect(lying(100_000, 100_000)).rejects.toEqual(DATA_CORRUPT);
    const cut = { value: Buffer.of(1, 5), encoding: 1, valueSizeBytes: 5 };
    await expect(opened(cut, REF, compressOnly)).rejects.toEqual(DATA_CORRUPT);
  });

  it("decompresses hostile bytes to nothing but an error or the right size", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 100 }),
        fc.nat({ max: 200 }),
        async (rest, size) => {
          const value = Buffer.concat([Buffer.of(1), Buffer.alloc(4), rest]);
          value.writeUInt32LE(size, 1);
          const stored = { value, encoding: 1, valueSizeBytes: size };
          const result = await opened(stored, REF, compressOnly).catch((e: unknown) => e);
          if (result instanceof Uint8Array) expect(result.length).toBe(size);
          else expect(result).toMatchObject({ code: "DATA_CORRUPT" });
        },
      ),
    );
  });

  it("tells under which key a value is, without any key", async () => {
    expect(dataKeyNumberOf(await sealed(noise(10)))).toBe(1);
    expect(dataKeyNumberOf(await sealed(text(900), REF, compressOnly))).toBeUndefined();
    expect(dataKeyNumberOf({ value: noise(9), valueSizeBytes: 9 })).toBeUndefined();
  });

  it("gives each tenant a key of its own", async () => {
    for (const tenant of [DEFAULT_TENANT, OTHER_TENANT, 0xffff_ffff as TenantId]) {
      const ref = refOf("key", tenant);
      expect(await opened(await sealed(text(40), ref), ref)).toEqual(text(40));
    }
    const names = world.directory.list("data-key/").map(({ name }) => name);
    expect(names).toEqual([
      "data-key/00000001/00000001",
      "data-key/00000002/00000001",
      "data-key/ffffffff/00000001",
    ]);
  });
});
