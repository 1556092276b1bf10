/**
 * The carriers of node-to-node streams: gRPC calls as message streams, from either end.
 *
 * grpc-js takes any number of writes and counts messages, not bytes, before it asks for a pause. Here
 * bytes count as well: what is handed to it and not on its way yet stays below a bound, and what comes
 * meanwhile waits in the lane, where it can be counted, joined into fewer frames, and dropped.
 */
import type { ChannelCredentials, ClientDuplexStream, ServerDuplexStream } from "@grpc/grpc-js";
import { LINK_PATH, SNAPSHOT_PATH } from "#proto/codec/service.ts";
import { GrpcStatus } from "#shared/errors.ts";
import { LINK_WRITES_PENDING_BYTES_MAX } from "#shared/limits.ts";
import type { MessageStream, StreamStatus } from "#shared/message-stream.ts";
import { cancelCall, grpcClient, grpcReasonIn, passBytes } from "#shared/runtime/grpc.ts";

/** A connection to one node, opened with the first stream. */
export type NodeConnection = {
  openLink(): MessageStream;
  openSnapshot(): MessageStream;
  /** Ends all of its streams at once. */
  close(): void;
};

/** Dials `host:port`. Fails its streams when it cannot connect; never tries again by itself. */
export function grpcConnection(address: string, credentials: ChannelCredentials): NodeConnection {
  const client = grpcClient(address, credentials);
  const calls = new Set<ClientCall>();
  const open = (path: string): MessageStream => {
    const serialize = passBytes as (bytes: Uint8Array) => Buffer;
    const call: ClientCall = client.makeBidiStreamRequest(path, serialize, passBytes);
    calls.add(call);
    call.on("status", () => calls.delete(call));
    return clientStream(call);
  };
  return {
    openLink: () => open(LINK_PATH),
    openSnapshot: () => open(SNAPSHOT_PATH),
    close: () => {
      for (const call of calls) cancelCall(call);
      client.close();
    },
  };
}

type ClientCall = ClientDuplexStream<Uint8Array, Buffer>;
export type ServerCall = ServerDuplexStream<Buffer, Uint8Array>;

function clientStream(call: ClientCall): MessageStream {
  const writes = new PendingWrites(call);
  return {
    listen: ({ onMessage, onDrain, onClosed }) => {
      writes.onDrain = onDrain;
      call.on("data", onMessage);
      // A `status` event always follows; without a listener the error would end the process.
      call.on("error", () => {});
      call.on("status", ({ code, details }: StreamStatus) => {
        writes.close();
        onClosed({ code, details: grpcReasonIn(details) });
      });
    },
    write: (bytes) => writes.write(bytes),
    end: () => call.end(),
    // A client of gRPC has no way to say why.
    abort: () => {
      writes.close();
      cancelCall(call);
    },
  };
}

export function serverStream(call: ServerCall): MessageStream {
  const writes = new PendingWrites(call);
  return {
    listen: ({ onMessage, onDrain, onClosed }) => {
      writes.onDrain = onDrain;
      const close = (code: GrpcStatus, details: string): void => {
        writes.close();
        onClosed({ code, details });
      };
      call.on("data", onMessage);
      call.on("end", () => {
        // The peer sees the status Ok when this end does the same. A call that is cancelled may come here
        // as well, before anything else tells of it.
        call.end();
        close(GrpcStatus.Ok, "the peer ended the stream");
      });
      for (const event of ["error", "cancelled", "close"]) {
        call.on(event, () => close(GrpcStatus.Cancelled, "the peer or its connection has gone"));
      }
    },
    write: (bytes) => writes.write(bytes),
    end: () => call.end(),
    abort: ({ code, details }) => {
      if (writes.closed) return;
      writes.close();
      // grpc-js takes the status from this event and ends the stream with it.
      call.emit("error", Object.assign(new Error(details), { code, details }));
    },
  };
}

/** Counts what gRPC was given and has not passed on yet. */
class PendingWrites {
  readonly #call: ClientCall | ServerCall;
  onDrain: () => void = () => {};
  #bytes = 0;
  #blocked = false;
  #closed = false;

  constructor(call: ClientCall | ServerCall) {
    this.#call = call;
  }

  /** Whether more may be written at once; otherwise `onDrain` will say so. */
  write(bytes: Uint8Array): boolean {
    if (this.#closed) return false;
    this.#bytes += bytes.length;
    const accepted = this.#call.write(bytes, () => this.#written(bytes.length));
    if (!accepted || this.#bytes >= LINK_WRITES_PENDING_BYTES_MAX) this.#blocked = true;
    return !this.#blocked;
  }

  get closed(): boolean {
    return this.#closed;
  }

  close(): void {
    this.#closed = true;
  }

  #written(count: number): void {
    this.#bytes -= count;
    if (!this.#blocked || this.#closed || this.#call.writableNeedDrain) return;
    if (this.#bytes >= LINK_WRITES_PENDING_BYTES_MAX) return;
    this.#blocked = false;
    this.onDrain();
  }
}
