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
import { type GrpcService, passBytes } from "#shared/runtime/grpc.ts";
import { grpcStream, type OperateCall } from "./grpc-stream.ts";
import { type NodeIdentity, nodeHello } from "./hello.ts";
import { OperateStream } from "./operate-stream.ts";

export type StorageStatus = {
  readonly groups: number;
  readonly groupsLed: number;
  readonly writable: boolean;
  readonly engine: string;
};

export type StorageServiceOptions = NodeIdentity & {
  readonly handler: OperationHandler;
  readonly status: () => StorageStatus;
  readonly clock: Clock;
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
  const { handler, clock, clusterId, nodeId, softwareVersion } = options;
  const hello = nodeHello(options);
  const streams = new Set<OperateStream>();
  let closing = false;
  let onDrained = (): void => {};
  const operate = (call: OperateCall): void => {
    const stream = grpcStream(call);
    const onClosed = (closed: OperateStream): void => {
      streams.delete(closed);
      if (streams.size === 0) onDrained();
    };
    const opened = new OperateStream({ stream, handler, hello, clock, onClosed });
    streams.add(opened);
    // The gateway has nothing more to ask, and waits for the answers.
    call.on("end", () => opened.finish());
    if (closing) opened.finish();
  };
  const getStatus: handleUnaryCall<GetStatusRequest, GetStatusResponse> = (_, callback) => {
    const fields = { nodeId, clusterId, softwareVersion, ...pickStatus(options.status()) };
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
