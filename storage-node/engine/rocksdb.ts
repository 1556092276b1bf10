/**
 * RocksDB through the binding that loads on this machine.
 *
 * `@nxtedition/rocksdb` reads and writes faster, and exists for linux-x64 with AVX2 and darwin-arm64;
 * `rocksdb-native` serves the rest. Both open each other's directories, so data may move between
 * machines. `name` and `stats()` of the engine tell which one runs.
 */
import type { Engine } from "./engine.ts";
import { loadRocksDbBinding } from "./rocksdb-binding.ts";
import { openRocksDbNative } from "./rocksdb-native.ts";
import { openRocksDbNxtedition } from "./rocksdb-nxtedition.ts";
import type { RocksDbOptions } from "./rocksdb-options.ts";

/**
 * @throws KvError UNAVAILABLE when no binding loads or the directory is in use, DATA_CORRUPT when its
 *   files are damaged, STORAGE_FULL
 */
export function openRocksDb(options: RocksDbOptions): Promise<Engine> {
  const loaded = loadRocksDbBinding();
  return loaded.kind === "loaded"
    ? openRocksDbNxtedition(loaded.binding, options)
    : openRocksDbNative(options);
}
