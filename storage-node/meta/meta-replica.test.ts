import { describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import { META_GROUP, type Revision, Space, SYSTEM_TENANT } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { dataRowKey } from "#storage-node/engine/layout.ts";
import { openMemory } from "#storage-node/engine/memory.ts";
import { encodeDataRow } from "#storage-node/machine/data-row.ts";
import type { HostedReplicas } from "#storage-node/replica/hosted-replicas.ts";
import type { ReadyLoop } from "#storage-node/replica/ready-loop.ts";
import { MetaReplica } from "./meta-replica.ts";

describe("MetaReplica.rows()", () => {
  it("are none while a snapshot takes their place: a part of a map is no map", async () => {
    const engine = openMemory();
    const batch = engine.batch();
    const address = { tenant: SYSTEM_TENANT, space: Space.Meta, key: utf8("cluster") };
    const fields = { revision: 1 as Revision, modifiedAtMs: 1, expiresAtMs: 0, contentType: "" };
    const value = { value: utf8("map"), encoding: 0, logicalSizeBytes: 3 };
    batch.put(dataRowKey(META_GROUP, address), encodeDataRow({ ...fields, ...value }));
    await engine.write(batch);
    const replica = { installing: false, machine: { revision: 7 as Revision } };
    const meta = new MetaReplica({
      hosted: { get: () => replica } as unknown as HostedReplicas,
      engine,
      loop: { pump: { between: async <T>(work: () => T) => work() } } as unknown as ReadyLoop,
      random: new SeededRandom(1),
    });
    expect(await meta.rows()).toMatchObject([{ revision: 1 }]);
    replica.installing = true;
    expect(await meta.rows()).toEqual([]);
  });
});

describe("MetaReplica.leads", () => {
  it("once it has caught up, stays so for the rest of its term", () => {
    const raft = { term: 4 };
    const replica = { isLeader: true, caughtUp: false, raft };
    const meta = new MetaReplica({
      hosted: { get: () => replica } as unknown as HostedReplicas,
      engine: openMemory(),
      loop: {} as ReadyLoop,
      random: new SeededRandom(1),
    });
    expect(meta.leads).toBe(false);
    replica.caughtUp = true;
    expect(meta.leads).toBe(true);
    // Entries of its own are committed, and applied a moment later.
    replica.caughtUp = false;
    expect(meta.leads).toBe(true);
    replica.isLeader = false;
    expect(meta.leads).toBe(false);
    replica.isLeader = true;
    raft.term = 6;
    expect(meta.leads).toBe(false);
    replica.caughtUp = true;
    expect(meta.leads).toBe(true);
  });
});
