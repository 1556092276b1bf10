/**
 * The time that a gateway has for its hello. One that opens a stream and says nothing would keep its place,
 * of which there is a bounded number, for as long as its connection lasts.
 *
 * For streams that come over the network. The gateway of the same process has one stream of operations, which
 * it could not open again, and says hello when its thread has started, however long that takes.
 */
import type { Clock } from "#shared/clock.ts";
import { GrpcStatus } from "#shared/errors.ts";
import { STREAM_HELLO_TIMEOUT_MS } from "#shared/limits.ts";
import type { MessageStream } from "#shared/message-stream.ts";

const TOO_LATE = {
  code: GrpcStatus.DeadlineExceeded,
  details: `the gateway did not say hello within ${STREAM_HELLO_TIMEOUT_MS} ms`,
};

/**
 * The same stream, which ends when nothing has come on it in time. That the first message is the hello, its
 * owner sees to.
 */
export function helloInTime(stream: MessageStream, clock: Clock): MessageStream {
  let cancelTimer: (() => void) | undefined;
  const stopWaiting = (): void => {
    cancelTimer?.();
    cancelTimer = undefined;
  };
  return {
    listen: ({ onMessage, onDrain, onClosed }) => {
      cancelTimer = clock.after(STREAM_HELLO_TIMEOUT_MS, () => {
        cancelTimer = undefined;
        onClosed(TOO_LATE);
        stream.abort(TOO_LATE);
      });
      stream.listen({
        onMessage: (bytes) => {
          stopWaiting();
          onMessage(bytes);
        },
        onDrain,
        onClosed: (status) => {
          stopWaiting();
          onClosed(status);
        },
      });
    },
    write: (bytes) => stream.write(bytes),
    end: () => {
      stopWaiting();
      stream.end();
    },
    abort: (status) => {
      stopWaiting();
      stream.abort(status);
    },
  };
}
