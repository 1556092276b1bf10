import { expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import { GrpcStatus } from "#shared/errors.ts";
import { STREAM_HELLO_TIMEOUT_MS } from "#shared/limits.ts";
import type { MessageStream, StreamListener, StreamStatus } from "#shared/message-stream.ts";
import { helloInTime } from "./hello-timeout.ts";

const CANCELLED: StreamStatus = { code: GrpcStatus.Cancelled, details: "gone" };

/** A stream that says what happens to it, and of which its owner hears. */
function opened() {
  const clock = new ManualClock();
  const seen: string[] = [];
  let listener: StreamListener | undefined;
  const carrier: MessageStream = {
    listen: (given) => {
      listener = given;
    },
    write: ({ length }) => {
      seen.push(`write ${length}`);
      return false;
    },
    end: () => seen.push("end"),
    abort: ({ code }) => seen.push(`abort ${code}`),
  };
  const stream = helloInTime(carrier, clock);
  stream.listen({
    onMessage: ({ length }) => seen.push(`message ${length}`),
    onDrain: () => seen.push("drain"),
    onClosed: ({ code }) => seen.push(`closed ${code}`),
  });
  return { clock, seen, stream, listener: listener! };
}

it("ends a stream on which nothing comes, and tells its owner", () => {
  const { clock, seen } = opened();
  clock.advance(STREAM_HELLO_TIMEOUT_MS - 1);
  expect(seen).toEqual([]);
  clock.advance(1);
  const { DeadlineExceeded } = GrpcStatus;
  expect(seen).toEqual([`closed ${DeadlineExceeded}`, `abort ${DeadlineExceeded}`]);
  clock.advance(10 * STREAM_HELLO_TIMEOUT_MS);
  expect(seen).toHaveLength(2);
});

it("lets one be on which something has come, and passes everything on", () => {
  const { clock, seen, stream, listener } = opened();
  clock.advance(STREAM_HELLO_TIMEOUT_MS - 1);
  listener.onMessage(new Uint8Array(3));
  clock.advance(10 * STREAM_HELLO_TIMEOUT_MS);
  listener.onMessage(new Uint8Array(4));
  expect(stream.write(new Uint8Array(5))).toBe(false);
  listener.onDrain();
  expect(seen).toEqual(["message 3", "message 4", "write 5", "drain"]);
});

it.each([
  ["its owner ends", "end", (open: ReturnType<typeof opened>) => open.stream.end()],
  [
    "its owner breaks off",
    `abort ${GrpcStatus.Cancelled}`,
    (open: ReturnType<typeof opened>) => open.stream.abort(CANCELLED),
  ],
  [
    "the gateway has closed",
    `closed ${GrpcStatus.Cancelled}`,
    (open: ReturnType<typeof opened>) => open.listener.onClosed(CANCELLED),
  ],
])("does nothing to one that %s", (_, told, close) => {
  const open = opened();
  close(open);
  open.clock.advance(STREAM_HELLO_TIMEOUT_MS);
  expect(open.seen).toEqual([told]);
});
