/** Chunks of a group's rows, and the check that they pass at the receiver only as they were made. */
import { createHash } from "node:crypto";
import { beforeEach, describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import {
  DEFAULT_TENANT,
  type GroupId,
  type LogIndex,
  type ReplicaId,
  type Revision,
  Space,
  type Term,
} from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import type { Engine, Row } from "#storage-node/engine/engine.ts";
import { configurationRowKey, dataRowKey, journalRowKey } from "#storage-node/engine/layout.ts";
import { openMemory } from "#storage-node/engine/memory.ts";
import { encodeJournalRow } from "#storage-node/machine/journal.ts";
import { encodeConfiguration, simpleConfiguration } from "#storage-node/raft/configuration.ts";
import { decodeFrame, encodeRows, type Frame, type Opening, rowSizeBytes } from "./frames.ts";
import { OutgoingRows } from "./outgoing-rows.ts";
import { SnapshotCheck } from "./snapshot-check.ts";

const GROUP = 5 as GroupId;
const CHUNK_BYTES = 500;
const MEMBERS = simpleConfiguration([1, 2] as ReplicaId[]);

const opening: Opening = {
  transfer: new Uint8Array(16),
  group: GROUP,
  from: 1 as ReplicaId,
  to: 2 as ReplicaId,
  term: 4 as Term,
  snapshotIndex: 40 as LogIndex,
  snapshotTerm: 3 as Term,
  configuration: MEMBERS,
};

function put(engine: Engine, key: Uint8Array, value: Uint8Array): void {
  const batch = engine.batch();
  batch.put(key, value);
  void engine.write(batch);
}

const dataKey = (group: GroupId, name: string): Uint8Array =>
  dataRowKey(group, { tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8(name) });

function journalRow(group: GroupId, index: number): Row {
  const row = { term: 3 as Term, logTimeMs: 9, dedupeUntilMs: 9, changes: [], results: [] };
  const position = { revision: index as Revision, index: index as LogIndex };
  return { key: journalRowKey(group, position), value: encodeJournalRow(row) };
}

let engine: Engine;
beforeEach(() => {
  engine = openMemory();
  for (const group of [4, 5, 6] as GroupId[]) {
    for (let i = 0; i < 60; i++) {
      put(engine, dataKey(group, `key ${i}`), utf8(`value ${i} of ${group}`.repeat(1 + (i % 5))));
    }
    for (let index = 1; index <= 40; index++) {
      const { key, value } = journalRow(group, index);
      put(engine, key, value);
    }
    put(engine, configurationRowKey(group), encodeConfiguration(MEMBERS));
  }
});

const outgoing = (): OutgoingRows => new OutgoingRows(engine.snapshot(), GROUP, CHUNK_BYTES);

async function allChunks(rows: OutgoingRows): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  for (;;) {
    const chunk = await rows.chunk(chunks.length);
    if (chunk === undefined) return chunks;
    chunks.push(chunk);
  }
}

function checked(chunks: readonly Uint8Array[], end: Frame & { kind: "end" }): Row[] {
  const check = new SnapshotCheck(opening);
  const rows: Row[] = [];
  for (const bytes of chunks) {
    const frame = decodeFrame(bytes);
    if (frame.kind === "rows") check.rows(frame, (row) => rows.push(row));
  }
  check.end(end);
  return rows;
}

const endOf = (rows: OutgoingRows) =>
  ({ kind: "end", ...rows.totals, term: 4 as Term }) as const satisfies Frame;

describe("OutgoingRows", () => {
  it("makes chunks of all rows of the group, as they were in the view, and no others", async () => {
    const rows = outgoing();
    const before = await engine.iterate({}).next(1000);
    put(engine, dataKey(GROUP, "later"), utf8("not in the view"));
    const chunks = await allChunks(rows);
    expect(chunks.length).toBeGreaterThan(5);
    const found = checked(chunks, endOf(rows));
    const expected = before.filter(({ key }) => key[2] === GROUP);
    expect(found.map(({ key }) => Buffer.from(key).toString("hex"))).toEqual(
      expected.map(({ key }) => Buffer.from(key).toString("hex")),
    );
    expect(found).toHaveLength(60 + 40 + 1);
  });

  it("makes the same chunk whenever it is asked for", async () => {
    const chunks = await allChunks(outgoing());
    const random = new SeededRandom(1);
    const rows = outgoing();
    for (let step = 0; step < 200; step++) {
      const sequence = random.below(Math.min(rows.made, chunks.length) + 1);
      expect(await rows.chunk(sequence)).toEqual(chunks[sequence]);
    }
    expect(rows.made).toBe(chunks.length);
    // What was asked for in between does not change what the hash is over.
    checked(chunks, endOf(rows));
  });

  it("makes none of an empty group", async () => {
    const rows = new OutgoingRows(engine.snapshot(), 99 as GroupId, CHUNK_BYTES);
    expect(await rows.chunk(0)).toBeUndefined();
    expect(rows.totals).toMatchObject({ chunks: 0, rows: 0 });
  });
});

describe("SnapshotCheck", () => {
  const chunk = (sequence: number, ...rows: Row[]): Frame & { kind: "rows" } => {
    const sizeBytes = rows.reduce((size, row) => size + rowSizeBytes(row), 0);
    return decodeFrame(encodeRows(sequence, rows, sizeBytes)) as Frame & { kind: "rows" };
  };
  const row = (key: Uint8Array, value = utf8("value")): Row => ({ key, value });

  it("refuses a snapshot in which a chunk is missing, swapped or there twice", async () => {
    const rows = outgoing();
    const chunks = await allChunks(rows);
    const end = endOf(rows);
    checked(chunks, end);
    for (let i = 0; i < chunks.length; i++) {
      const missing = chunks.filter((_, other) => other !== i);
      expect(() => checked(missing, end)).toThrow(/not as it was sent/);
      const twice = [...chunks.slice(0, i), chunks[i]!, ...chunks.slice(i)];
      expect(() => checked(twice, end)).toThrow(/not as it was sent/);
    }
  });

  it("refuses other totals than those of the rows", async () => {
    const rows = outgoing();
    const chunks = await allChunks(rows);
    const end = endOf(rows);
    const otherHash = Uint8Array.from(end.hash, (byte, i) => (i === 31 ? byte ^ 1 : byte));
    expect(() => checked(chunks, { ...end, hash: otherHash })).toThrow(/its hash does not fit/);
    expect(() => checked(chunks, { ...end, rows: end.rows + 1 })).toThrow(/102/);
    expect(() => checked(chunks, { ...end, chunks: end.chunks - 1 })).toThrow(/chunks/);
  });

  it.each([
    ["of another group", row(dataKey(6 as GroupId, "key")), /of group 6/],
    ["of an unknown kind", row(new Uint8Array([77, 0, 5, 1])), /unknown kind 77/],
    ["without a head", row(new Uint8Array([1, 0])), /no kind or group/],
    ["that sorts before the last", row(dataKey(GROUP, "a")), /out of order/],
    ["that was there", row(dataKey(GROUP, "b")), /out of order/],
    [
      "with other members",
      row(configurationRowKey(GROUP), encodeConfiguration(simpleConfiguration([]))),
      /other members/,
    ],
  ])("refuses a row %s", (_what, bad, reason) => {
    const check = new SnapshotCheck(opening);
    check.rows(chunk(0, row(dataKey(GROUP, "b"))));
    expect(() => check.rows(chunk(1, bad))).toThrow(reason);
  });

  it("refuses rows of another log position than the snapshot's", () => {
    const check = new SnapshotCheck(opening);
    const only = chunk(0, journalRow(GROUP, 39));
    check.rows(only);
    const hash = createHash("sha256").update(only.bytes).digest();
    expect(() => check.end({ kind: "end", chunks: 1, rows: 1, hash, term: 4 as Term })).toThrow(
      /rows are those of entry 39@3/,
    );
  });
});
