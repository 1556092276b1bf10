/**
 * A data directory in memory, as a machine keeps it from one life of its node to the next: identity, join
 * token, map, founding. A file is replaced as a whole: what is being written when the power goes is there
 * afterwards, or what was there before.
 */
import { assert } from "#shared/assert.ts";
import type { ClusterMap } from "#shared/cluster-map.ts";
import type { Random } from "#shared/random.ts";
import type {
  DataDirectory,
  DataDirectoryOptions,
  Identity,
  Membership,
} from "#storage-node/data-directory.ts";
import type { Founding } from "#storage-node/meta/founding.ts";

/** Writes `done` to the disk of a life, and resolves when it is there; in a dead one never. */
export type WriteFile = (done: () => void) => Promise<void>;

export class DirectoryFiles {
  readonly joinToken: Uint8Array;
  identity: Identity | undefined;
  map: ClusterMap | undefined;
  founding: Founding | undefined;

  constructor(random: Random) {
    this.joinToken = random.fill(new Uint8Array(16));
  }
}

export class SimDirectory implements DataDirectory {
  readonly path = "/data";
  readonly walPath = "/data/wal";
  readonly enginePath = "/data/engine";
  readonly snapshotsPath = "/data/snapshots";
  readonly #files: DirectoryFiles;
  readonly #write: WriteFile;
  readonly #options: DataDirectoryOptions;

  constructor(files: DirectoryFiles, write: WriteFile, options: DataDirectoryOptions) {
    this.#files = files;
    this.#write = write;
    this.#options = options;
  }

  get identity(): Identity | undefined {
    return this.#files.identity;
  }
  get joinToken(): Uint8Array {
    return this.#files.joinToken;
  }
  get map(): ClusterMap | undefined {
    return this.#files.map;
  }
  get founding(): Founding | undefined {
    return this.#files.founding;
  }

  async adopt({ nodeId, map, founding }: Membership): Promise<Identity> {
    assert(this.identity === undefined, "a data directory has one identity for ever");
    await this.saveMap(map);
    await this.#write(() => {
      this.#files.founding = founding;
    });
    const { clock, engine } = this.#options;
    const identity = {
      format: 1,
      clusterId: map.clusterId,
      nodeId,
      engine,
      initialized: false,
      createdAt: new Date(clock.nowMs()).toISOString(),
    };
    await this.#write(() => {
      this.#files.identity = identity;
    });
    return identity;
  }

  saveMap(map: ClusterMap): Promise<void> {
    return this.#write(() => {
      this.#files.map = map;
    });
  }

  async markInitialized(): Promise<void> {
    const { identity } = this;
    assert(identity !== undefined, "only a node's directory is initialized");
    if (identity.initialized) return;
    await this.#write(() => {
      this.#files.identity = { ...identity, initialized: true };
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
