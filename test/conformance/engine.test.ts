/** Runs the engine suite over every engine that loads on this machine. */
import { openClassicLevel } from "#storage-node/engine/classic-level.ts";
import { MemoryDisk, openMemory } from "#storage-node/engine/memory.ts";
import { openRocksDb } from "#storage-node/engine/rocksdb.ts";
import { openRocksDbNative } from "#storage-node/engine/rocksdb-native.ts";
import { engineConformance } from "./engine.ts";

const disks = new Map<string, MemoryDisk>();

engineConformance("memory", async (directory) => {
  const disk = disks.get(directory) ?? new MemoryDisk();
  disks.set(directory, disk);
  return openMemory(disk);
});
engineConformance("rocksdb", (directory) => openRocksDb({ directory }));
engineConformance("rocksdb-native", (directory) => openRocksDbNative({ directory }));
engineConformance("classic-level", (directory) => openClassicLevel({ directory }));
