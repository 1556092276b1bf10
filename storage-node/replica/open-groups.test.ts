import { describe, expect, it } from "vitest";
import type { GroupId, LogIndex, Term } from "#shared/ids.ts";
import { type Entry, EntryKind } from "#storage-node/raft/types.ts";
import { checkAgainstLog } from "./open-groups.ts";

const entry = (index: number, term: number): Entry => ({
  index: index as LogIndex,
  term: term as Term,
  kind: EntryKind.Normal,
  data: new Uint8Array(0),
});

/** A log that begins after entry 5 (term 2) and holds 6 and 7 of term 3. */
const LOG = {
  start: { index: 5 as LogIndex, term: 2 as Term },
  entries: [entry(6, 3), entry(7, 3)],
};

const check = (appliedIndex: number, appliedTerm: number) => () =>
  checkAgainstLog(
    9 as GroupId,
    { appliedIndex: appliedIndex as LogIndex, appliedTerm: appliedTerm as Term },
    LOG,
  );

describe("checkAgainstLog()", () => {
  it("accepts an engine that has applied the log's start or any of its entries", () => {
    expect(check(5, 2)).not.toThrow();
    expect(check(6, 3)).not.toThrow();
    expect(check(7, 3)).not.toThrow();
  });

  it("refuses an engine behind the log's start or ahead of its end", () => {
    expect(check(4, 2)).toThrow(/vshard 9: the engine has applied entry 4, but the log holds/);
    expect(check(8, 3)).toThrow(/restore the whole data directory/);
  });

  it("accepts an engine that has just taken over a snapshot, and no other ahead of the log", () => {
    const at = (index: number, term: number) =>
      checkAgainstLog(9 as GroupId, { appliedIndex: 20 as LogIndex, appliedTerm: 4 as Term }, LOG, {
        index: index as LogIndex,
        term: term as Term,
      });
    expect(() => at(20, 4)).not.toThrow();
    expect(() => at(19, 4)).toThrow(/has applied entry 20/);
    expect(() => at(20, 3)).toThrow(/has applied entry 20/);
  });

  it("refuses an engine whose last entry is another than the log's", () => {
    expect(check(5, 1)).toThrow(/term 2 there, not of term 1/);
    expect(check(7, 2)).toThrow(/term 3 there, not of term 2/);
  });
});
