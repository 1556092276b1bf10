/** Codec of `Hello` in `proto/minikv/v1/storage.proto`: the first message in each direction. */
import type { Hello } from "./messages.ts";
import {
  LENGTH_DELIMITED,
  numberFieldSize,
  type Reader,
  stringFieldSize,
  VARINT,
  type Writer,
} from "./wire.ts";

const PROTOCOL_VERSION = (1 << 3) | VARINT;
const CLUSTER_ID = (2 << 3) | LENGTH_DELIMITED;
const NODE_ID = (3 << 3) | VARINT;
const SOFTWARE_VERSION = (4 << 3) | LENGTH_DELIMITED;
const WINDOW_OPERATIONS = (5 << 3) | VARINT;
const WINDOW_BYTES = (6 << 3) | VARINT;

export function helloSize(hello: Hello): number {
  return (
    numberFieldSize(hello.protocolVersion) +
    stringFieldSize(hello.clusterId) +
    numberFieldSize(hello.nodeId) +
    stringFieldSize(hello.softwareVersion) +
    numberFieldSize(hello.windowOperations) +
    numberFieldSize(hello.windowBytes)
  );
}

export function writeHello(hello: Hello, writer: Writer): void {
  writer.numberField(PROTOCOL_VERSION, hello.protocolVersion);
  writer.stringField(CLUSTER_ID, hello.clusterId);
  writer.numberField(NODE_ID, hello.nodeId);
  writer.stringField(SOFTWARE_VERSION, hello.softwareVersion);
  writer.numberField(WINDOW_OPERATIONS, hello.windowOperations);
  writer.numberField(WINDOW_BYTES, hello.windowBytes);
}

export function readHello(reader: Reader): Hello {
  const outerEnd = reader.enter();
  let protocolVersion = 0;
  let clusterId = "";
  let nodeId = 0;
  let softwareVersion = "";
  let windowOperations = 0;
  let windowBytes = 0;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === PROTOCOL_VERSION) protocolVersion = reader.uint32();
    else if (tag === CLUSTER_ID) clusterId = reader.string();
    else if (tag === NODE_ID) nodeId = reader.uint32();
    else if (tag === SOFTWARE_VERSION) softwareVersion = reader.string();
    else if (tag === WINDOW_OPERATIONS) windowOperations = reader.uint32();
    else if (tag === WINDOW_BYTES) windowBytes = reader.uint32();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  return { protocolVersion, clusterId, nodeId, softwareVersion, windowOperations, windowBytes };
}
