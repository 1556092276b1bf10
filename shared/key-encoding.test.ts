/** The encoding of tenant, space and key: its order and its round trip. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compareBytes, equalBytes, utf8 } from "./bytes.ts";
import { Space, type TenantId } from "./ids.ts";
import { decodeKey, encodedKeySizeBytes, encodeKey } from "./key-encoding.ts";
import type { KeyAddress } from "./vshard.ts";

const anyAddress = (): fc.Arbitrary<KeyAddress> =>
  fc.record({
    tenant: fc.oneof(
      fc.constantFrom(0, 1, 0xff, 0x100, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff),
      fc.integer({ min: 0, max: 0xffff_ffff }),
    ) as fc.Arbitrary<TenantId>,
    space: fc.integer({ min: 0, max: 255 }) as fc.Arbitrary<Space>,
    key: fc.oneof(
      fc.uint8Array({ maxLength: 20 }),
      fc.array(fc.constantFrom(0, 1, 0xff), { maxLength: 4 }).map((list) => Uint8Array.from(list)),
    ),
  });

function encoded(address: KeyAddress): Uint8Array {
  const target = new Uint8Array(encodedKeySizeBytes(address));
  expect(encodeKey(target, 0, address)).toBe(target.length);
  return target;
}

describe("encodeKey()", () => {
  it("writes the bytes that are on disk", () => {
    const address = { tenant: 0x0102_0304 as TenantId, space: Space.Kv, key: utf8("key") };
    expect([...encoded(address)]).toEqual([1, 2, 3, 4, 1, 0x6b, 0x65, 0x79]);
  });

  it("writes what decodeKey() reads, at any offset", () => {
    fc.assert(
      fc.property(anyAddress(), fc.nat({ max: 9 }), (address, offset) => {
        const target = new Uint8Array(offset + encodedKeySizeBytes(address));
        encodeKey(target, offset, address);
        const { tenant, space, key } = decodeKey(target, offset);
        expect([tenant, space, [...key]]).toEqual([
          ...[address.tenant, address.space, [...address.key]],
        ]);
      }),
    );
  });

  it("keeps order: by tenant, then space, then key", () => {
    fc.assert(
      fc.property(anyAddress(), anyAddress(), fc.nat({ max: 2 }), (a, other, same) => {
        // Equal heads are what makes the later parts decide.
        const b = {
          tenant: same >= 1 ? a.tenant : other.tenant,
          space: same >= 2 ? a.space : other.space,
          key: other.key,
        };
        const order = Math.sign(compareBytes(encoded(a), encoded(b)));
        expect(order).toBe(
          Math.sign(a.tenant - b.tenant) ||
            Math.sign(a.space - b.space) ||
            Math.sign(compareBytes(a.key, b.key)),
        );
      }),
    );
  });
});

describe("decodeKey()", () => {
  it("gives the key as a view, and rejects a cut head", () => {
    const bytes = encoded({ tenant: 1 as TenantId, space: Space.Kv, key: utf8("key") });
    expect(decodeKey(bytes, 0).key.buffer).toBe(bytes.buffer);
    expect(equalBytes(decodeKey(bytes.subarray(0, 5), 0).key, new Uint8Array(0))).toBe(true);
    expect(() => decodeKey(bytes.subarray(0, 4), 0)).toThrow(RangeError);
    expect(() => decodeKey(bytes, 4)).toThrow(RangeError);
  });
});
