/** The local replica of the meta group, as `MetaStore` and the directory want it. */

import { failureOf } from "#proto/codec/failure.ts";
import type { Command, Mutation, ResultBody } from "#proto/codec/messages.ts";
import { EMPTY_BYTES, latin1, utf8 } from "#shared/bytes.ts";
import {
  META_GROUP,
  type NodeId,
  nodeOfReplica,
  type Revision,
  Space,
  SYSTEM_TENANT,
} from "#shared/ids.ts";
import { REQUEST_ID_SIZE_BYTES } from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import type { Engine, EngineSnapshot } from "#storage-node/engine/engine.ts";
import { dataRowAddress, dataRowKey, dataRowsRange } from "#storage-node/engine/layout.ts";
import { decodeDataRow } from "#storage-node/machine/data-row.ts";
import { readRows } from "#storage-node/machine/read-rows.ts";
import type { HostedReplicas } from "#storage-node/replica/hosted-replicas.ts";
import type { ReadyLoop } from "#storage-node/replica/ready-loop.ts";
import type { DirectoryValue } from "./directory-rows.ts";
import type { DirectoryGroup, DirectoryReading } from "./directory-table.ts";
import { CLUSTER_KEY, type MetaRow } from "./map-rows.ts";
import type { MetaGroup } from "./meta-store.ts";

const ROWS_PER_READ = 512;

export type MetaReplicaOptions = {
  readonly hosted: HostedReplicas;
  readonly engine: Engine;
  readonly loop: ReadyLoop;
  readonly random: Random;
};

export class MetaReplica implements MetaGroup, DirectoryGroup {
  readonly #options: MetaReplicaOptions;
  /** The last term in which it led and had caught up; 0 for none. */
  #caughtUpTerm = 0;

  constructor(options: MetaReplicaOptions) {
    this.#options = options;
  }

  /**
   * Once it has caught up, it stays so for the rest of its term: what is committed from then on it has
   * proposed itself. Between commit and apply it would otherwise seem to lose the lead and gain it again.
   */
  get leads(): boolean {
    const replica = this.#options.hosted.get(META_GROUP);
    if (!replica?.isLeader) return false;
    if (replica.caughtUp) this.#caughtUpTerm = replica.raft.term;
    return this.#caughtUpTerm === replica.raft.term;
  }

  get leader(): NodeId {
    const leader = this.#options.hosted.get(META_GROUP)?.raft.leader ?? 0;
    return leader === 0 ? (0 as NodeId) : nodeOfReplica(leader);
  }

  get term(): number {
    return this.#options.hosted.get(META_GROUP)?.raft.term ?? 0;
  }

  get revision(): number {
    return this.#options.hosted.get(META_GROUP)?.machine.revision ?? 0;
  }

  get lastIndex(): number {
    return this.#options.hosted.get(META_GROUP)?.raft.lastIndex ?? 0;
  }

  get appliedIndex(): number {
    return this.#options.hosted.get(META_GROUP)?.applied.index ?? 0;
  }

  async rows(): Promise<readonly MetaRow[]> {
    return await this.#read(
      Space.Meta,
      () => undefined,
      async ({ all }) => await all(),
    );
  }

  async clusterRevision(): Promise<Revision> {
    const key = utf8(CLUSTER_KEY);
    return await this.#read(
      Space.Meta,
      () => undefined,
      async ({ one }) => {
        return (await one(key))?.revision ?? (0 as Revision);
      },
    );
  }

  async directory(names: () => readonly string[] | undefined): Promise<DirectoryReading> {
    return await this.#read(Space.Directory, names, async ({ taken, revision, all, one }) => {
      const rows = new Map<string, DirectoryValue | undefined>();
      // In memory for long: a view would keep all that was read beside it.
      const add = (name: string, row: MetaRow | undefined): void =>
        void rows.set(name, row && { value: new Uint8Array(row.value), revision: row.revision });
      if (taken === undefined) for (const row of await all()) add(latin1(row.key), row);
      else for (const name of taken) add(name, await one(utf8(name)));
      return { isAll: taken === undefined, rows, revision };
    });
  }

  /**
   * Reads rows of the meta group as they are at one moment, between two rounds of apply: so the rows
   * belong together, and with the group's revision. `take` is called at that moment.
   */
  async #read<N, T>(
    space: Space,
    take: () => N,
    use: (at: {
      readonly taken: N;
      readonly revision: Revision;
      readonly all: () => Promise<readonly MetaRow[]>;
      readonly one: (key: Uint8Array) => Promise<MetaRow | undefined>;
    }) => Promise<T>,
  ): Promise<T> {
    const { engine, loop, hosted } = this.#options;
    const { view, isWhole, ...at } = await loop.pump.between(() => {
      const replica = hosted.get(META_GROUP);
      const revision = replica?.machine.revision ?? (0 as Revision);
      // A snapshot is taking the place of the rows: a part of a map would be taken for all of it.
      const isWhole = replica?.installing !== true;
      return { view: engine.snapshot(), revision, isWhole, taken: take() };
    });
    try {
      return await use({
        ...at,
        all: async () => (isWhole ? await allRows(view, space) : []),
        one: async (key) => (isWhole ? await oneRow(view, space, key) : undefined),
      });
    } finally {
      await view.close();
    }
  }

  write(
    mutations: readonly Mutation[],
    deadlineMs: number,
    done: (body: ResultBody) => void,
  ): void {
    const requestId = this.#options.random.fill(new Uint8Array(REQUEST_ID_SIZE_BYTES));
    this.propose({ requestId, deadlineMs, mutations }, done);
  }

  propose(command: Command, done: (body: ResultBody) => void): void {
    const { hosted, loop } = this.#options;
    const replica = hosted.get(META_GROUP);
    if (replica === undefined) {
      done(failureOf("NOT_LEADER", "the meta group has no replica here", { notApplied: true }));
      return;
    }
    if (replica.write(command, done)) loop.markDirty(replica);
  }
}

async function allRows(view: EngineSnapshot, space: Space): Promise<readonly MetaRow[]> {
  const rows: MetaRow[] = [];
  const tenant = SYSTEM_TENANT;
  const range = dataRowsRange(META_GROUP, { tenant, space, start: EMPTY_BYTES, end: EMPTY_BYTES });
  await readRows(view, range, ROWS_PER_READ, (row) => {
    rows.push(metaRow(dataRowAddress(row.key).key, row.value));
    return true;
  });
  return rows;
}

async function oneRow(
  view: EngineSnapshot,
  space: Space,
  key: Uint8Array,
): Promise<MetaRow | undefined> {
  const found = await view.get(dataRowKey(META_GROUP, { tenant: SYSTEM_TENANT, space, key }));
  return found && metaRow(key, found);
}

function metaRow(key: Uint8Array, bytes: Uint8Array): MetaRow {
  const { value, revision } = decodeDataRow(bytes);
  return { key, value, revision };
}
