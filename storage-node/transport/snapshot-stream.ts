/**
 * Streams of snapshots, as the two replicas see them: whole payloads both ways, behind a hello.
 *
 * The opener may write before the other side has answered; a refusal ends the stream.
 */
import { assert } from "#shared/assert.ts";
import type { Clock } from "#shared/clock.ts";
import { GrpcStatus, KvError } from "#shared/errors.ts";
import type { MessageStream, StreamListener, StreamStatus } from "#shared/message-stream.ts";
import { decodeSnapshotFrame, encodeSnapshotEnd, encodeSnapshotFrame } from "./frame-codec.ts";
import { greet } from "./handshake.ts";
import type { NodeHello } from "./hello-codec.ts";

/**
 * A listener for frames in front of one for payloads. `endIsSaid`: the peer is the opener, whose end of
 * the stream is one in good order only if it has said so.
 */
function payloads(
  frames: MessageStream,
  listener: StreamListener,
  { endIsSaid }: { readonly endIsSaid: boolean },
): StreamListener {
  let over = false;
  let ended = false;
  const close = (status: StreamStatus): void => {
    if (over) return;
    over = true;
    listener.onClosed(status);
  };
  return {
    onMessage: (bytes) => {
      if (over || ended) return;
      let frame: Uint8Array | "end";
      try {
        frame = decodeSnapshotFrame(bytes);
      } catch (error) {
        if (!(error instanceof KvError)) throw error;
        const status = { code: GrpcStatus.InvalidArgument, details: error.message };
        frames.abort(status);
        close(status);
        return;
      }
      if (frame === "end") ended = true;
      else listener.onMessage(frame);
    },
    onDrain: listener.onDrain,
    onClosed: (status) => {
      const cut = status.code === GrpcStatus.Ok && endIsSaid && !ended;
      close(cut ? CUT : status);
    },
  };
}

const CUT: StreamStatus = {
  code: GrpcStatus.Cancelled,
  details: "the peer gave the stream up",
};

const DEAF: StreamListener = { onMessage: () => {}, onDrain: () => {}, onClosed: () => {} };

export type OpenSnapshotOptions = {
  readonly frames: MessageStream;
  readonly clock: Clock;
  readonly hello: NodeHello;
  /** Why the side that answered is not the right one; undefined when it is. */
  readonly refusalOf: (theirs: NodeHello) => string | undefined;
  /** Nothing comes or goes any more. Perhaps called again. */
  readonly onClosed: () => void;
};

/** The opener's end. The hello is said when it is listened to, which is to be at once. */
export function openedSnapshotStream(options: OpenSnapshotOptions): MessageStream {
  const { frames, clock, hello, refusalOf, onClosed } = options;
  let listening = false;
  return {
    listen: (listener) => {
      listening = true;
      const relay: StreamListener = {
        onMessage: listener.onMessage,
        onDrain: listener.onDrain,
        onClosed: (status) => {
          onClosed();
          listener.onClosed(status);
        },
      };
      const inner = payloads(frames, relay, { endIsSaid: false });
      greet({
        stream: frames,
        clock,
        say: hello,
        hear: (theirs) => {
          const details = refusalOf(theirs);
          if (details === undefined) return { kind: "accepted", open: () => inner };
          return { kind: "refused", status: { code: GrpcStatus.FailedPrecondition, details } };
        },
        onDrain: inner.onDrain,
        onFailed: inner.onClosed,
      });
    },
    write: (payload) => {
      assert(listening, "a stream is listened to before it is written");
      return frames.write(encodeSnapshotFrame(payload));
    },
    end: () => {
      frames.write(encodeSnapshotEnd());
      frames.end();
    },
    abort: (status) => {
      frames.abort(status);
      onClosed();
    },
  };
}

/**
 * The other end, of which both hellos are said: the stream for the receiver of the snapshot, and the
 * listener for what comes. A receiver that does not listen before `listener` is asked for hears nothing.
 */
export function acceptedSnapshotStream(frames: MessageStream): {
  readonly stream: MessageStream;
  readonly listener: () => StreamListener;
} {
  let inner = DEAF;
  return {
    stream: {
      listen: (listener) => {
        inner = payloads(frames, listener, { endIsSaid: true });
      },
      write: (payload) => frames.write(encodeSnapshotFrame(payload)),
      end: () => frames.end(),
      abort: (status) => frames.abort(status),
    },
    listener: () => inner,
  };
}
