/**
 * A message stream over a `MessagePort`, between two threads of a process.
 *
 * A port takes whatever it is given, and a thread that is busy lets it pile up. So the receiver
 * confirms what it has taken, in numbers of bytes, and the sender asks for a pause when too much is
 * under way. Confirmations are rare: one for half of what may be under way.
 *
 * Messages change hands as `ArrayBuffer`s, which are moved and not copied.
 */
import type { MessagePort } from "node:worker_threads";
import { GrpcStatus } from "#shared/errors.ts";
import { PORT_BYTES_UNDER_WAY_MAX } from "#shared/limits.ts";
import type { MessageStream, StreamListener, StreamStatus } from "#shared/message-stream.ts";

/** A message, the bytes that were taken, or how the stream ended. */
type Posted = ArrayBuffer | number | StreamStatus;

const CONFIRMED_AT_ONCE_BYTES = PORT_BYTES_UNDER_WAY_MAX / 2;

export class PortStream implements MessageStream {
  readonly #port: MessagePort;
  #listener: StreamListener | undefined;
  #underWayBytes = 0;
  #takenBytes = 0;
  #blocked = false;

  constructor(port: MessagePort) {
    this.#port = port;
  }

  listen(listener: StreamListener): void {
    this.#listener = listener;
    this.#port.on("message", (posted: Posted) => this.#receive(posted));
    this.#port.on("close", () => {
      this.#close({ code: GrpcStatus.Unavailable, details: "the other thread closed its port" });
    });
  }

  write(bytes: Uint8Array): boolean {
    // Small buffers are views of a pool, which cannot be moved.
    const isWhole = bytes.byteLength === bytes.buffer.byteLength;
    const buffer = (isWhole ? bytes : new Uint8Array(bytes)).buffer as ArrayBuffer;
    this.#underWayBytes += buffer.byteLength;
    this.#port.postMessage(buffer, [buffer]);
    this.#blocked = this.#underWayBytes > PORT_BYTES_UNDER_WAY_MAX;
    return !this.#blocked;
  }

  end(): void {
    this.abort({ code: GrpcStatus.Ok, details: "" });
  }

  abort(status: StreamStatus): void {
    // What was posted before a port is closed still arrives.
    this.#port.postMessage(status);
    this.#port.close();
  }

  #receive(posted: Posted): void {
    if (posted instanceof ArrayBuffer) {
      this.#listener!.onMessage(new Uint8Array(posted));
      this.#takenBytes += posted.byteLength;
      if (this.#takenBytes < CONFIRMED_AT_ONCE_BYTES) return;
      this.#port.postMessage(this.#takenBytes);
      this.#takenBytes = 0;
    } else if (typeof posted === "number") {
      this.#underWayBytes -= posted;
      if (!this.#blocked || this.#underWayBytes > PORT_BYTES_UNDER_WAY_MAX) return;
      this.#blocked = false;
      this.#listener!.onDrain();
    } else {
      this.#close(posted);
    }
  }

  #close(status: StreamStatus): void {
    this.#port.close();
    this.#listener!.onClosed(status);
  }
}
