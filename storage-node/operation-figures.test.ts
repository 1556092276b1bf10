import { describe, expect, it } from "vitest";
import { failureOf } from "#proto/codec/failure.ts";
import type { ResultBody } from "#proto/codec/messages.ts";
import { ManualClock } from "#shared/clock.ts";
import type { GroupId } from "#shared/ids.ts";
import { createLogger } from "#shared/runtime/log.ts";
import { EntryFigures } from "./entry-figures.ts";
import { OperationFigures } from "./operation-figures.ts";
import type { ProposedEntry } from "./replica/waiting.ts";
import { logSlowOperations } from "./slow-operations.ts";

const written: ResultBody = { kind: "write", applied: true, mutations: [] };
const read = { kind: "scan", rows: [], count: 0, next: new Uint8Array() } as const;
const refusal = failureOf("NOT_LEADER", "elsewhere", { notApplied: true });

/** What the log has kept of an entry with one put of a key of three bytes. */
const entry = {
  ...{ receivedMs: 10, proposedMs: 20, syncedMs: 50, committedMs: 80, appliedMs: 900 },
  writes: [{ command: { mutations: [{ tenant: 4, key: new Uint8Array(3) }] } }],
} as unknown as ProposedEntry;

function setUp() {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>);
  const node = { operations: new OperationFigures(), entries: new EntryFigures() };
  const logger = createLogger({ level: "info", program: "test", write });
  const log = logSlowOperations(node, { clock: new ManualClock(), logger, slowMs: 500 });
  return { lines, log, ...node };
}

describe("OperationFigures", () => {
  it("count by kind and outcome", () => {
    const { operations } = setUp();
    operations.answered(1, written, 2);
    operations.answered(1, refusal, 0);
    operations.answered(0, refusal, 0);
    operations.answered(4, read, 3);
    expect([operations.puts, operations.gets, operations.scans, operations.failures]).toEqual([
      2, 1, 1, 2,
    ]);
    expect(operations.succeeded[1]).toBe(1);
    expect([...operations.failedOf(1)]).toEqual([["NOT_LEADER", 1]]);
    expect(operations.read.count).toBe(2);
    expect(operations.write.sumMs).toBe(2);
  });
});

describe("slow operations", () => {
  it("are told once: reads and failures as such, writes as their entry", () => {
    const { lines, log, operations, entries } = setUp();
    operations.answered(4, read, 600);
    operations.answered(1, failureOf("DEADLINE_EXCEEDED", "late", { notApplied: false }), 700);
    operations.answered(1, written, 800);
    operations.answered(4, read, 500);
    entries.answered(9 as GroupId, entry);
    expect(lines).toMatchObject([
      { level: "warn", operation: "scan", outcome: "ok", duration_ms: 600 },
      { operation: "put", outcome: "deadline_exceeded", duration_ms: 700 },
      {
        ...{ operation: "write", vshard: 9, duration_ms: 890, wait_ms: 10, sync_ms: 30 },
        ...{ commit_ms: 60, apply_ms: 820, commands: 1, tenant_id: 4, key_bytes: 3 },
      },
    ]);
    expect(lines).toHaveLength(3);
    expect(log.total).toBe(3);
    expect(entries.commits.count).toBe(1);
    expect(entries.commits.sumMs).toBe(60);
  });
});
