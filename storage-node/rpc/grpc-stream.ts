/** A gateway's gRPC call as a message stream. */
import type { ServerDuplexStream } from "@grpc/grpc-js";
import { GrpcStatus } from "#shared/errors.ts";
import type { MessageStream } from "#shared/message-stream.ts";

export type BytesCall = ServerDuplexStream<Buffer, Uint8Array>;

export function grpcStream(call: BytesCall): MessageStream {
  return {
    listen: ({ onMessage, onDrain, onClosed }) => {
      call.on("data", onMessage);
      call.on("drain", onDrain);
      const closed = (): void => onClosed({ code: GrpcStatus.Cancelled, details: "call ended" });
      for (const event of ["error", "cancelled", "close"]) call.on(event, closed);
    },
    write: (bytes) => call.write(bytes),
    end: () => call.end(),
    abort: ({ code, details }) => {
      // grpc-js takes the status from this event and ends the stream with it.
      call.emit("error", Object.assign(new Error(details), { code, details }));
    },
  };
}
