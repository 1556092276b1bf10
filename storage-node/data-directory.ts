/** Identity and lock of a data directory (first signatures; the body follows). */
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import type { NodeId } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";

export type Identity = {
  /** Of the whole directory's layout. */
  readonly format: number;
  readonly clusterId: string;
  readonly nodeId: NodeId;
  /** Name of the storage engine: its files are only readable by it. */
  readonly engine: string;
  readonly createdAt: string;
};

export type DataDirectoryOptions = {
  readonly path: string;
  /** Must match the directory's. Undefined: any; a fresh directory then draws one. */
  readonly clusterId?: string | undefined;
  readonly nodeId: NodeId;
  readonly engine: string;
  readonly clock: Clock;
  readonly random: Random;
};

export type DataDirectory = {
  readonly path: string;
  readonly identity: Identity;
  /** The directory was empty, and is now a node's. */
  readonly created: boolean;
  readonly walPath: string;
  readonly enginePath: string;
  /** Releases the lock. Idempotent. */
  close(): Promise<void>;
};

export function openDataDirectory(options: DataDirectoryOptions): Promise<DataDirectory> {
  return Promise.reject(new KvError("INTERNAL", `cannot open ${options.path} yet`));
}
