import { describe, expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import type { GroupId, LogIndex, NodeId, ReplicaId, Term } from "#shared/ids.ts";
import {
  LANE_FRAME_BYTES_SOFT_MAX,
  LANE_QUEUED_AGE_MS_MAX,
  LANE_QUEUED_BYTES_MAX,
} from "#shared/limits.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import { EntryKind, type Message } from "#storage-node/raft/types.ts";
import { EntryMemory } from "./entry-memory.ts";
import { decodeLinkFrame } from "./frame-codec.ts";
import { LaneQueue } from "./lane-queue.ts";
import { createStatistics } from "./statistics.ts";

const NODES = { from: 1 as NodeId, to: 2 as NodeId };
const memory = new EntryMemory();

function append(index: number, dataBytes: number): Message {
  return {
    kind: "append",
    group: 1 as GroupId,
    from: 1 as ReplicaId,
    to: 2 as ReplicaId,
    term: 1 as Term,
    previousIndex: index as LogIndex,
    previousTerm: 1 as Term,
    commit: 0 as LogIndex,
    entries: [
      {
        index: (index + 1) as LogIndex,
        term: 1 as Term,
        kind: EntryKind.Normal,
        data: new Uint8Array(dataBytes),
      },
    ],
  };
}

function setUp() {
  const clock = new ManualClock();
  const statistics = createStatistics();
  const frames: number[][] = [];
  let accepts = true;
  let drops = 0;
  const stream: MessageStream = {
    listen: () => {},
    write: (bytes) => {
      const messages = decodeLinkFrame(bytes, NODES, memory);
      frames.push(
        messages.map((message) => (message.kind === "append" ? message.previousIndex : 0)),
      );
      return accepts;
    },
    end: () => {},
    abort: () => {},
  };
  const schedule = () => process.nextTick(() => lane.tick());
  const lane = new LaneQueue({ clock, statistics, schedule, onDropped: () => drops++ });
  return {
    clock,
    statistics,
    frames,
    lane,
    stream,
    drops: () => drops,
    accept: (value: boolean) => {
      accepts = value;
    },
  };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("LaneQueue", () => {
  it("writes nothing within send(), and all of a turn as one frame", async () => {
    const { lane, stream, frames } = setUp();
    lane.attach(stream);
    for (let i = 1; i <= 3; i++) lane.send(append(i, 10));
    expect(frames).toEqual([]);
    await turn();
    expect(frames).toEqual([[1, 2, 3]]);
    lane.send(append(4, 10));
    await turn();
    expect(frames).toEqual([[1, 2, 3], [4]]);
  });

  it("joins what is sent during a pause, and goes on when the stream takes more", async () => {
    const { lane, stream, frames, accept } = setUp();
    lane.attach(stream);
    accept(false);
    lane.send(append(1, 10));
    await turn();
    for (let i = 2; i <= 4; i++) {
      lane.send(append(i, 10));
      await turn();
    }
    expect(frames).toEqual([[1]]);
    accept(true);
    lane.drained();
    expect(frames).toEqual([[1], [2, 3, 4]]);
  });

  it("cuts frames, stops at a pause between them, and keeps count of what waits", async () => {
    const { lane, stream, frames, accept, statistics } = setUp();
    const half = LANE_FRAME_BYTES_SOFT_MAX / 2;
    lane.attach(stream);
    for (let i = 1; i <= 5; i++) lane.send(append(i, half));
    expect(statistics.queuedBytes).toBeGreaterThan(5 * half);
    accept(false);
    await turn();
    expect(frames).toEqual([[1, 2]]);
    expect(statistics.queuedBytes).toBeLessThan(4 * half);
    lane.drained();
    expect(frames).toEqual([
      [1, 2],
      [3, 4],
    ]);
    accept(true);
    lane.drained();
    expect(frames.flat()).toEqual([1, 2, 3, 4, 5]);
    expect(statistics.queuedBytes).toBe(0);
    expect(statistics).toMatchObject({ framesSent: 3, messagesSent: 5, messagesDropped: 0 });
  });

  it("drops what does not fit, tells of it once, and again only after it was empty", async () => {
    const { lane, stream, frames, accept, statistics, drops } = setUp();
    lane.attach(stream);
    accept(false);
    lane.send(append(0, 10));
    await turn();
    const quarter = LANE_QUEUED_BYTES_MAX / 4;
    for (let i = 1; i <= 6; i++) lane.send(append(i, quarter));
    expect(statistics.messagesDropped).toBe(3);
    expect(statistics.queuedBytes).toBeLessThanOrEqual(LANE_QUEUED_BYTES_MAX);
    expect(drops()).toBe(0);
    await turn();
    lane.send(append(7, quarter));
    await turn();
    expect(drops()).toBe(1);
    // A small one still fits.
    lane.send(append(8, 10));
    expect(statistics.messagesDropped).toBe(4);
    accept(true);
    lane.drained();
    expect(frames.flat()).toEqual([0, 1, 2, 3, 8]);

    accept(false);
    lane.send(append(0, 10));
    await turn();
    for (let i = 1; i <= 6; i++) lane.send(append(i, quarter));
    await turn();
    expect(drops()).toBe(2);
  });

  it("takes a single message that is larger than the queue", async () => {
    const { lane, stream, frames, statistics } = setUp();
    lane.attach(stream);
    lane.send(append(1, LANE_QUEUED_BYTES_MAX + 1));
    await turn();
    expect(frames).toEqual([[1]]);
    expect(statistics.messagesDropped).toBe(0);
  });

  it("drops what waits when the stream goes", async () => {
    const { lane, stream, frames, accept, statistics } = setUp();
    lane.attach(stream);
    accept(false);
    lane.send(append(1, 10));
    await turn();
    lane.send(append(2, 10));
    lane.detach();
    expect(statistics).toMatchObject({ messagesDropped: 1, queuedBytes: 0 });
    accept(true);
    lane.attach(stream);
    await turn();
    expect(frames).toEqual([[1]]);
  });

  it("keeps what is sent without a stream, but not for long", async () => {
    const { lane, stream, frames, clock, statistics, drops } = setUp();
    clock.advance(10 * LANE_QUEUED_AGE_MS_MAX);
    lane.send(append(1, 10));
    clock.advance(LANE_QUEUED_AGE_MS_MAX + 1);
    lane.send(append(2, 10));
    await turn();
    expect(statistics.messagesDropped).toBe(1);
    expect(drops()).toBe(1);
    clock.advance(LANE_QUEUED_AGE_MS_MAX);
    lane.send(append(3, 10));
    lane.attach(stream);
    await turn();
    expect(frames).toEqual([[2, 3]]);

    lane.detach();
    lane.send(append(4, 10));
    clock.advance(LANE_QUEUED_AGE_MS_MAX + 1);
    lane.attach(stream);
    await turn();
    expect(frames).toEqual([[2, 3]]);
    expect(statistics).toMatchObject({ messagesDropped: 2, queuedBytes: 0 });
  });
});
