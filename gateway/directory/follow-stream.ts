/** A message stream to a storage node of the same build, as a call that follows the directory. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  FollowDirectoryRequestSchema,
  FollowDirectoryResponseSchema,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import type { FollowCall, FollowListener } from "./directory-rpc.ts";

export function followStream(stream: MessageStream, listener: FollowListener): FollowCall {
  let isOver = false;
  let isFull = false;
  stream.listen({
    onMessage: (bytes) => {
      if (isOver) return;
      listener.onMessage(fromBinary(FollowDirectoryResponseSchema, bytes));
    },
    onDrain: () => {
      isFull = false;
    },
    onClosed: ({ details }) => {
      if (isOver) return;
      isOver = true;
      listener.onClosed(details);
    },
  });
  return {
    send: (request) => {
      if (isOver || isFull) return;
      isFull = !stream.write(toBinary(FollowDirectoryRequestSchema, request));
    },
    cancel: () => {
      if (isOver) return;
      isOver = true;
      stream.end();
    },
  };
}
