import { describe, expect, it } from "vitest";
import { AddressTable } from "./address-table.ts";

const table = (addressesMax: number) => new AddressTable({ rate: 1, burst: 2, addressesMax });

describe("AddressTable", () => {
  it("keeps a bucket for each address", () => {
    const addresses = table(10);
    expect(addresses.bucketOf("a", 0).take(2, 0)).toBe(true);
    expect(addresses.bucketOf("a", 0).take(1, 0)).toBe(false);
    expect(addresses.bucketOf("b", 0).take(1, 0)).toBe(true);
  });

  it("forgets no bucket that is not full, however many addresses come", () => {
    const addresses = table(50);
    addresses.bucketOf("mine", 0).take(2, 0);
    for (let at = 0; at < 5000; at++) addresses.bucketOf(`other ${at}`, 0).take(1, 0);
    expect(addresses.size).toBe(50);
    expect(addresses.bucketOf("mine", 0).take(1, 0)).toBe(false);
    // Time alone gives it back.
    expect(addresses.bucketOf("mine", 1000).take(1, 1000)).toBe(true);
  });

  it("limits the addresses that find no room together", () => {
    const addresses = table(4);
    for (let at = 0; at < 4; at++) addresses.bucketOf(`first ${at}`, 0).take(2, 0);
    let passed = 0;
    for (let at = 0; at < 10_000; at++) {
      if (addresses.bucketOf(`other ${at}`, 0).take(1, 0)) passed++;
    }
    // 256 buckets of two tokens.
    expect(passed).toBeLessThanOrEqual(512);
    expect(passed).toBeGreaterThan(256);
  });

  it("makes room by buckets that are full again", () => {
    const addresses = table(50);
    for (let at = 0; at < 50; at++) addresses.bucketOf(`old ${at}`, 0).take(2, 0);
    for (let at = 0; at < 50; at++) {
      expect(addresses.bucketOf(`new ${at}`, 5000).take(2, 5000)).toBe(true);
      expect(addresses.bucketOf(`new ${at}`, 5000).take(1, 5000)).toBe(false);
    }
    expect(addresses.size).toBe(50);
  });
});
