/**
 * The service of the storage node for gateways: `Operate` streams, and `GetStatus` for operators.
 *
 * It is defined by hand: `Operate` carries bytes, which `operate-stream.ts` decodes with the codec of
 * the hot messages; `GetStatus` is cold and uses the generated code.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { handleUnaryCall, ServiceDefinition } from "@grpc/grpc-js";
import type { OperationHandler } from "#proto/codec/messages.ts";
import { GET_STATUS_PATH, OPERATE_PATH } from "#proto/codec/service.ts";
import {
  type GetStatusRequest,
  GetStatusRequestSchema,
  type GetStatusResponse,
  GetStatusResponseSchema,
} from "#proto/gen/minikv/v1/storage_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { GrpcStatus } from "#shared/errors.ts";
import { OPERATE_STREAMS_MAX } from "#shared/limits.ts";
import { type GrpcService, passBytes } from "#shared/runtime/grpc.ts";
import type { OperationFigures } from "#storage-node/operation-figures.ts";
import { type BytesCall, grpcStream } from "./grpc-stream.ts";
import { type NodeIdentity, nodeHello } from "./hello.ts";
import { helloInTime } from "./hello-timeout.ts";
import { OperateStream } from "./operate-stream.ts";

export type StorageStatus = {
  readonly groups: number;
  readonly groupsLed: number;
  readonly writable: boolean;
  readonly engine: string;
};

/** A node that serves gateways. */
export type ServingNode = NodeIdentity & {
  readonly handler: OperationHandler;
  readonly figures?: OperationFigures | undefined;
  readonly status: () => StorageStatus;
};

export type StorageServiceOptions = {
  /** Undefined as long as the node belongs to no cluster: gateways are told to come again. */
  readonly node: () => ServingNode | undefined;
  readonly clock: Clock;
};

const NOT_YET = {
  code: GrpcStatus.Unavailable,
  details: "the storage node belongs to no cluster yet",
};

const TOO_MANY = {
  code: GrpcStatus.ResourceExhausted,
  details: `the storage node has ${OPERATE_STREAMS_MAX} streams of gateways already`,
};

const DEFINITION = {
  operate: {
    path: OPERATE_PATH,
    requestStream: true,
    responseStream: true,
    requestSerialize: passBytes,
    requestDeserialize: passBytes,
    responseSerialize: passBytes,
    responseDeserialize: passBytes,
  },
  getStatus: {
    path: GET_STATUS_PATH,
    requestStream: false,
    responseStream: false,
    requestSerialize: (request: GetStatusRequest) =>
      Buffer.from(toBinary(GetStatusRequestSchema, request)),
    requestDeserialize: (bytes: Buffer) => fromBinary(GetStatusRequestSchema, bytes),
    responseSerialize: (response: GetStatusResponse) =>
      Buffer.from(toBinary(GetStatusResponseSchema, response)),
    responseDeserialize: (bytes: Buffer) => fromBinary(GetStatusResponseSchema, bytes),
  },
} as const satisfies ServiceDefinition;

export function storageService(options: StorageServiceOptions): GrpcService {
  const { clock } = options;
  const streams = new Set<OperateStream>();
  let closing = false;
  let onDrained = (): void => {};
  const operate = (call: BytesCall): void => {
    const stream = helloInTime(grpcStream(call), clock);
    const node = options.node();
    if (node === undefined || streams.size >= OPERATE_STREAMS_MAX) {
      stream.listen({ onMessage: () => {}, onDrain: () => {}, onClosed: () => {} });
      stream.abort(node === undefined ? NOT_YET : TOO_MANY);
      return;
    }
    const { handler, figures } = node;
    const hello = nodeHello(node);
    const onClosed = (closed: OperateStream): void => {
      streams.delete(closed);
      if (streams.size === 0) onDrained();
    };
    const opened = new OperateStream({ stream, handler, hello, clock, figures, onClosed });
    streams.add(opened);
    // The gateway has nothing more to ask, and waits for the answers.
    call.on("end", () => opened.finish());
    if (closing) opened.finish();
  };
  const getStatus: handleUnaryCall<GetStatusRequest, GetStatusResponse> = (_, callback) => {
    const node = options.node();
    if (node === undefined) {
      callback(NOT_YET);
      return;
    }
    const { nodeId, clusterId, softwareVersion, status } = node;
    const fields = { nodeId, clusterId, softwareVersion, ...pickStatus(status()) };
    callback(null, create(GetStatusResponseSchema, fields));
  };
  return {
    definition: DEFINITION,
    handlers: { operate, getStatus },
    drain: () => {
      closing = true;
      for (const stream of [...streams]) stream.finish();
      return new Promise((resolve) => {
        onDrained = resolve;
        if (streams.size === 0) resolve();
      });
    },
    // Operate streams end by themselves once they are answered.
    end: () => {},
  };
}

function pickStatus({ groups, groupsLed, writable, engine }: StorageStatus): StorageStatus {
  return { groups, groupsLed, writable, engine };
}
