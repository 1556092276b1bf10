/** One contract for the operating system's files and the disk in memory; and the log on real files. */
import { mkdtemp, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "#shared/clock.ts";
import { systemRandom } from "#shared/random.ts";
import {
  closeFile,
  datasync,
  fileSize,
  listDirectory,
  makeDirectory,
  openFile,
  readFully,
  renameFile,
  syncDirectory,
  unlinkFile,
  writeFully,
} from "./file-promises.ts";
import { nodeFileSystem, type WalFileSystem } from "./file-system.ts";
import { MemoryFileSystem } from "./memory-file-system.ts";
import { appendDurably, compact, entries, entry, GROUP, NODE, snapshot } from "./test-support.ts";
import type { Wal } from "./types.ts";
import { openWal } from "./wal.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "minikv-wal-"));
});
afterEach(() => rm(directory, { recursive: true }));

const systems: readonly [string, () => WalFileSystem][] = [
  ["nodeFileSystem()", nodeFileSystem],
  ["MemoryFileSystem", () => new MemoryFileSystem()],
];

for (const [name, make] of systems) {
  describe(name, () => {
    it("writes, reads, renames, lists and removes", async () => {
      const fs = make();
      const inner = join(directory, "a", "b");
      await makeDirectory(fs, inner);
      await makeDirectory(fs, inner);
      const file = await openFile(fs, join(inner, "one"), "create");
      await writeFully(file, Uint8Array.of(1, 2, 3, 4), 6);
      await writeFully(file, Uint8Array.of(9), 7);
      await datasync(file);
      expect(await fileSize(file)).toBe(10);
      const bytes = new Uint8Array(5);
      await readFully(file, bytes, 5);
      expect(bytes).toEqual(Uint8Array.of(0, 1, 9, 3, 4));
      await expect(readFully(file, bytes, 6)).rejects.toThrow(/read 4 bytes only/);
      await closeFile(file);
      await renameFile(fs, join(inner, "one"), join(inner, "two"));
      await syncDirectory(fs, inner);
      expect(await listDirectory(fs, inner)).toEqual(["two"]);
      const again = await openFile(fs, join(inner, "two"), "existing");
      expect(await fileSize(again)).toBe(10);
      await closeFile(again);
      await unlinkFile(fs, join(inner, "two"));
      expect(await listDirectory(fs, inner)).toEqual([]);
    });

    it("empties a file that is created again", async () => {
      const fs = make();
      const path = join(directory, "file");
      const first = await openFile(fs, path, "create");
      await writeFully(first, Uint8Array.of(1), 0);
      await closeFile(first);
      const second = await openFile(fs, path, "create");
      expect(await fileSize(second)).toBe(0);
      await closeFile(second);
    });

    it("answers ENOENT for what does not exist", async () => {
      const fs = make();
      const path = join(directory, "nothing");
      const failure = { code: "ENOENT" };
      await expect(openFile(fs, path, "existing")).rejects.toMatchObject(failure);
      await expect(unlinkFile(fs, path)).rejects.toMatchObject(failure);
      await expect(renameFile(fs, path, `${path}2`)).rejects.toMatchObject(failure);
    });
  });
}

describe("openWal() on real files", () => {
  async function openIt(): Promise<Wal> {
    return openWal({
      directory: join(directory, "wal"),
      nodeId: NODE,
      segmentSizeBytes: 64 * 1024,
      fs: nodeFileSystem(),
      clock: systemClock(),
      random: systemRandom(),
      onFatal: (error) => {
        throw error;
      },
    });
  }

  it("keeps what was appended over rotations, removals and restarts", async () => {
    const first = await openIt();
    await appendDurably(first, snapshot(0, 0));
    const pending: Promise<void>[] = [];
    for (let index = 1; index <= 300; index++) {
      pending.push(appendDurably(first, entries(entry(index, new Uint8Array(1000).fill(index)))));
      if (index % 7 === 0) await pending.at(-1);
    }
    await Promise.all(pending);
    await appendDurably(first, compact(200));
    expect(await first.removeObsoleteSegments()).toBeGreaterThan(1);
    await first.close();
    const second = await openIt();
    const found = second.recovery.groups.get(GROUP);
    expect(found?.entries).toHaveLength(100);
    expect(found?.entries[0]).toEqual(entry(201, new Uint8Array(1000).fill(201)));
    await appendDurably(second, entries(entry(301)));
    await second.close();
    const third = await openIt();
    expect(third.recovery.groups.get(GROUP)?.entries).toHaveLength(101);
    await third.close();
  });

  it("refuses a segment that was cut", async () => {
    const wal = await openIt();
    await appendDurably(wal, snapshot(0, 0), entries(entry(1)));
    await wal.close();
    await truncate(join(directory, "wal", "0000000000000001.wal"), 5000);
    await expect(openIt()).rejects.toMatchObject({ code: "DATA_CORRUPT" });
  });
});
