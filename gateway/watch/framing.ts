/**
 * Events as bytes on a connection: `text/event-stream`, and text messages of WebSocket (RFC 6455 section 5.2,
 * unmasked as servers send them).
 *
 * The last event of what is written together carries the resume token: tokens may be as long as 1 KB, and a client
 * that breaks off in between goes on from the token before, which repeats events and leaves out none.
 */
import type { ResumeToken } from "./resume-token.ts";
import type { WatchQuery } from "./watches.ts";

export type EventName =
  | "put"
  | "delete"
  | "expire"
  | "progress"
  | "compacted"
  | "resync"
  | "drain"
  | "revoke";

/** An event before it has the form of its connection. */
export type NamedEvent = { readonly name: EventName; readonly data: Buffer };

type Format = WatchQuery["format"];

const FIN_TEXT = 0x81;
const MEDIUM_SIZE = 126;
const LARGE_SIZE = 127;

const SSE_HEARTBEAT = Buffer.from(":\n\n");
/** A ping without content. */
const WS_HEARTBEAT = Buffer.from([0x89, 0]);

export const heartbeatOf = (format: Format): Uint8Array =>
  format === "sse" ? SSE_HEARTBEAT : WS_HEARTBEAT;

/** The bytes of `events` from `start` on, at least one. */
export function frame(
  format: Format,
  events: readonly NamedEvent[],
  start: number,
  token: ResumeToken,
): Uint8Array {
  return format === "sse" ? sse(events, start, token) : messages(events, start, token);
}

const SSE_HEAD_SIZE = "event: \ndata: \n\n".length;

function sse(events: readonly NamedEvent[], start: number, token: ResumeToken): Uint8Array {
  let size = `id: ${token}\n`.length;
  for (let i = start; i < events.length; i++) {
    const { name, data } = events[i]!;
    size += SSE_HEAD_SIZE + name.length + data.length;
  }
  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for (let i = start; i < events.length; i++) {
    const { name, data } = events[i]!;
    at += bytes.write(`event: ${name}\ndata: `, at, "latin1");
    at += data.copy(bytes, at);
    at += bytes.write(i === events.length - 1 ? `\nid: ${token}\n\n` : "\n\n", at, "latin1");
  }
  return bytes;
}

function messages(events: readonly NamedEvent[], start: number, token: ResumeToken): Uint8Array {
  const last = `,"token":"${token}"}`;
  let size = 0;
  for (let i = start; i < events.length; i++) {
    const payload = payloadSize(events[i]!, i === events.length - 1 ? last : "}");
    size += headSize(payload) + payload;
  }
  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for (let i = start; i < events.length; i++) {
    const { name, data } = events[i]!;
    const tail = i === events.length - 1 ? last : "}";
    at = writeHead(bytes, at, payloadSize(events[i]!, tail));
    at += bytes.write(`{"event":"${name}","data":`, at, "latin1");
    at += data.copy(bytes, at);
    at += bytes.write(tail, at, "latin1");
  }
  return bytes;
}

const MESSAGE_HEAD_SIZE = '{"event":"","data":'.length;

const payloadSize = ({ name, data }: NamedEvent, tail: string): number =>
  MESSAGE_HEAD_SIZE + name.length + data.length + tail.length;

function headSize(payload: number): number {
  if (payload < MEDIUM_SIZE) return 2;
  return payload < 0x1_0000 ? 4 : 10;
}

function writeHead(bytes: Buffer, at: number, payload: number): number {
  bytes[at] = FIN_TEXT;
  if (payload < MEDIUM_SIZE) {
    bytes[at + 1] = payload;
    return at + 2;
  }
  if (payload < 0x1_0000) {
    bytes[at + 1] = MEDIUM_SIZE;
    return bytes.writeUInt16BE(payload, at + 2);
  }
  bytes[at + 1] = LARGE_SIZE;
  bytes.writeUInt32BE(0, at + 2);
  return bytes.writeUInt32BE(payload, at + 6);
}
