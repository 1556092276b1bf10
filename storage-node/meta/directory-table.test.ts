import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Command } from "#proto/codec/messages.ts";
import { utf8 } from "#shared/bytes.ts";
import { Space, SYSTEM_TENANT } from "#shared/ids.ts";
import { DirectoryTable } from "./directory-table.ts";
import { FakeDirectoryGroup, turn } from "./testing/fake-directory-group.ts";

function commandOf(changes: Readonly<Record<string, string | undefined>>): Command {
  const mutations = Object.entries(changes).map(([name, value]) => ({
    tenant: SYSTEM_TENANT,
    space: Space.Directory,
    key: utf8(name),
    condition: undefined,
    action:
      value === undefined
        ? { kind: "delete" as const }
        : { kind: "put" as const, value: utf8(value), contentType: "", ttlMs: 0 },
  }));
  return { requestId: new Uint8Array(16), deadlineMs: 1, mutations };
}

function open(group = new FakeDirectoryGroup()) {
  const table = new DirectoryTable({
    group,
    onChange: () => {},
    onFatal: (error) => {
      throw error;
    },
  });
  return { group, table };
}

async function quiet(table: DirectoryTable): Promise<void> {
  for (let i = 0; i < 12; i++) {
    table.look();
    await turn();
  }
}

const name = fc.constantFrom("a", "b", "c", "d");
const step = fc.oneof(
  fc.record({
    kind: fc.constant("change" as const),
    changes: fc.dictionary(name, fc.option(fc.string(), { nil: undefined }), { minKeys: 1 }),
  }),
  fc.record({ kind: fc.constant("apply" as const) }),
  fc.record({ kind: fc.constant("giveUp" as const), index: fc.nat(3) }),
  fc.record({ kind: fc.constant("turn" as const) }),
  fc.record({ kind: fc.constant("look" as const) }),
  fc.record({ kind: fc.constant("map" as const) }),
  fc.record({ kind: fc.constant("elect" as const), survives: fc.boolean() }),
);

describe("DirectoryTable", () => {
  it("has the rows of the group, whatever was answered, given up, elected or read meanwhile", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const { group, table } = open();
        group.appliesAtOnce = false;
        group.rows.set("a", { value: utf8("before"), revision: 3 });
        table.look();
        for (const one of steps) {
          if (one.kind === "change") table.change(commandOf(one.changes), () => {});
          else if (one.kind === "apply") group.apply();
          else if (one.kind === "giveUp") group.giveUp(one.index);
          else if (one.kind === "turn") await turn();
          else if (one.kind === "look") table.look();
          else if (one.kind === "map") group.changeMap();
          else group.elect(one);
        }
        while (group.log.length > 0) group.apply();
        await quiet(table);
        expect(new Map(table.rows!.entries())).toEqual(group.rows);
        expect(table.revision).toBe(group.revision);
        let sizeBytes = 0;
        for (const [key, { value }] of group.rows) sizeBytes += key.length + value.length;
        expect(table.sizeBytes).toBe(sizeBytes);
      }),
      { numRuns: 60 },
    );
  });

  it("reads all rows once, and after that only what was changed", async () => {
    const { group, table } = open();
    for (let i = 0; i < 1_000; i++) group.rows.set(`row/${i}`, { value: utf8("x"), revision: i });
    await quiet(table);
    expect(group.readings).toEqual([undefined]);
    for (let i = 0; i < 50; i++) table.change(commandOf({ [`row/${i}`]: "y" }), () => {});
    await quiet(table);
    expect(group.readings.slice(1).reduce<number>((sum, count) => sum + count!, 0)).toBe(50);
    expect(group.readings.length).toBeLessThanOrEqual(3);
    expect(table.rows!.size).toBe(1_000);
  });

  it("follows the group's revision also when only the cluster map changes, and reads nothing for it", async () => {
    const { group, table } = open();
    await quiet(table);
    group.changeMap();
    table.look();
    expect([table.revision, group.readings]).toEqual([group.revision, [undefined]]);
  });

  it("reads when it is asked to as a reading for an earlier term ends", async () => {
    const { group, table } = open();
    group.appliesAtOnce = false;
    table.look();
    for (let i = 0; i < 2; i++) await turn();
    group.elect({ survives: false });
    await turn();
    table.change(commandOf({ a: undefined }), () => {});
    group.apply();
    await quiet(table);
    expect(table.rows).toBeDefined();
  });

  it("sees what was proposed and given up in a term before it has looked at that term", async () => {
    const { group, table } = open();
    group.rows.set("a", { value: utf8("before"), revision: 3 });
    await quiet(table);
    group.appliesAtOnce = false;
    group.elect({ survives: false });
    table.change(commandOf({ a: undefined }), () => {});
    group.giveUp(0);
    await quiet(table);
    group.apply();
    await quiet(table);
    expect(table.rows!.size).toBe(0);
  });

  it("knows no rows while it does not lead, and reads them anew in another term", async () => {
    const { group, table } = open();
    expect(table.rows).toBeUndefined();
    await quiet(table);
    const first = table.rows;
    expect(first).toBeDefined();
    group.leads = false;
    expect(table.rows).toBeUndefined();
    table.look();
    group.leads = true;
    group.term++;
    await quiet(table);
    expect(table.rows).toBeDefined();
    expect(table.rows).not.toBe(first);
  });
});
