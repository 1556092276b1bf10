import { describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import type { Engine } from "./engine.ts";
import { MemoryDisk, openMemory } from "./memory.ts";

async function put(engine: Engine, key: string): Promise<void> {
  const batch = engine.batch();
  batch.put(utf8(key), utf8("value"));
  await engine.write(batch);
}

describe("MemoryDisk", () => {
  it("keeps what was flushed when the engine is dropped, and nothing else", async () => {
    const disk = new MemoryDisk();
    const dropped = openMemory(disk);
    await put(dropped, "flushed");
    await dropped.flush();
    await put(dropped, "lost");
    const engine = openMemory(disk);
    expect(await engine.get(utf8("flushed"))).toEqual(utf8("value"));
    expect(await engine.get(utf8("lost"))).toBeUndefined();
  });

  it("is changed by no write, neither of the dropped engine nor of the new one", async () => {
    const disk = new MemoryDisk();
    const dropped = openMemory(disk);
    for (let i = 0; i < 600; i++) await put(dropped, `key ${i}`);
    await dropped.flush();
    const engine = openMemory(disk);
    for (let i = 600; i < 1200; i++) await put(i % 2 === 0 ? engine : dropped, `key ${i}`);
    expect(openMemory(disk).stats().details).toMatchObject({ rows: 600 });
    expect(engine.stats().details).toMatchObject({ rows: 900 });
  });

  it("keeps everything when the engine is closed", async () => {
    const disk = new MemoryDisk();
    const closed = openMemory(disk);
    await put(closed, "key");
    await closed.close();
    expect(await openMemory(disk).get(utf8("key"))).toEqual(utf8("value"));
  });
});

describe("stats()", () => {
  it("counts rows and bytes through changes, deletions and splits", async () => {
    const engine = openMemory();
    const batch = engine.batch();
    for (let i = 0; i < 1000; i++) batch.put(Uint8Array.of(i >>> 8, i & 255), utf8("12345678"));
    for (let i = 0; i < 1000; i += 2) batch.put(Uint8Array.of(i >>> 8, i & 255), utf8("1"));
    for (let i = 0; i < 1000; i += 4) batch.delete(Uint8Array.of(i >>> 8, i & 255));
    await engine.write(batch);
    expect(engine.stats().details).toMatchObject({ rows: 750 });
    expect(engine.stats().sizeBytes).toBe(500 * 10 + 250 * 3);
  });
});
