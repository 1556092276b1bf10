/** What is read, hashed and deleted of a group as a whole: its rows of every kind, and no others'. */
import { beforeEach, describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import {
  DEFAULT_TENANT,
  type GroupId,
  type LogIndex,
  META_GROUP,
  type ReplicaId,
  type Revision,
  Space,
  type Term,
  toGroupId,
} from "#shared/ids.ts";
import { ROWS_PER_STEP_MAX } from "#shared/limits.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import {
  configurationRowKey,
  countersRowKey,
  dataRowKey,
  expiryRowKey,
  journalRowKey,
  rowHead,
} from "#storage-node/engine/layout.ts";
import { openMemory } from "#storage-node/engine/memory.ts";
import { encodeJournalRow } from "#storage-node/machine/journal.ts";
import { encodeConfiguration, simpleConfiguration } from "#storage-node/raft/configuration.ts";
import { loadConfiguration } from "./configuration-row.ts";
import { purgeGroup } from "./purge-group.ts";
import { stateHash } from "./state-hash.ts";
import { TestGroup } from "./testing.ts";

const GROUPS = [0, 5, 6, META_GROUP].map(toGroupId);
const GROUP = 5 as GroupId;
const MEMBERS = simpleConfiguration([1, 2, 3] as ReplicaId[]);

const address = (name: string) => ({
  tenant: DEFAULT_TENANT,
  space: Space.Kv,
  key: utf8(name),
});

function put(engine: Engine, key: Uint8Array, value: Uint8Array = utf8("value")): void {
  const batch = engine.batch();
  batch.put(key, value);
  void engine.write(batch);
}

function putJournal(engine: Engine, group: GroupId, index: number, revision = index): void {
  const row = { term: 3 as Term, logTimeMs: 9, dedupeUntilMs: 9, changes: [], results: [] };
  const position = { revision: revision as Revision, index: index as LogIndex };
  put(engine, journalRowKey(group, position), encodeJournalRow(row));
}

function fill(engine: Engine, group: GroupId): void {
  for (const name of ["a", "b", "c"]) put(engine, dataRowKey(group, address(name)));
  put(engine, expiryRowKey(group, 1000, address("a")), new Uint8Array(0));
  put(engine, countersRowKey(group, DEFAULT_TENANT));
  put(engine, configurationRowKey(group), encodeConfiguration(MEMBERS));
  for (const index of [1, 2, 3]) putJournal(engine, group, index);
}

async function groupsIn(engine: Engine): Promise<Set<GroupId>> {
  const rows = await engine.iterate({}).next(10_000);
  return new Set(rows.map(({ key }) => rowHead(key).group));
}

let engine: Engine;
beforeEach(() => {
  engine = openMemory();
  for (const group of GROUPS) fill(engine, group);
});

describe("purgeGroup()", () => {
  it.each(GROUPS)("deletes all rows of group %i, and of no other", async (group) => {
    expect(await purgeGroup(engine, group)).toBe(9);
    const others = GROUPS.filter((other) => other !== group);
    expect(await groupsIn(engine)).toEqual(new Set(others));
    expect(await purgeGroup(engine, group)).toBe(0);
  });

  it("works in steps, and stops between two of them when told", async () => {
    for (let i = 0; i < 2 * ROWS_PER_STEP_MAX; i++) {
      put(engine, dataRowKey(GROUP, address(`more ${i}`)));
    }
    let steps = 0;
    const purged = await purgeGroup(engine, GROUP, () => steps++ < 1);
    expect(purged).toBe(ROWS_PER_STEP_MAX);
    expect(await groupsIn(engine)).toContain(GROUP);
    await purgeGroup(engine, GROUP);
    expect(await groupsIn(engine)).not.toContain(GROUP);
  });
});

describe("stateHash()", () => {
  const hashOf = (group: GroupId) => stateHash(group, engine.snapshot());

  it("tells index, term and revision of the last entry, and zeros of an empty group", async () => {
    expect(await hashOf(GROUP)).toMatchObject({ index: 3, term: 3, revision: 3 });
    expect(await hashOf(99 as GroupId)).toMatchObject({ index: 0, term: 0, revision: 0 });
  });

  it("changes with every row but those of the journal", async () => {
    const seen = new Set([(await hashOf(GROUP)).hash]);
    const changed = async (): Promise<void> => {
      const { hash } = await hashOf(GROUP);
      expect(seen).not.toContain(hash);
      seen.add(hash);
    };
    put(engine, dataRowKey(GROUP, address("b")), utf8("other"));
    await changed();
    put(engine, dataRowKey(GROUP, address("bb")), utf8(""));
    await changed();
    put(engine, expiryRowKey(GROUP, 1001, address("b")), new Uint8Array(0));
    await changed();
    put(engine, countersRowKey(GROUP, DEFAULT_TENANT), utf8("other"));
    await changed();
    put(engine, configurationRowKey(GROUP), encodeConfiguration(simpleConfiguration([])));
    await changed();
    const { hash } = await hashOf(GROUP);
    put(engine, dataRowKey(6 as GroupId, address("b")), utf8("other"));
    putJournal(engine, GROUP, 4, 3);
    expect(await hashOf(GROUP)).toEqual({ index: 4, term: 3, revision: 3, hash });
  });
});

describe("loadConfiguration()", () => {
  it("is what the pump wrote when it applied the last change of membership", async () => {
    const group = await TestGroup.create(3);
    const { replica, engine: rows } = group.member(1);
    expect(await loadConfiguration(replica.group, rows)).toBeUndefined();
    await group.elect(1);
    const learner = { replica: 7 as ReplicaId, to: "learner" } as const;
    expect(replica.raft.proposeConfiguration([learner])).toMatchObject({ kind: "accepted" });
    group.member(1).loop.markDirty(replica);
    await group.stabilize((message) => message.to !== 7);
    for (const id of [1, 2, 3]) {
      const member = group.member(id);
      const found = await loadConfiguration(replica.group, member.engine);
      expect(found).toEqual(member.replica.raft.configuration);
      expect(found?.learners).toEqual([7]);
    }
    expect(group.fatal).toEqual([]);
  });

  it("refuses a row that does not decode", () => {
    put(engine, configurationRowKey(GROUP), utf8("nonsense"));
    expect(() => loadConfiguration(GROUP, engine)).toThrow(/configuration row of group 5/);
  });
});
