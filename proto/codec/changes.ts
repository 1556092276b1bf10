/**
 * Codec of `ChangesRequest` and `ChangesResponse` in `proto/minikv/v1/changes.proto`.
 *
 * Wire-compatible with the generated code (property-tested both ways). See `wire.ts` for how it works.
 * Decoded byte fields are views of the message. Decoding checks the form; what a stream may ask for is
 * checked by its end at the storage node.
 */
import type { Revision, VshardId } from "#shared/ids.ts";
import { DECODED_ELEMENTS_MAX } from "#shared/limits.ts";
import {
  changeBatchSize,
  checkedVshard,
  readChangeBatch,
  writeChangeBatch,
} from "./change-batch.ts";
import type {
  ChangeBatch,
  ChangesRequest,
  ChangesResponse,
  FollowChanges,
  FollowEnded,
  ReadChanges,
  ReadChangesResult,
} from "./change-messages.ts";
import { failureSize, readFailure, writeFailure } from "./failure.ts";
import { helloSize, readHello, writeHello } from "./hello.ts";
import type { Failure, Hello } from "./messages.ts";
import { packedFieldSize, readOne, readPacked, writePacked } from "./packed.ts";
import {
  LENGTH_DELIMITED,
  messageFieldSize,
  numberFieldSize,
  Reader,
  Sizes,
  VARINT,
  Writer,
} from "./wire.ts";

const HELLO = (1 << 3) | LENGTH_DELIMITED;
const REQUEST_READS = (2 << 3) | LENGTH_DELIMITED;
const REQUEST_FOLLOWS = (3 << 3) | LENGTH_DELIMITED;
const REQUEST_UNFOLLOW = (4 << 3) | LENGTH_DELIMITED;
const REQUEST_UNFOLLOW_ONE = (4 << 3) | VARINT;
const READ_CALL_ID = (1 << 3) | VARINT;
const READ_VSHARD = (2 << 3) | VARINT;
const READ_AFTER = (3 << 3) | VARINT;
const READ_HEAD_ONLY = (4 << 3) | VARINT;
const READ_BYTES_MAX = (5 << 3) | VARINT;
const FOLLOW_VSHARD = (1 << 3) | VARINT;
const FOLLOW_AFTER = (2 << 3) | VARINT;
const FOLLOW_FROM_HEAD = (3 << 3) | VARINT;
const RESPONSE_RESULTS = (2 << 3) | LENGTH_DELIMITED;
const RESPONSE_BATCHES = (3 << 3) | LENGTH_DELIMITED;
const RESPONSE_ENDED = (4 << 3) | LENGTH_DELIMITED;
const RESULT_CALL_ID = (1 << 3) | VARINT;
const RESULT_FAILURE = (2 << 3) | LENGTH_DELIMITED;
const RESULT_BATCH = (3 << 3) | LENGTH_DELIMITED;
const RESULT_HEAD = (4 << 3) | VARINT;
const RESULT_OLDEST = (5 << 3) | VARINT;
const ENDED_VSHARD = (1 << 3) | VARINT;
const ENDED_FAILURE = (2 << 3) | LENGTH_DELIMITED;
const ENDED_OLDEST = (3 << 3) | VARINT;

const NO_BATCHES: readonly Uint8Array[] = [];

// Encoding is synchronous and never re-entered: one list of sizes serves all calls.
const sizes = new Sizes();

/** The buffer belongs to the caller. */
export function encodeChangesRequest(request: ChangesRequest): Uint8Array {
  const { hello, reads, follows, unfollow } = request;
  sizes.clear();
  let size = packedFieldSize(unfollow);
  if (hello !== undefined) size += sizes.fill(sizes.reserve(), helloSize(hello));
  for (const read of reads) size += sizes.fill(sizes.reserve(), readSize(read));
  for (const follow of follows) size += sizes.fill(sizes.reserve(), followSize(follow));
  const writer = new Writer(size, sizes);
  if (hello !== undefined) {
    writer.messageField(HELLO);
    writeHello(hello, writer);
  }
  for (const read of reads) {
    writer.messageField(REQUEST_READS);
    writer.numberField(READ_CALL_ID, read.callId);
    writer.numberField(READ_VSHARD, read.vshard);
    writer.numberField(READ_AFTER, read.afterRevision);
    writer.boolField(READ_HEAD_ONLY, read.headOnly);
    writer.numberField(READ_BYTES_MAX, read.bytesMax);
  }
  for (const follow of follows) {
    writer.messageField(REQUEST_FOLLOWS);
    writer.numberField(FOLLOW_VSHARD, follow.vshard);
    writer.numberField(FOLLOW_AFTER, follow.afterRevision);
    writer.boolField(FOLLOW_FROM_HEAD, follow.fromHead);
  }
  writePacked(REQUEST_UNFOLLOW, unfollow, writer);
  return writer.finish();
}

/** @throws KvError INVALID_ARGUMENT when malformed */
export function decodeChangesRequest(bytes: Uint8Array): ChangesRequest {
  const reader = new Reader(bytes, "INVALID_ARGUMENT", DECODED_ELEMENTS_MAX);
  let hello: Hello | undefined;
  const reads: ReadChanges[] = [];
  const follows: FollowChanges[] = [];
  const unfollow: number[] = [];
  while (reader.more) {
    const tag = reader.tag();
    if (tag === HELLO) hello = readHello(reader);
    else if (tag === REQUEST_READS) reads.push(readRead(reader));
    else if (tag === REQUEST_FOLLOWS) follows.push(readFollow(reader));
    else if (tag === REQUEST_UNFOLLOW) readPacked(reader, unfollow);
    else if (tag === REQUEST_UNFOLLOW_ONE) readOne(reader, unfollow);
    else reader.skip(tag);
  }
  for (const vshard of unfollow) checkedVshard(vshard, reader);
  return { hello, reads, follows, unfollow: unfollow as VshardId[] };
}

/**
 * The buffer belongs to the caller.
 *
 * @param encodedBatches more batches, behind those of `response`, as `encodeChangeBatch` has written them:
 * what many streams follow is encoded once
 */
export function encodeChangesResponse(
  response: ChangesResponse,
  encodedBatches: readonly Uint8Array[] = NO_BATCHES,
): Uint8Array {
  const { hello, results, batches, ended } = response;
  sizes.clear();
  let size = 0;
  if (hello !== undefined) size += sizes.fill(sizes.reserve(), helloSize(hello));
  for (const result of results) {
    const slot = sizes.reserve();
    size += sizes.fill(slot, resultSize(result));
  }
  for (const batch of batches) {
    const slot = sizes.reserve();
    size += sizes.fill(slot, changeBatchSize(batch, sizes));
  }
  for (const { length } of encodedBatches) size += messageFieldSize(length);
  for (const end of ended) {
    const slot = sizes.reserve();
    size += sizes.fill(slot, endedSize(end));
  }
  const writer = new Writer(size, sizes);
  if (hello !== undefined) {
    writer.messageField(HELLO);
    writeHello(hello, writer);
  }
  for (const result of results) {
    writer.messageField(RESPONSE_RESULTS);
    writeResult(result, writer);
  }
  for (const batch of batches) {
    writer.messageField(RESPONSE_BATCHES);
    writeChangeBatch(batch, writer);
  }
  for (const bytes of encodedBatches) writer.encodedField(RESPONSE_BATCHES, bytes);
  for (const end of ended) {
    writer.messageField(RESPONSE_ENDED);
    writeEnded(end, writer);
  }
  return writer.finish();
}

/**
 * Byte fields of the result are views of `bytes`.
 *
 * @throws KvError INVALID_ARGUMENT when malformed
 */
export function decodeChangesResponse(bytes: Uint8Array): ChangesResponse {
  const reader = new Reader(bytes, "INVALID_ARGUMENT", DECODED_ELEMENTS_MAX);
  let hello: Hello | undefined;
  const results: ReadChangesResult[] = [];
  const batches: ChangeBatch[] = [];
  const ended: FollowEnded[] = [];
  while (reader.more) {
    const tag = reader.tag();
    if (tag === RESPONSE_BATCHES) batches.push(readChangeBatch(reader));
    else if (tag === RESPONSE_RESULTS) results.push(readResult(reader));
    else if (tag === RESPONSE_ENDED) ended.push(readEnded(reader));
    else if (tag === HELLO) hello = readHello(reader);
    else reader.skip(tag);
  }
  return { hello, results, batches, ended };
}

function readSize(read: ReadChanges): number {
  return (
    numberFieldSize(read.callId) +
    numberFieldSize(read.vshard) +
    numberFieldSize(read.afterRevision) +
    (read.headOnly ? 2 : 0) +
    numberFieldSize(read.bytesMax)
  );
}

function followSize(follow: FollowChanges): number {
  return (
    numberFieldSize(follow.vshard) +
    numberFieldSize(follow.afterRevision) +
    (follow.fromHead ? 2 : 0)
  );
}

function readRead(reader: Reader): ReadChanges {
  reader.countElement();
  const outerEnd = reader.enter();
  let callId = 0;
  let vshard = 0;
  let afterRevision = 0;
  let headOnly = false;
  let bytesMax = 0;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === READ_CALL_ID) callId = reader.uint64();
    else if (tag === READ_VSHARD) vshard = reader.uint32();
    else if (tag === READ_AFTER) afterRevision = reader.uint64();
    else if (tag === READ_HEAD_ONLY) headOnly = reader.bool();
    else if (tag === READ_BYTES_MAX) bytesMax = reader.uint32();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  return {
    callId,
    vshard: checkedVshard(vshard, reader),
    afterRevision: afterRevision as Revision,
    headOnly,
    bytesMax,
  };
}

function readFollow(reader: Reader): FollowChanges {
  reader.countElement();
  const outerEnd = reader.enter();
  let vshard = 0;
  let afterRevision = 0;
  let fromHead = false;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === FOLLOW_VSHARD) vshard = reader.uint32();
    else if (tag === FOLLOW_AFTER) afterRevision = reader.uint64();
    else if (tag === FOLLOW_FROM_HEAD) fromHead = reader.bool();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  return {
    vshard: checkedVshard(vshard, reader),
    afterRevision: afterRevision as Revision,
    fromHead,
  };
}

function resultSize(result: ReadChangesResult): number {
  const { failure, batch } = result;
  let size =
    numberFieldSize(result.callId) +
    numberFieldSize(result.headRevision) +
    numberFieldSize(result.oldestRevision);
  if (failure !== undefined) size += sizes.fill(sizes.reserve(), failureSize(failure));
  if (batch !== undefined) {
    const slot = sizes.reserve();
    size += sizes.fill(slot, changeBatchSize(batch, sizes));
  }
  return size;
}

function writeResult(result: ReadChangesResult, writer: Writer): void {
  const { failure, batch } = result;
  writer.numberField(RESULT_CALL_ID, result.callId);
  if (failure !== undefined) {
    writer.messageField(RESULT_FAILURE);
    writeFailure(failure, writer);
  }
  if (batch !== undefined) {
    writer.messageField(RESULT_BATCH);
    writeChangeBatch(batch, writer);
  }
  writer.numberField(RESULT_HEAD, result.headRevision);
  writer.numberField(RESULT_OLDEST, result.oldestRevision);
}

function readResult(reader: Reader): ReadChangesResult {
  reader.countElement();
  const outerEnd = reader.enter();
  let callId = 0;
  let failure: Failure | undefined;
  let batch: ChangeBatch | undefined;
  let headRevision = 0;
  let oldestRevision = 0;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === RESULT_CALL_ID) callId = reader.uint64();
    else if (tag === RESULT_FAILURE) failure = readFailure(reader);
    else if (tag === RESULT_BATCH) batch = readChangeBatch(reader);
    else if (tag === RESULT_HEAD) headRevision = reader.uint64();
    else if (tag === RESULT_OLDEST) oldestRevision = reader.uint64();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  return {
    callId,
    failure,
    batch,
    headRevision: headRevision as Revision,
    oldestRevision: oldestRevision as Revision,
  };
}

function endedSize({ vshard, failure, oldestRevision }: FollowEnded): number {
  const size = numberFieldSize(vshard) + numberFieldSize(oldestRevision);
  return size + sizes.fill(sizes.reserve(), failureSize(failure));
}

function writeEnded({ vshard, failure, oldestRevision }: FollowEnded, writer: Writer): void {
  writer.numberField(ENDED_VSHARD, vshard);
  writer.messageField(ENDED_FAILURE);
  writeFailure(failure, writer);
  writer.numberField(ENDED_OLDEST, oldestRevision);
}

function readEnded(reader: Reader): FollowEnded {
  reader.countElement();
  const outerEnd = reader.enter();
  let vshard = 0;
  let failure: Failure | undefined;
  let oldestRevision = 0;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === ENDED_VSHARD) vshard = reader.uint32();
    else if (tag === ENDED_FAILURE) failure = readFailure(reader);
    else if (tag === ENDED_OLDEST) oldestRevision = reader.uint64();
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  if (failure === undefined) reader.fail("end of a follow without its reason");
  return {
    vshard: checkedVshard(vshard, reader),
    failure,
    oldestRevision: oldestRevision as Revision,
  };
}
