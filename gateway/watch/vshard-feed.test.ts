/** What news may make a feed keep and do. That no change is left out, the model shows (`model.test.ts`). */
import { describe, expect, it } from "vitest";
import type { ChangeBatch } from "#proto/codec/change-messages.ts";
import { ManualClock } from "#shared/clock.ts";
import type { Revision } from "#shared/ids.ts";
import { FEED_READ_TIMEOUT_MS, FEED_STASHED_BYTES_MAX } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { FakeHistory, FakeLog, settle } from "./testing.ts";
import { VshardFeed } from "./vshard-feed.ts";

async function openFeed() {
  const clock = new ManualClock();
  const history = new FakeHistory(clock);
  const { vshard, record } = history.write({ key: "{t}" });
  const log = new FakeLog(history);
  const given: number[] = [];
  const feed = new VshardFeed({
    ...{ vshard, log, clock, random: new SeededRandom(1), onKnown: () => {} },
    counters: {
      ...{ changesReceived: 0, changesRepeated: 0, gaps: 0 },
      ...{ logReads: 0, logReadFailures: 0, compactions: 0 },
    },
    sink: {
      onStart: () => {},
      onChanges: (_, changes) => {
        given.push(...changes.map(({ revision }) => revision));
        return true;
      },
      onCompacted: () => {},
      onStop: () => {},
    },
  });
  const advance = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 50) {
      await settle();
      clock.advance(50);
    }
    await settle();
  };
  await settle();
  /** One change of so many bytes, as news have it. */
  const batchAt = (revision: number, valueBytes = 0): ChangeBatch => {
    const value = { value: new Uint8Array(valueBytes), encoding: 0, contentType: "" };
    const changes = [{ ...record, revision: revision as Revision, value }];
    return { vshard, previousRevision: (revision - 1) as Revision, changes };
  };
  return { history, log, feed, given, advance, batchAt };
}

describe("VshardFeed", () => {
  it("does not ask again and again for what the leader does not know", async () => {
    const { history, log, feed, given, advance, batchAt } = await openFeed();
    feed.onBatch(batchAt(1_000_000));
    await advance(1_000);
    const { reads } = log;
    await advance(10_000);
    expect(log.reads).toBe(reads);
    expect(feed.lag).toBe(0);
    history.write({ key: "{t}" });
    feed.onBatch(batchAt(2));
    expect(given).toEqual([2]);
  });

  it("reads what was announced while an answer from before that was on its way", async () => {
    const { history, log, feed, given, advance } = await openFeed();
    const answer = Promise.withResolvers<void>();
    const read = log.read.bind(log);
    log.read = async (...asked) => {
      const piece = await read(...asked);
      await answer.promise;
      return piece;
    };
    feed.look();
    await advance(50);
    history.write({ key: "{t}" });
    feed.onHead(2 as Revision);
    answer.resolve();
    await advance(1_000);
    expect(given).toEqual([2]);
    // One read more for what the log does not know, and none after that.
    feed.onHead(9 as Revision);
    await advance(1_000);
    const { reads } = log;
    await advance(10_000);
    expect(log.reads).toBe(reads);
  });

  it("puts so many bytes aside while the log is read, and reads what it had no room for", async () => {
    const { history, log, feed, given, advance, batchAt } = await openFeed();
    const gate = Promise.withResolvers<void>();
    log.gate = () => gate.promise;
    const bytes = FEED_STASHED_BYTES_MAX / 8;
    for (let revision = 2; revision <= 40; revision++) history.write({ key: "{t}" });
    for (let revision = 3; revision <= 40; revision++) feed.onBatch(batchAt(revision, bytes));
    expect(feed.stashedBytes).toBeLessThanOrEqual(FEED_STASHED_BYTES_MAX);
    expect(feed.stashedBytes).toBeGreaterThan(FEED_STASHED_BYTES_MAX / 2);
    gate.resolve();
    await advance(FEED_READ_TIMEOUT_MS);
    expect(given).toEqual(Array.from({ length: 39 }, (_, i) => i + 2));
    expect(feed.stashedBytes).toBe(0);
  });
});
