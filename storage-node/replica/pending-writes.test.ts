import { describe, expect, it } from "vitest";
import type { Command, ResultBody } from "#proto/codec/messages.ts";
import { ERRORS } from "#shared/errors.ts";
import { newBudget } from "./budget.ts";
import { PendingWrites } from "./pending-writes.ts";
import type { WriteTrace } from "./waiting.ts";

const commandUntil = (deadlineMs: number): Command => ({
  requestId: new Uint8Array(16),
  deadlineMs,
  mutations: [],
});

const trace = {} as WriteTrace;

function waitingFor(deadlinesMs: readonly number[]) {
  const budget = newBudget();
  const pending = new PendingWrites(budget);
  const answers: ResultBody[] = [];
  const reply = (body: ResultBody) => answers.push(body);
  for (const [i, deadlineMs] of deadlinesMs.entries()) {
    expect(pending.add(commandUntil(deadlineMs), reply, i === 0 ? trace : undefined)).toBe(
      undefined,
    );
  }
  pending.noteSince(5);
  return { pending, budget, answers };
}

describe("PendingWrites", () => {
  it("drops what was proposed, and keeps since when the others wait", () => {
    const { pending, budget } = waitingFor([100, 100, 100]);
    const allBytes = budget.pendingBytes;
    pending.drop(0);
    expect([pending.length, pending.sinceMs, pending.hasTraced]).toEqual([3, 5, true]);
    expect(budget.pendingBytes).toBe(allBytes);
    pending.drop(2);
    expect([pending.length, pending.sinceMs, pending.hasTraced]).toEqual([1, 5, true]);
    expect(budget.pendingBytes).toBe(allBytes / 3);
    pending.drop(1);
    expect([pending.length, pending.sinceMs, pending.hasTraced]).toEqual([0, 0, false]);
    expect(budget.pendingBytes).toBe(0);
  });

  it("refuses those past their deadline only, and counts them no more", () => {
    const { pending, budget, answers } = waitingFor([10, 100, 10]);
    const allBytes = budget.pendingBytes;
    pending.refusePast(50);
    const refusal = { kind: "failure", code: ERRORS.DEADLINE_EXCEEDED.wire, notApplied: true };
    expect(answers).toMatchObject([refusal, refusal]);
    expect([pending.length, pending.sinceMs, budget.pendingBytes]).toEqual([1, 5, allBytes / 3]);
  });

  it("has nothing of the past when all of them were refused", () => {
    const { pending, budget } = waitingFor([10, 10]);
    pending.refusePast(50);
    expect([pending.length, pending.sinceMs, pending.hasTraced]).toEqual([0, 0, false]);
    expect(budget.pendingBytes).toBe(0);
    pending.add(commandUntil(100), () => {}, undefined);
    pending.noteSince(60);
    expect(pending.sinceMs).toBe(60);
  });
});
