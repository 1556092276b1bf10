/**
 * Codec of `OperateResponse` in `proto/minikv/v1/storage.proto`: batches of results on their way
 * back to a gateway.
 *
 * Wire-compatible with the generated code (property-tested both ways). See `wire.ts` for how it
 * works. Decoded byte fields are views of the message.
 */

import { unreachable } from "#shared/assert.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { Revision } from "#shared/ids.ts";
import { DECODED_ELEMENTS_MAX } from "#shared/limits.ts";
import { failureSize, readFailure, writeFailure } from "./failure.ts";
import { helloSize, readHello, writeHello } from "./hello.ts";
import {
  type GetResult,
  type Hello,
  type MutationResult,
  MutationStatus,
  type OperateResponse,
  type Result,
  type ResultBody,
  type WriteResult,
} from "./messages.ts";
import { readScanResult, scanResultSize, writeScanResult } from "./scan.ts";
import {
  bytesFieldSize,
  LENGTH_DELIMITED,
  numberFieldSize,
  Reader,
  Sizes,
  stringFieldSize,
  VARINT,
  Writer,
} from "./wire.ts";

const RESPONSE_HELLO = (1 << 3) | LENGTH_DELIMITED;
const RESPONSE_RESULTS = (2 << 3) | LENGTH_DELIMITED;
const RESULT_CALL_ID = (1 << 3) | VARINT;
const RESULT_GET = (2 << 3) | LENGTH_DELIMITED;
const RESULT_WRITE = (3 << 3) | LENGTH_DELIMITED;
const RESULT_FAILURE = (4 << 3) | LENGTH_DELIMITED;
const RESULT_SCAN = (5 << 3) | LENGTH_DELIMITED;
const GET_FOUND = (1 << 3) | VARINT;
const GET_REVISION = (2 << 3) | VARINT;
const GET_VALUE = (3 << 3) | LENGTH_DELIMITED;
const GET_CONTENT_TYPE = (4 << 3) | LENGTH_DELIMITED;
const GET_EXPIRES_AT = (5 << 3) | VARINT;
const GET_MODIFIED_AT = (6 << 3) | VARINT;
const GET_VALUE_SIZE = (7 << 3) | VARINT;
const GET_ENCODING = (8 << 3) | VARINT;
const WRITE_MUTATIONS = (1 << 3) | LENGTH_DELIMITED;
const WRITE_APPLIED = (2 << 3) | VARINT;
const MUTATION_STATUS = (1 << 3) | VARINT;
const MUTATION_REVISION = (2 << 3) | VARINT;
const MUTATION_CREATED = (3 << 3) | VARINT;

// Encoding is synchronous and never re-entered: one list of sizes serves all calls.
const sizes = new Sizes();

/** The buffer belongs to the caller. */
export function encodeOperateResponse(response: OperateResponse): Uint8Array {
  const { hello, results } = response;
  sizes.clear();
  let size = 0;
  if (hello !== undefined) size += sizes.fill(sizes.reserve(), helloSize(hello));
  for (const { callId, body } of results) {
    const slot = sizes.reserve();
    const bodySlot = sizes.reserve();
    size += sizes.fill(slot, numberFieldSize(callId) + sizes.fill(bodySlot, bodySize(body)));
  }
  const writer = new Writer(size, sizes);
  if (hello !== undefined) {
    writer.messageField(RESPONSE_HELLO);
    writeHello(hello, writer);
  }
  for (const { callId, body } of results) {
    writer.messageField(RESPONSE_RESULTS);
    writer.numberField(RESULT_CALL_ID, callId);
    writeBody(body, writer);
  }
  return writer.finish();
}

/**
 * Byte fields of the result are views of `bytes`.
 *
 * @throws KvError INVALID_ARGUMENT when malformed
 */
export function decodeOperateResponse(bytes: Uint8Array): OperateResponse {
  const reader = new Reader(bytes, "INVALID_ARGUMENT", DECODED_ELEMENTS_MAX);
  let hello: Hello | undefined;
  const results: Result[] = [];
  while (reader.more) {
    const tag = reader.tag();
    if (tag === RESPONSE_RESULTS) results.push(readResult(reader));
    else if (tag === RESPONSE_HELLO) hello = readHello(reader);
    else reader.skip(tag);
  }
  return { hello, results };
}

function bodySize(body: ResultBody): number {
  switch (body.kind) {
    case "get":
      return getResultSize(body);
    case "write":
      return writeResultSize(body);
    case "scan":
      return scanResultSize(body, sizes);
    case "failure":
      return failureSize(body);
    default:
      return unreachable(body);
  }
}

function writeBody(body: ResultBody, writer: Writer): void {
  switch (body.kind) {
    case "get":
      writer.messageField(RESULT_GET);
      writeGetResult(body, writer);
      break;
    case "write":
      writer.messageField(RESULT_WRITE);
      writeWriteResult(body, writer);
      break;
    case "scan":
      writer.messageField(RESULT_SCAN);
      writeScanResult(body, writer);
      break;
    case "failure":
      writer.messageField(RESULT_FAILURE);
      writeFailure(body, writer);
      break;
    default:
      unreachable(body);
  }
}

function readResult(reader: Reader): Result {
  reader.countElement();
  const outerEnd = reader.enter();
  let callId = 0;
  let body: ResultBody | undefined;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === RESULT_CALL_ID) callId = reader.uint64();
    else if (tag === RESULT_GET) body = readGetResult(reader);
    else if (tag === RESULT_WRITE) body = readWriteResult(reader);
    else if (tag === RESULT_SCAN) body = readScanResult(reader);
    else if (tag === RESULT_FAILURE) body = readFailure(reader);
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  if (body === undefined) reader.fail("result without a known body");
  return { callId, body };
}

function getResultSize(result: GetResult): number {
  return (
    (result.found ? 2 : 0) +
    numberFieldSize(result.revision) +
    bytesFieldSize(result.value) +
    stringFieldSize(result.contentType) +
    numberFieldSize(result.expiresAtMs) +
    numberFieldSize(result.modifiedAtMs) +
    numberFieldSize(result.valueSizeBytes) +
    numberFieldSize(result.encoding ?? 0)
  );
}

function writeGetResult(result: GetResult, writer: Writer): void {
  writer.boolField(GET_FOUND, result.found);
  writer.numberField(GET_REVISION, result.revision);
  writer.bytesField(GET_VALUE, result.value);
  writer.stringField(GET_CONTENT_TYPE, result.contentType);
  writer.numberField(GET_EXPIRES_AT, result.expiresAtMs);
  writer.numberField(GET_MODIFIED_AT, result.modifiedAtMs);
  writer.numberField(GET_VALUE_SIZE, result.valueSizeBytes);
  writer.numberField(GET_ENCODING, result.encoding ?? 0);
}

function readGetResult(reader: Reader): GetResult {
  const outerEnd = reader.enter();
  let found = false;
  let revision = 0;
  let value = EMPTY_BYTES as Uint8Array;
  let contentType = "";
  let expiresAtMs = 0;
  let modifiedAtMs = 0;
  let valueSizeBytes = 0;
  let encoding = 0;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === GET_FOUND) found = reader.bool();
    else if (tag === GET_REVISION) revision = reader.uint64();
    else if (tag === GET_VALUE) value = reader.bytes();
    else if (tag === GET_CONTENT_TYPE) contentType = reader.string();
    else if (tag === GET_EXPIRES_AT) expiresAtMs = reader.uint64();
    else if (tag === GET_MODIFIED_AT) modifiedAtMs = reader.uint64();
    else if (tag === GET_VALUE_SIZE) valueSizeBytes = reader.uint64();
    else if (tag === GET_ENCODING) encoding = reader.uint32();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  return {
    kind: "get",
    found,
    revision: revision as Revision,
    value,
    contentType,
    expiresAtMs,
    modifiedAtMs,
    valueSizeBytes,
    encoding,
  };
}

function mutationResultSize(result: MutationResult): number {
  return (
    numberFieldSize(result.status) + numberFieldSize(result.revision) + (result.created ? 2 : 0)
  );
}

function writeResultSize(result: WriteResult): number {
  let size = result.applied ? 2 : 0;
  for (const mutation of result.mutations) {
    size += sizes.fill(sizes.reserve(), mutationResultSize(mutation));
  }
  return size;
}

function writeWriteResult(result: WriteResult, writer: Writer): void {
  for (const mutation of result.mutations) {
    writer.messageField(WRITE_MUTATIONS);
    writer.numberField(MUTATION_STATUS, mutation.status);
    writer.numberField(MUTATION_REVISION, mutation.revision);
    writer.boolField(MUTATION_CREATED, mutation.created);
  }
  writer.boolField(WRITE_APPLIED, result.applied);
}

function readWriteResult(reader: Reader): WriteResult {
  const outerEnd = reader.enter();
  let applied = false;
  const mutations: MutationResult[] = [];
  while (reader.more) {
    const tag = reader.tag();
    if (tag === WRITE_MUTATIONS) mutations.push(readMutationResult(reader));
    else if (tag === WRITE_APPLIED) applied = reader.bool();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  return { kind: "write", applied, mutations };
}

function readMutationResult(reader: Reader): MutationResult {
  reader.countElement();
  const outerEnd = reader.enter();
  let status = 0;
  let revision = 0;
  let created = false;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === MUTATION_STATUS) status = reader.uint32();
    else if (tag === MUTATION_REVISION) revision = reader.uint64();
    else if (tag === MUTATION_CREATED) created = reader.bool();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  if (status < MutationStatus.Applied || status > MutationStatus.Skipped) {
    reader.fail("unknown status of a mutation");
  }
  return { status: status as MutationStatus, revision: revision as Revision, created };
}
