import { describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import { META_GROUP, type Revision, Space, SYSTEM_TENANT } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { dataRowKey } from "#storage-node/engine/layout.ts";
import { openMemory } from "#storage-node/engine/memory.ts";
import { encodeDataRow } from "#storage-node/machine/data-row.ts";
import { MetaReplica, type MetaReplicaOptions } from "./meta-replica.ts";

async function setUp(installing: boolean) {
  const engine = openMemory();
  const key = dataRowKey(META_GROUP, {
    tenant: SYSTEM_TENANT,
    space: Space.Meta,
    key: utf8("cluster"),
  });
  const row = {
    revision: 7 as Revision,
    modifiedAtMs: 1,
    expiresAtMs: 0,
    contentType: "",
    value: utf8("value"),
  };
  const batch = engine.batch();
  batch.put(key, encodeDataRow(row));
  await engine.write(batch);
  const replica = { installing, machine: { revision: 7 } };
  return new MetaReplica({
    engine,
    random: new SeededRandom(1),
    hosted: { get: () => replica } as unknown as MetaReplicaOptions["hosted"],
    loop: {
      pump: { between: async (work: () => unknown) => work() },
    } as unknown as MetaReplicaOptions["loop"],
  });
}

describe("the rows of the local meta replica", () => {
  it("are those of the engine, with the revision that they are of", async () => {
    const { rows, revision } = await (await setUp(false)).rows();
    expect(revision).toBe(7);
    expect(rows.map(({ value }) => new TextDecoder().decode(value))).toEqual(["value"]);
  });

  // They are of no state that the group ever had: half a map would end the node, or mislead it.
  it("are none while a snapshot is being installed", async () => {
    expect(await (await setUp(true)).rows()).toEqual({ rows: [], revision: 0 });
  });
});
