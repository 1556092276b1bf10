/** The local replica of the meta group, as `MetaStore` wants it. */

import { failureOf } from "#proto/codec/failure.ts";
import type { Mutation, ResultBody } from "#proto/codec/messages.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
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
import type { Engine } from "#storage-node/engine/engine.ts";
import { dataRowAddress, dataRowKey, RowKind, rowsOf } from "#storage-node/engine/layout.ts";
import { decodeDataRow } from "#storage-node/machine/data-row.ts";
import { readRows } from "#storage-node/machine/read-rows.ts";
import type { HostedReplicas } from "#storage-node/replica/hosted-replicas.ts";
import type { ReadyLoop } from "#storage-node/replica/ready-loop.ts";
import type { MetaRow } from "./map-rows.ts";
import type { MetaGroup } from "./meta-store.ts";

const ROWS_PER_READ = 512;

export type MetaReplicaOptions = {
  readonly hosted: HostedReplicas;
  readonly engine: Engine;
  readonly loop: ReadyLoop;
  readonly random: Random;
};

export class MetaReplica implements MetaGroup {
  readonly #options: MetaReplicaOptions;

  constructor(options: MetaReplicaOptions) {
    this.#options = options;
  }

  get leads(): boolean {
    return this.#options.hosted.get(META_GROUP)?.caughtUp ?? false;
  }

  get leader(): NodeId {
    const leader = this.#options.hosted.get(META_GROUP)?.raft.leader ?? 0;
    return leader === 0 ? (0 as NodeId) : nodeOfReplica(leader);
  }

  async rows(): Promise<{ readonly rows: readonly MetaRow[]; readonly revision: Revision }> {
    const { engine, loop, hosted } = this.#options;
    const rows: MetaRow[] = [];
    // In one turn, between two rounds of apply: rows and revision belong together.
    const { view, revision, isWhole } = await loop.pump.between(() => {
      const replica = hosted.get(META_GROUP);
      const at = replica?.machine.revision ?? (0 as Revision);
      return { view: engine.snapshot(), revision: at, isWhole: replica?.installing !== true };
    });
    try {
      // A snapshot is taking the place of the rows: a part of a map would be taken for all of it.
      if (!isWhole) return { rows, revision };

      const start = dataRowKey(META_GROUP, {
        tenant: SYSTEM_TENANT,
        space: Space.Meta,
        key: EMPTY_BYTES,
      });
      const { end } = rowsOf(RowKind.Data, META_GROUP);
      await readRows(view, { start, end }, ROWS_PER_READ, (row) => {
        const { tenant, space, key } = dataRowAddress(row.key);
        if (tenant !== SYSTEM_TENANT || space !== Space.Meta) return false;
        const data = decodeDataRow(row.value);
        rows.push({ key, value: data.value, revision: data.revision });
        return true;
      });
    } finally {
      await view.close();
    }
    return { rows, revision };
  }

  write(
    mutations: readonly Mutation[],
    deadlineMs: number,
    done: (body: ResultBody) => void,
  ): void {
    const { hosted, loop, random } = this.#options;
    const replica = hosted.get(META_GROUP);
    if (replica === undefined) {
      done(failureOf("NOT_LEADER", "the meta group has no replica here", { notApplied: true }));
      return;
    }
    const requestId = random.fill(new Uint8Array(REQUEST_ID_SIZE_BYTES));
    if (replica.write({ requestId, deadlineMs, mutations }, done)) loop.markDirty(replica);
  }
}
