/** The write-ahead log (first signatures; the body follows). */
import { KvError } from "#shared/errors.ts";
import type { Wal, WalOptions } from "./types.ts";

/** Recovers the log of `options.directory`, or starts one. @throws KvError DATA_CORRUPT */
export function openWal(options: WalOptions): Promise<Wal> {
  return Promise.reject(new KvError("INTERNAL", `no log in ${options.directory} yet`));
}
