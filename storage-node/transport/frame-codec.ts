/**
 * Codec of `LinkFrame` and `SnapshotFrame` in `proto/minikv/v1/node.proto`.
 *
 * A link frame holds all that one node has to say to another in one turn of its event loop. Within a
 * frame heartbeats come first, then their replies, then everything else in the order in which it was
 * sent: Raft bears that messages overtake each other. Wire-compatible with the generated code
 * (property-tested both ways); see `proto/codec/wire.ts` for how encoding works.
 *
 * The first frame of a stream is a hello (hello-codec.ts); these functions are for all others.
 */
import {
  bytesFieldSize,
  LENGTH_DELIMITED,
  Reader,
  Sizes,
  VARINT,
  Writer,
} from "#proto/codec/wire.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { NodeId } from "#shared/ids.ts";
import { DECODED_ELEMENTS_MAX } from "#shared/limits.ts";
import type { Message } from "#storage-node/raft/types.ts";
import type { EntryMemory } from "./entry-memory.ts";
import { entryTraceSize, readEntryTrace, writeEntryTrace } from "./entry-traces.ts";
import {
  type Heartbeat,
  heartbeatsSize,
  isHeartbeat,
  readHeartbeats,
  writeHeartbeats,
} from "./heartbeat-codec.ts";
import { FRAME_HELLO } from "./hello-codec.ts";
import { messageSize, type PlainMessage, readMessage, writeMessage } from "./message-codec.ts";
import type { CarriedTrace } from "./transport.ts";

const HEARTBEATS = (2 << 3) | LENGTH_DELIMITED;
const HEARTBEAT_REPLIES = (3 << 3) | LENGTH_DELIMITED;
const MESSAGES = (4 << 3) | LENGTH_DELIMITED;
const TRACES = (5 << 3) | LENGTH_DELIMITED;
const PAYLOAD = (2 << 3) | LENGTH_DELIMITED;
const SNAPSHOT_END = (3 << 3) | VARINT;

const NO_TRACES: readonly CarriedTrace[] = [];

// Encoding is synchronous and never re-entered: one list of sizes serves all calls.
const sizes = new Sizes();

/**
 * Messages between replicas of two nodes: `from` and `to` must belong to those that said hello. `traces`
 * are of entries in them.
 */
export function encodeLinkFrame(
  messages: readonly Message[],
  traces: readonly CarriedTrace[] = NO_TRACES,
): Uint8Array {
  const heartbeats: Heartbeat[] = [];
  const replies: Heartbeat[] = [];
  const others: PlainMessage[] = [];
  for (const message of messages) {
    if (!isHeartbeat(message)) others.push(message);
    else if (message.kind === "heartbeat") heartbeats.push(message);
    else replies.push(message);
  }
  sizes.clear();
  let size = 0;
  for (const list of [heartbeats, replies]) {
    if (list.length === 0) continue;
    const slot = sizes.reserve();
    size += sizes.fill(slot, heartbeatsSize(list, sizes));
  }
  for (const message of others) {
    const slot = sizes.reserve();
    size += sizes.fill(slot, messageSize(message, sizes));
  }
  for (const trace of traces) size += sizes.fill(sizes.reserve(), entryTraceSize(trace));
  const writer = new Writer(size, sizes);
  if (heartbeats.length > 0) {
    writer.messageField(HEARTBEATS);
    writeHeartbeats(heartbeats, writer);
  }
  if (replies.length > 0) {
    writer.messageField(HEARTBEAT_REPLIES);
    writeHeartbeats(replies, writer);
  }
  for (const message of others) {
    writer.messageField(MESSAGES);
    writeMessage(message, writer);
  }
  for (const trace of traces) {
    writer.messageField(TRACES);
    writeEntryTrace(trace, writer);
  }
  return writer.finish();
}

/**
 * What node `from` says to node `to`. Entries may be views of `bytes`, which must not change any more;
 * `memory` sees to it that keeping them is cheap. Traces are added to `traces`, and skipped without it.
 *
 * @throws KvError INVALID_ARGUMENT when malformed
 */
export function decodeLinkFrame(
  bytes: Uint8Array,
  nodes: { readonly from: NodeId; readonly to: NodeId },
  memory: EntryMemory,
  traces?: CarriedTrace[],
): readonly Message[] {
  const reader = new Reader(bytes, "INVALID_ARGUMENT", DECODED_ELEMENTS_MAX);
  const messages: Message[] = [];
  while (reader.more) {
    const tag = reader.tag();
    if (tag === MESSAGES) {
      const message = readMessage(reader);
      memory.settle(message);
      messages.push(message);
    } else if (tag === HEARTBEATS) readHeartbeats(reader, "heartbeat", nodes, messages);
    else if (tag === HEARTBEAT_REPLIES) readHeartbeats(reader, "heartbeatReply", nodes, messages);
    else if (tag === TRACES && traces !== undefined) readEntryTrace(reader, traces);
    else if (tag === FRAME_HELLO) reader.fail("hello may be said once only");
    else reader.skip(tag);
  }
  return messages;
}

export function encodeSnapshotFrame(payload: Uint8Array): Uint8Array {
  sizes.clear();
  const writer = new Writer(bytesFieldSize(payload), sizes);
  writer.bytesField(PAYLOAD, payload);
  return writer.finish();
}

/** What the opener of a snapshot stream sends when it ends the stream in good order. */
export function encodeSnapshotEnd(): Uint8Array {
  return Buffer.from([SNAPSHOT_END, 1]);
}

/**
 * The payload, a view of `bytes`, or "end".
 * @throws KvError INVALID_ARGUMENT when malformed
 */
export function decodeSnapshotFrame(bytes: Uint8Array): Uint8Array | "end" {
  const reader = new Reader(bytes, "INVALID_ARGUMENT", 0);
  let payload = EMPTY_BYTES as Uint8Array;
  let end = false;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === PAYLOAD) payload = reader.bytes();
    else if (tag === SNAPSHOT_END) end = reader.bool();
    else if (tag === FRAME_HELLO) reader.fail("hello may be said once only");
    else reader.skip(tag);
  }
  return end ? "end" : payload;
}
