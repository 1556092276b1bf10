import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { LogIndex, ReplicaId } from "#shared/ids.ts";
import { Inflight, Progress } from "./progress.ts";
import { ProgressState } from "./types.ts";

const at = (index: number): LogIndex => index as LogIndex;

const progressAt = (next: number, inflightMessagesMax = 3): Progress =>
  new Progress({
    id: 2 as ReplicaId,
    next: at(next),
    inflightMessagesMax,
    inflightBytesMax: 1000,
  });

/** Replicating, with `match` acknowledged. */
function replicating(match: number, inflightMessagesMax = 3): Progress {
  const progress = progressAt(match + 1, inflightMessagesMax);
  progress.accepted(at(match));
  return progress;
}

describe("Progress in probe state", () => {
  it("sends one append at a time", () => {
    const progress = progressAt(5);
    expect(progress.paused).toBe(false);
    progress.sent(2, at(6), 10);
    expect(progress.paused).toBe(true);
    expect(progress.next).toBe(5);
    progress.heartbeatAnswered();
    expect(progress.paused).toBe(false);
  });

  it("replicates once an append is accepted, even one that acknowledges nothing new", () => {
    const progress = progressAt(1);
    progress.sent(0, at(0), 0);
    expect(progress.accepted(at(0))).toBe(true);
    expect(progress.state).toBe(ProgressState.Replicate);
    expect(progress.next).toBe(1);
  });

  it("moves next to the guess, and ignores answers to other probes", () => {
    const progress = progressAt(10);
    expect(progress.rejected(at(7), at(3))).toBe(false);
    expect(progress.next).toBe(10);
    expect(progress.rejected(at(9), at(3))).toBe(true);
    expect(progress.next).toBe(4);
    expect(progress.rejected(at(9), at(1))).toBe(false);
    expect(progress.next).toBe(4);
  });

  it("always moves back by at least one, and never to or below match", () => {
    const progress = progressAt(10);
    progress.rejected(at(9), at(50));
    expect(progress.next).toBe(9);
    const replicated = replicating(4);
    replicated.sent(3, at(7), 10);
    replicated.rejected(at(7), at(1));
    expect(replicated.state).toBe(ProgressState.Probe);
    expect(replicated.next).toBe(5);
  });
});

describe("Progress in replicate state", () => {
  it("runs ahead until the window is full, and an answer frees it", () => {
    const progress = replicating(1);
    for (let i = 2; i <= 4; i++) {
      expect(progress.paused).toBe(false);
      progress.sent(1, at(i), 10);
    }
    expect(progress.paused).toBe(true);
    expect(progress.next).toBe(5);
    expect(progress.accepted(at(3))).toBe(true);
    expect(progress.paused).toBe(false);
    expect(progress.inflight.count).toBe(1);
    expect(progress.next).toBe(5);
  });

  it("ignores old and repeated answers", () => {
    const progress = replicating(5);
    progress.sent(1, at(6), 10);
    expect(progress.accepted(at(5))).toBe(false);
    expect(progress.accepted(at(2))).toBe(false);
    expect(progress.rejected(at(5), at(0))).toBe(false);
    expect(progress.match).toBe(5);
    expect(progress.next).toBe(7);
    expect(progress.inflight.count).toBe(1);
  });

  it("a heartbeat reply lets one append through a full window, not more", () => {
    const progress = replicating(0, 1);
    progress.sent(1, at(1), 10);
    expect(progress.paused).toBe(true);
    progress.heartbeatAnswered();
    expect(progress.paused).toBe(false);
    progress.sent(0, at(1), 0);
    expect(progress.paused).toBe(true);
    expect(progress.inflight.count).toBe(1);
  });

  it("a rejection returns to probe behind match with an empty window", () => {
    const progress = replicating(2);
    progress.sent(3, at(5), 10);
    progress.sent(2, at(7), 10);
    expect(progress.rejected(at(7), at(2))).toBe(true);
    expect(progress.state).toBe(ProgressState.Probe);
    expect(progress.next).toBe(3);
    expect(progress.inflight.count).toBe(0);
  });
});

describe("Progress in snapshot state", () => {
  it("sends nothing, whatever answers come", () => {
    const progress = progressAt(3);
    progress.becomeSnapshot();
    progress.heartbeatAnswered();
    expect(progress.paused).toBe(true);
    expect(progress.rejected(at(2), at(0))).toBe(false);
    expect(progress.accepted(at(7))).toBe(true);
    expect(progress.state).toBe(ProgressState.Snapshot);
    expect(progress.match).toBe(7);
  });

  it("probes behind the snapshot, or behind what turns out to be there", () => {
    const installed = progressAt(3);
    installed.becomeSnapshot();
    installed.pendingSnapshot = at(10);
    installed.snapshotEnded(true);
    expect(installed.next).toBe(11);
    expect(installed.paused).toBe(true);
    const failed = progressAt(3);
    failed.becomeSnapshot();
    failed.pendingSnapshot = at(10);
    failed.snapshotEnded(false);
    expect(failed.next).toBe(1);
    expect(failed.paused).toBe(true);
    const caughtUp = progressAt(3);
    caughtUp.becomeSnapshot();
    caughtUp.resumeBehind(at(12));
    expect(caughtUp.next).toBe(13);
    expect(caughtUp.match).toBe(0);
    expect(caughtUp.paused).toBe(false);
  });
});

describe("Progress", () => {
  it("match never falls, and next stays above it, whatever is reported (property)", () => {
    const event = fc.tuple(fc.nat(4), fc.nat(20), fc.nat(20));
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), (events) => {
        const progress = progressAt(8);
        for (const [kind, a, b] of events) {
          const before = progress.match;
          if (kind === 0) progress.accepted(at(a));
          else if (kind === 1) progress.rejected(at(a), at(b));
          else if (kind === 2) progress.heartbeatAnswered();
          else if (kind === 3 && !progress.paused) {
            // As sendAppend does: past a full window only what is empty leaves.
            const replicating = progress.state === ProgressState.Replicate;
            const count = replicating && progress.inflight.full ? 0 : 1;
            progress.sent(count, at(progress.next - 1 + count), b);
          } else if (kind === 4 && a === 0) progress.becomeSnapshot();
          else if (kind === 4 && a === 1) progress.snapshotEnded(b % 2 === 0);
          else if (kind === 4 && a === 2 && progress.state === ProgressState.Snapshot) {
            progress.pendingSnapshot = at(b);
          }
          expect(progress.match).toBeGreaterThanOrEqual(before);
          expect(progress.next).toBeGreaterThan(progress.match);
          expect(progress.inflight.count).toBeLessThanOrEqual(3);
        }
      }),
    );
  });
});

describe("Inflight", () => {
  it("is full by count or by bytes", () => {
    const byCount = new Inflight(2, 1000);
    byCount.add(at(1), 1);
    expect(byCount.full).toBe(false);
    byCount.add(at(2), 1);
    expect(byCount.full).toBe(true);
    const byBytes = new Inflight(100, 50);
    byBytes.add(at(1), 60);
    expect(byBytes.full).toBe(true);
    byBytes.freeThrough(at(1));
    expect(byBytes.full).toBe(false);
    expect(byBytes.bytes).toBe(0);
  });

  it("frees like a plain queue would, through any growth (property)", () => {
    const step = fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 40 }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const ring = new Inflight(10_000, 1_000_000);
        let queue: { last: number; bytes: number }[] = [];
        let last = 0;
        for (const [add, amount] of steps) {
          if (add) {
            last += amount;
            ring.add(at(last), amount);
            queue.push({ last, bytes: amount });
          } else {
            const through = (queue[0]?.last ?? 0) + amount;
            ring.freeThrough(at(through));
            queue = queue.filter((message) => message.last > through);
          }
          expect(ring.count).toBe(queue.length);
          expect(ring.bytes).toBe(queue.reduce((sum, message) => sum + message.bytes, 0));
        }
      }),
    );
  });
});
