/**
 * Codec of `NodeHello` in `proto/minikv/v1/node.proto`: the first frame in each direction of a stream
 * between two nodes, and the only one that carries it.
 */
import {
  LENGTH_DELIMITED,
  messageFieldSize,
  numberFieldSize,
  Reader,
  Sizes,
  stringFieldSize,
  VARINT,
  Writer,
} from "#proto/codec/wire.ts";

/** Values of `Lane` in node.proto. */
export const Lane = { Control: 1, Appends: 2, Snapshot: 3 } as const;
export type Lane = (typeof Lane)[keyof typeof Lane];

export type NodeHello = {
  readonly protocolVersion: number;
  readonly clusterId: string;
  readonly nodeId: number;
  /** The node that the sender means to speak with. */
  readonly peerNodeId: number;
  readonly softwareVersion: string;
  /** A `Lane`, unless the sender is of another version. */
  readonly lane: number;
};

/** Field 1 of `LinkFrame` and of `SnapshotFrame`. */
export const FRAME_HELLO = (1 << 3) | LENGTH_DELIMITED;

const PROTOCOL_VERSION = (1 << 3) | VARINT;
const CLUSTER_ID = (2 << 3) | LENGTH_DELIMITED;
const NODE_ID = (3 << 3) | VARINT;
const PEER_NODE_ID = (4 << 3) | VARINT;
const SOFTWARE_VERSION = (5 << 3) | LENGTH_DELIMITED;
const LANE = (6 << 3) | VARINT;

/** A frame, of either kind of stream, that holds nothing but the hello. */
export function encodeHelloFrame(hello: NodeHello): Uint8Array {
  const sizes = new Sizes();
  const size =
    numberFieldSize(hello.protocolVersion) +
    stringFieldSize(hello.clusterId) +
    numberFieldSize(hello.nodeId) +
    numberFieldSize(hello.peerNodeId) +
    stringFieldSize(hello.softwareVersion) +
    numberFieldSize(hello.lane);
  sizes.fill(sizes.reserve(), size);
  const writer = new Writer(messageFieldSize(size), sizes);
  writer.messageField(FRAME_HELLO);
  writer.numberField(PROTOCOL_VERSION, hello.protocolVersion);
  writer.stringField(CLUSTER_ID, hello.clusterId);
  writer.numberField(NODE_ID, hello.nodeId);
  writer.numberField(PEER_NODE_ID, hello.peerNodeId);
  writer.stringField(SOFTWARE_VERSION, hello.softwareVersion);
  writer.numberField(LANE, hello.lane);
  return writer.finish();
}

/**
 * The hello of a first frame; what else a later version says there is skipped.
 * @throws KvError INVALID_ARGUMENT when malformed or without a hello
 */
export function decodeHelloFrame(bytes: Uint8Array): NodeHello {
  const reader: Reader = new Reader(bytes, "INVALID_ARGUMENT", 0);
  let hello: NodeHello | undefined;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === FRAME_HELLO) hello = readHello(reader);
    else reader.skip(tag);
  }
  if (hello === undefined) reader.fail("the first frame must carry the hello");
  return hello;
}

function readHello(reader: Reader): NodeHello {
  const outerEnd = reader.enter();
  let protocolVersion = 0;
  let clusterId = "";
  let nodeId = 0;
  let peerNodeId = 0;
  let softwareVersion = "";
  let lane = 0;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === PROTOCOL_VERSION) protocolVersion = reader.uint32();
    else if (tag === CLUSTER_ID) clusterId = reader.string();
    else if (tag === NODE_ID) nodeId = reader.uint32();
    else if (tag === PEER_NODE_ID) peerNodeId = reader.uint32();
    else if (tag === SOFTWARE_VERSION) softwareVersion = reader.string();
    else if (tag === LANE) lane = reader.uint32();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  return { protocolVersion, clusterId, nodeId, peerNodeId, softwareVersion, lane };
}
