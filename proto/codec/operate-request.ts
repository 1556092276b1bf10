/**
 * Codec of `OperateRequest` in `proto/minikv/v1/storage.proto`: batches of operations on their way
 * to a storage node.
 *
 * Wire-compatible with the generated code (property-tested both ways). See `wire.ts` for how it
 * works. Decoded byte fields are views of the message. Decoding checks the form; what an operation
 * may ask for is checked by the storage node's `rpc/`.
 */
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { Space, TenantId, VshardId } from "#shared/ids.ts";
import { DECODED_ELEMENTS_MAX } from "#shared/limits.ts";
import { commandSize, readCommand, skipContents, writeCommand } from "./entry-body.ts";
import { helloSize, readHello, writeHello } from "./hello.ts";
import type { Get, Hello, OperateRequest, Operation, OperationBody } from "./messages.ts";
import { readScan, scanSize, writeScan } from "./scan.ts";
import {
  bytesFieldSize,
  LENGTH_DELIMITED,
  numberFieldSize,
  Reader,
  Sizes,
  VARINT,
  Writer,
} from "./wire.ts";

const REQUEST_HELLO = (1 << 3) | LENGTH_DELIMITED;
const REQUEST_OPERATIONS = (2 << 3) | LENGTH_DELIMITED;
const OPERATION_CALL_ID = (1 << 3) | VARINT;
const OPERATION_VSHARD = (2 << 3) | VARINT;
const OPERATION_DEADLINE = (3 << 3) | VARINT;
const OPERATION_TRACE_CONTEXT = (4 << 3) | LENGTH_DELIMITED;
const OPERATION_GET = (5 << 3) | LENGTH_DELIMITED;
const OPERATION_WRITE = (6 << 3) | LENGTH_DELIMITED;
const OPERATION_CANCEL = (7 << 3) | LENGTH_DELIMITED;
const OPERATION_SCAN = (8 << 3) | LENGTH_DELIMITED;
const GET_TENANT = (1 << 3) | VARINT;
const GET_SPACE = (2 << 3) | VARINT;
const GET_KEY = (3 << 3) | LENGTH_DELIMITED;
const GET_STALENESS = (4 << 3) | VARINT;
const GET_METADATA_ONLY = (5 << 3) | VARINT;

const CANCEL_BODY: OperationBody = { kind: "cancel" };

// Encoding is synchronous and never re-entered: one list of sizes serves all calls.
const sizes = new Sizes();

/** The buffer belongs to the caller. */
export function encodeOperateRequest(request: OperateRequest): Uint8Array {
  const { hello, operations } = request;
  sizes.clear();
  let size = 0;
  if (hello !== undefined) size += sizes.fill(sizes.reserve(), helloSize(hello));
  for (const operation of operations) {
    const slot = sizes.reserve();
    size += sizes.fill(slot, operationSize(operation));
  }
  const writer = new Writer(size, sizes);
  if (hello !== undefined) {
    writer.messageField(REQUEST_HELLO);
    writeHello(hello, writer);
  }
  for (const operation of operations) {
    writer.messageField(REQUEST_OPERATIONS);
    writeOperation(operation, writer);
  }
  return writer.finish();
}

/**
 * Byte fields of the result are views of `bytes`.
 *
 * @throws KvError INVALID_ARGUMENT when malformed
 */
export function decodeOperateRequest(bytes: Uint8Array): OperateRequest {
  const reader = new Reader(bytes, "INVALID_ARGUMENT", DECODED_ELEMENTS_MAX);
  let hello: Hello | undefined;
  const operations: Operation[] = [];
  while (reader.more) {
    const tag = reader.tag();
    if (tag === REQUEST_OPERATIONS) operations.push(readOperation(reader));
    else if (tag === REQUEST_HELLO) hello = readHello(reader);
    else reader.skip(tag);
  }
  return { hello, operations };
}

function operationSize(operation: Operation): number {
  const { body } = operation;
  const headSize =
    numberFieldSize(operation.callId) +
    numberFieldSize(operation.vshard) +
    numberFieldSize(operation.deadlineMs) +
    bytesFieldSize(operation.traceContext);
  const slot = sizes.reserve();
  switch (body.kind) {
    case "get":
      return headSize + sizes.fill(slot, getSize(body));
    case "write":
      return headSize + sizes.fill(slot, commandSize(body.command, sizes));
    case "scan":
      return headSize + sizes.fill(slot, scanSize(body));
    case "cancel":
      return headSize + sizes.fill(slot, 0);
  }
}

function writeOperation(operation: Operation, writer: Writer): void {
  const { body } = operation;
  writer.numberField(OPERATION_CALL_ID, operation.callId);
  writer.numberField(OPERATION_VSHARD, operation.vshard);
  writer.numberField(OPERATION_DEADLINE, operation.deadlineMs);
  writer.bytesField(OPERATION_TRACE_CONTEXT, operation.traceContext);
  switch (body.kind) {
    case "get":
      writer.messageField(OPERATION_GET);
      writeGet(body, writer);
      break;
    case "write":
      writer.messageField(OPERATION_WRITE);
      writeCommand(body.command, writer);
      break;
    case "scan":
      writer.messageField(OPERATION_SCAN);
      writeScan(body, writer);
      break;
    case "cancel":
      writer.messageField(OPERATION_CANCEL);
      break;
  }
}

function readOperation(reader: Reader): Operation {
  reader.countElement();
  const outerEnd = reader.enter();
  let callId = 0;
  let vshard = 0;
  let deadlineMs = 0;
  let traceContext = EMPTY_BYTES as Uint8Array;
  let body: OperationBody | undefined;
  while (reader.more) {
    const tag = reader.tag();
    switch (tag) {
      case OPERATION_CALL_ID:
        callId = reader.uint64();
        break;
      case OPERATION_VSHARD:
        vshard = reader.uint32();
        break;
      case OPERATION_DEADLINE:
        deadlineMs = reader.uint64();
        break;
      case OPERATION_TRACE_CONTEXT:
        traceContext = reader.bytes();
        break;
      case OPERATION_GET:
        body = readGet(reader);
        break;
      case OPERATION_WRITE:
        body = { kind: "write", command: readCommand(reader) };
        break;
      case OPERATION_SCAN:
        body = readScan(reader);
        break;
      case OPERATION_CANCEL:
        skipContents(reader);
        body = CANCEL_BODY;
        break;
      default:
        reader.skip(tag);
    }
  }
  reader.leave(outerEnd);
  // A kind that this version does not know: peers agree on a protocol version before they use one.
  if (body === undefined) reader.fail("operation without a known body");
  return { callId, vshard: vshard as VshardId, deadlineMs, traceContext, body };
}

function getSize(get: Get): number {
  return (
    numberFieldSize(get.tenant) +
    numberFieldSize(get.space) +
    bytesFieldSize(get.key) +
    numberFieldSize(get.maxStalenessMs) +
    (get.metadataOnly ? 2 : 0)
  );
}

function writeGet(get: Get, writer: Writer): void {
  writer.numberField(GET_TENANT, get.tenant);
  writer.numberField(GET_SPACE, get.space);
  writer.bytesField(GET_KEY, get.key);
  writer.numberField(GET_STALENESS, get.maxStalenessMs);
  writer.boolField(GET_METADATA_ONLY, get.metadataOnly);
}

function readGet(reader: Reader): Get {
  const outerEnd = reader.enter();
  let tenant = 0;
  let space = 0;
  let key = EMPTY_BYTES as Uint8Array;
  let maxStalenessMs = 0;
  let metadataOnly = false;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === GET_TENANT) tenant = reader.uint32();
    else if (tag === GET_SPACE) space = reader.uint32();
    else if (tag === GET_KEY) key = reader.bytes();
    else if (tag === GET_STALENESS) maxStalenessMs = reader.uint64();
    else if (tag === GET_METADATA_ONLY) metadataOnly = reader.bool();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  return {
    kind: "get",
    tenant: tenant as TenantId,
    space: space as Space,
    key,
    maxStalenessMs,
    metadataOnly,
  };
}
