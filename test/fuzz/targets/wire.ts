/** Codecs of what goes between gateways and nodes, and between nodes. */
import fc from "fast-check";
import {
  decodeChangeBatch,
  decodeChangeHeads,
  encodeChangeBatch,
  encodeChangeHeads,
} from "#proto/codec/change-batch.ts";
import {
  decodeChangesRequest,
  decodeChangesResponse,
  encodeChangesRequest,
  encodeChangesResponse,
} from "#proto/codec/changes.ts";
import { decodeEntryBody, encodeEntryBody } from "#proto/codec/entry-body.ts";
import { decodeOperateRequest, encodeOperateRequest } from "#proto/codec/operate-request.ts";
import { decodeOperateResponse, encodeOperateResponse } from "#proto/codec/operate-response.ts";
import {
  anyChangeBatch,
  anyChangeHeads,
  anyChangesRequest,
  anyChangesResponse,
} from "#proto/codec/testing/changes.ts";
import { anyRequest, anyResponse } from "#proto/codec/testing/operate.ts";
import { anyEntryBody, anyString, anyUint32 } from "#proto/codec/testing.ts";
import { equalBytes } from "#shared/bytes.ts";
import type { Message } from "#storage-node/raft/types.ts";
import { EntryMemory } from "#storage-node/transport/entry-memory.ts";
import {
  decodeLinkFrame,
  decodeSnapshotFrame,
  encodeLinkFrame,
  encodeSnapshotEnd,
  encodeSnapshotFrame,
} from "#storage-node/transport/frame-codec.ts";
import { decodeHelloFrame, encodeHelloFrame } from "#storage-node/transport/hello-codec.ts";
import { anyMessages, anyTraces, NODES } from "#storage-node/transport/testing/messages.ts";
import type { CarriedTrace } from "#storage-node/transport/transport.ts";
import { accepted, type FuzzTarget, holds, kvError, samplesOf } from "#test/fuzz/target.ts";

/** A codec whose decoder refuses with `code`, and whose encoding of what it read is stable. */
function codec<T>(
  name: string,
  samples: FuzzTarget["samples"],
  {
    code,
    decode,
    encode,
  }: {
    readonly code: "INVALID_ARGUMENT" | "DATA_CORRUPT";
    readonly decode: (bytes: Uint8Array) => T;
    readonly encode: (value: T) => Uint8Array;
  },
): FuzzTarget {
  return {
    name,
    samples,
    check: (input) => {
      const decoded = accepted(kvError(code), () => decode(input));
      if (decoded === undefined) return false;
      const once = encode(decoded.value);
      holds(equalBytes(encode(decode(once)), once), "what was read is written and read alike");
      return true;
    },
  };
}

const operateRequest = codec("operate-request", samplesOf(anyRequest(), encodeOperateRequest), {
  code: "INVALID_ARGUMENT",
  decode: decodeOperateRequest,
  encode: encodeOperateRequest,
});

const operateResponse = codec("operate-response", samplesOf(anyResponse(), encodeOperateResponse), {
  code: "INVALID_ARGUMENT",
  decode: decodeOperateResponse,
  encode: encodeOperateResponse,
});

const changesRequest = codec(
  "changes-request",
  samplesOf(anyChangesRequest(), encodeChangesRequest),
  { code: "INVALID_ARGUMENT", decode: decodeChangesRequest, encode: encodeChangesRequest },
);

const changesResponse = codec(
  "changes-response",
  samplesOf(anyChangesResponse(), (response) => encodeChangesResponse(response)),
  {
    code: "INVALID_ARGUMENT",
    decode: decodeChangesResponse,
    encode: (response) => encodeChangesResponse(response),
  },
);

const changeBatch = codec("change-batch", samplesOf(anyChangeBatch(), encodeChangeBatch), {
  code: "INVALID_ARGUMENT",
  decode: decodeChangeBatch,
  encode: encodeChangeBatch,
});

const changeHeads = codec("change-heads", samplesOf(anyChangeHeads(), encodeChangeHeads), {
  code: "INVALID_ARGUMENT",
  decode: decodeChangeHeads,
  encode: encodeChangeHeads,
});

const entryBody = codec("entry-body", samplesOf(anyEntryBody(), encodeEntryBody), {
  code: "DATA_CORRUPT",
  decode: decodeEntryBody,
  encode: encodeEntryBody,
});

type DecodedFrame = { readonly messages: readonly Message[]; readonly traces: CarriedTrace[] };
const encodeFrame = ({ messages, traces }: DecodedFrame) => encodeLinkFrame(messages, traces);

const linkFrame = codec(
  "link-frame",
  samplesOf(fc.record({ messages: anyMessages(), traces: anyTraces() }), encodeFrame),
  {
    code: "INVALID_ARGUMENT",
    decode: (bytes) => {
      const traces: CarriedTrace[] = [];
      return { messages: decodeLinkFrame(bytes, NODES, new EntryMemory(), traces), traces };
    },
    encode: encodeFrame,
  },
);

const hello = codec(
  "hello-frame",
  samplesOf(
    fc.record({
      protocolVersion: anyUint32(),
      clusterId: anyString(),
      nodeId: anyUint32(),
      peerNodeId: anyUint32(),
      softwareVersion: anyString(),
      lane: anyUint32(),
    }),
    encodeHelloFrame,
  ),
  { code: "INVALID_ARGUMENT", decode: decodeHelloFrame, encode: encodeHelloFrame },
);

const snapshotStream = codec(
  "snapshot-stream-frame",
  samplesOf(fc.uint8Array({ maxLength: 60 }), encodeSnapshotFrame),
  {
    code: "INVALID_ARGUMENT",
    decode: decodeSnapshotFrame,
    encode: (frame) => (frame === "end" ? encodeSnapshotEnd() : encodeSnapshotFrame(frame)),
  },
);

export const WIRE_TARGETS: readonly FuzzTarget[] = [
  ...[changesRequest, changesResponse, changeBatch, changeHeads],
  ...[operateRequest, operateResponse, entryBody, linkFrame, hello, snapshotStream],
];
