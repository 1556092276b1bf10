/**
 * A process to be killed: `node engine-writer.ts <engine> <directory>` writes numbered batches, and
 * tells the number of each on its output once the engine has taken it.
 */
import { writeSync } from "node:fs";
import { openClassicLevel } from "#storage-node/engine/classic-level.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import { openRocksDb } from "#storage-node/engine/rocksdb.ts";
import { openRocksDbNative } from "#storage-node/engine/rocksdb-native.ts";

export const DISK_ENGINES: Readonly<
  Record<string, (options: { readonly directory: string }) => Promise<Engine>>
> = {
  rocksdb: openRocksDb,
  "rocksdb-native": openRocksDbNative,
  "classic-level": openClassicLevel,
};

export const COUNTER_KEY = Buffer.from("counter");
export const ROWS_PER_BATCH = 3;
export const rowKey = (batch: number, row: number): Uint8Array => Buffer.from(`${batch}/${row}`);

async function writeForEver(engine: Engine): Promise<void> {
  const batch = engine.batch();
  const value = Buffer.alloc(300, 1);
  for (let i = 1; ; i++) {
    batch.put(COUNTER_KEY, Buffer.from(`${i}`));
    for (let row = 0; row < ROWS_PER_BATCH; row++) batch.put(rowKey(i, row), value);
    await engine.write(batch);
    batch.clear();
    writeSync(1, `${i}\n`);
  }
}

if (import.meta.main) {
  const [name = "", directory = ""] = process.argv.slice(2);
  await writeForEver(await DISK_ENGINES[name]!({ directory }));
}
