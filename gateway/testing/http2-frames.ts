/**
 * An HTTP/2 client of hand-made frames, for what well-behaved clients never send. Header blocks are
 * literals without compression.
 */
import { connect, type TLSSocket } from "node:tls";

export const FRAME = {
  ...{ data: 0, headers: 1, priority: 2, rst: 3, settings: 4, ping: 6, goaway: 7 },
  ...{ window: 8, continuation: 9 },
} as const;
export const END_STREAM = 1;
export const END_HEADERS = 4;
const ACK = 1;

export type Frame = {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
};

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES = 9;

export function frame(type: number, flags: number, stream: number, payload: Uint8Array = NO_BYTES) {
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}
const NO_BYTES = new Uint8Array();

export const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

function lengthOf(value: number): Buffer {
  if (value < 127) return Buffer.from([value]);
  const bytes = [127];
  let rest = value - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

export type Headers = readonly (readonly [name: string, value: string])[];

/** Names and values of one character per byte, as they are. */
export function headerBlock(headers: Headers): Buffer {
  return Buffer.concat(
    headers.flatMap(([name, value]) => {
      const bytes = [Buffer.from(name, "latin1"), Buffer.from(value, "latin1")] as const;
      return [Buffer.from([0]), ...bytes.flatMap((text) => [lengthOf(text.length), text])];
    }),
  );
}

export const request = (method: string, path: string, more: Headers = []): Headers => [
  ...([
    [":method", method],
    [":path", path],
    [":scheme", "https"],
    [":authority", "test"],
  ] as const),
  ...more,
];

/** A HEADERS frame with all of its block; ends the stream unless told otherwise. */
export const headersFrame = (stream: number, headers: Headers, flags = END_STREAM | END_HEADERS) =>
  frame(FRAME.headers, flags, stream, headerBlock(headers));

export const resetFrame = (stream: number): Buffer => frame(FRAME.rst, 0, stream, uint32(8));

export class FrameClient {
  readonly socket: TLSSocket;
  readonly frames: Frame[] = [];
  readonly closed: Promise<void>;
  isClosed = false;
  /** Whether it confirms settings. */
  agrees = true;
  #rest: Buffer = Buffer.alloc(0);

  private constructor(socket: TLSSocket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("error", () => undefined);
    this.closed = new Promise((resolve) => {
      socket.once("close", () => {
        this.isClosed = true;
        resolve();
      });
    });
  }

  /** Connects, and says hello unless it is told not to. */
  static async open(port: number, ca: Buffer, hello: Buffer | "" = frame(FRAME.settings, 0, 0)) {
    const socket = connect({ host: "127.0.0.1", port, ca, ALPNProtocols: ["h2"] });
    const client = new FrameClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once("secureConnect", resolve);
      socket.once("error", reject);
    });
    if (hello !== "") client.send(Buffer.from(PREFACE), hello);
    return client;
  }

  send(...frames: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(frames));
  }

  of(type: number, stream?: number): readonly Frame[] {
    return this.frames.filter(
      (item) => item.type === type && (stream === undefined || item.stream === stream),
    );
  }

  /** The code of the last GOAWAY; undefined before there is one. */
  get goawayCode(): number | undefined {
    return this.of(FRAME.goaway).at(-1)?.payload.readUInt32BE(4);
  }

  /** The code with which a stream was reset; undefined when it was not. */
  resetCode(stream: number): number | undefined {
    return this.of(FRAME.rst, stream).at(-1)?.payload.readUInt32BE(0);
  }

  bodyOf(stream: number): string {
    return Buffer.concat(this.of(FRAME.data, stream).map(({ payload }) => payload)).toString();
  }

  #take(chunk: Buffer): void {
    let bytes = Buffer.concat([this.#rest, chunk]);
    while (bytes.length >= HEAD_BYTES) {
      const end = HEAD_BYTES + bytes.readUIntBE(0, 3);
      if (bytes.length < end) break;
      const [type, flags] = [bytes[3]!, bytes[4]!];
      const payload = bytes.subarray(HEAD_BYTES, end);
      this.frames.push({ type, flags, stream: bytes.readUInt32BE(5), payload });
      if (this.agrees && type === FRAME.settings && flags === 0) {
        this.send(frame(FRAME.settings, ACK, 0));
      }
      bytes = bytes.subarray(end);
    }
    this.#rest = bytes;
  }
}
