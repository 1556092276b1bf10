/** Whole messages over a port: order, pauses, ends. */
import { MessageChannel } from "node:worker_threads";
import { afterEach, describe, expect, it } from "vitest";
import { GrpcStatus } from "#shared/errors.ts";
import { PORT_BYTES_UNDER_WAY_MAX } from "#shared/limits.ts";
import type { StreamStatus } from "#shared/message-stream.ts";
import { PortStream } from "./port-stream.ts";

const opened: MessageChannel[] = [];
afterEach(() => {
  for (const { port1 } of opened.splice(0)) port1.close();
});

function listenTo(stream: PortStream) {
  const seen = { messages: [] as Uint8Array[], drains: 0, statuses: [] as StreamStatus[] };
  stream.listen({
    onMessage: (bytes) => seen.messages.push(bytes),
    onDrain: () => seen.drains++,
    onClosed: (status) => seen.statuses.push(status),
  });
  return seen;
}

function pair() {
  const channel = new MessageChannel();
  opened.push(channel);
  const [near, far] = [new PortStream(channel.port1), new PortStream(channel.port2)];
  return { near, far, channel, nearSeen: listenTo(near) };
}

describe("PortStream", () => {
  it("delivers messages of any size in order, and leaves the pool of small buffers alone", async () => {
    const { near, far } = pair();
    const seen = listenTo(far);
    const pooled = Buffer.from("small");
    const neighbour = Buffer.from("neighbour");
    near.write(pooled);
    near.write(new Uint8Array(100_000).fill(7));
    near.write(new Uint8Array(0));
    await expect.poll(() => seen.messages.length).toBe(3);
    expect(seen.messages.map(({ length }) => length)).toEqual([5, 100_000, 0]);
    expect(Buffer.from(seen.messages[0]!).toString()).toBe("small");
    expect(seen.messages[1]!.every((byte) => byte === 7)).toBe(true);
    expect(neighbour.toString()).toBe("neighbour");
  });

  it("asks for a pause until the other side has taken what is under way", async () => {
    const { near, far, nearSeen } = pair();
    const chunk = PORT_BYTES_UNDER_WAY_MAX / 4;
    const wrote = Array.from({ length: 5 }, () => near.write(new Uint8Array(chunk)));
    expect(wrote).toEqual([true, true, true, true, false]);
    expect(nearSeen.drains).toBe(0);
    listenTo(far);
    await expect.poll(() => nearSeen.drains).toBe(1);
    expect(near.write(new Uint8Array(chunk))).toBe(true);
  });

  it("tells how it ended behind what was written", async () => {
    const { near, far } = pair();
    const seen = listenTo(far);
    near.write(Buffer.from("last"));
    near.abort({ code: GrpcStatus.InvalidArgument, details: "no" });
    await expect.poll(() => seen.statuses.length).toBeGreaterThan(0);
    expect(seen.messages.length).toBe(1);
    expect(seen.statuses[0]).toEqual({ code: GrpcStatus.InvalidArgument, details: "no" });
  });

  it("ends with the status Ok, and with UNAVAILABLE when the port just closes", async () => {
    const ended = pair();
    const endedSeen = listenTo(ended.far);
    ended.near.end();
    await expect.poll(() => endedSeen.statuses[0]?.code).toBe(GrpcStatus.Ok);
    const closed = pair();
    const closedSeen = listenTo(closed.far);
    closed.channel.port1.close();
    await expect.poll(() => closedSeen.statuses[0]?.code).toBe(GrpcStatus.Unavailable);
  });
});
