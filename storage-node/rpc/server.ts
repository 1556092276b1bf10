/**
 * The storage node's gRPC server: `Operate` streams of gateways, `GetStatus` for operators, and what
 * other parts of the node serve on the same listener. It is up before the node belongs to a cluster:
 * without it none could be founded.
 *
 * The service is defined by hand: `Operate` carries bytes, which `operate-stream.ts` decodes with
 * the codec of the hot messages; `GetStatus` is cold and uses the generated code.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type handleUnaryCall,
  Server,
  type ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { OperationHandler } from "#proto/codec/messages.ts";
import { GET_STATUS_PATH, OPERATE_PATH } from "#proto/codec/service.ts";
import {
  type GetStatusRequest,
  GetStatusRequestSchema,
  type GetStatusResponse,
  GetStatusResponseSchema,
} from "#proto/gen/minikv/v1/storage_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { GrpcStatus, KvError } from "#shared/errors.ts";
import { grpcServerOptions, passBytes } from "#shared/runtime/grpc.ts";
import { grpcStream, type OperateCall } from "./grpc-stream.ts";
import { type NodeIdentity, nodeHello } from "./hello.ts";
import { OperateStream } from "./operate-stream.ts";

export type StorageRpcStatus = {
  readonly groups: number;
  readonly groupsLed: number;
  readonly writable: boolean;
  readonly engine: string;
};

/** A node that serves gateways. */
export type ServingNode = NodeIdentity & {
  readonly handler: OperationHandler;
  readonly status: () => StorageRpcStatus;
};

/** A service that shares the listener. */
export type GrpcService = {
  readonly definition: ServiceDefinition;
  readonly implementation: UntypedServiceImplementation;
  /**
   * Ends streams that would never end by themselves. Called while the server closes, when gateways are
   * answered: what they wait for may need the other nodes.
   */
  readonly end?: () => void;
};

export type StorageRpcOptions = {
  /** Undefined as long as the node belongs to no cluster: gateways are told to come again. */
  readonly node: () => ServingNode | undefined;
  /** Beside the one for gateways. */
  readonly services: readonly GrpcService[];
  readonly credentials: ServerCredentials;
  /** `host:port`; port 0 takes any that is free. */
  readonly listen: string;
  readonly clock: Clock;
};

export type StorageRpc = {
  /** `host:port` that is really listened on. */
  readonly address: string;
  /**
   * Refuses new streams and operations, answers those in flight, and closes; what is not answered
   * after `timeoutMs` is cut off. Idempotent.
   */
  close(timeoutMs: number): Promise<void>;
};

const SERVICE = {
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

const NOT_YET = {
  code: GrpcStatus.Unavailable,
  details: "the storage node belongs to no cluster yet",
};

/** @throws KvError UNAVAILABLE when the address cannot be listened on. */
export async function startStorageRpc(options: StorageRpcOptions): Promise<StorageRpc> {
  const { clock, credentials, listen } = options;
  const streams = new Set<OperateStream>();
  let closing: Promise<void> | undefined;
  let onAnswered = (): void => {};
  const operate = (call: OperateCall): void => {
    const stream = grpcStream(call);
    const node = options.node();
    if (node === undefined) {
      stream.listen({ onMessage: () => {}, onDrain: () => {}, onClosed: () => {} });
      stream.abort(NOT_YET);
      return;
    }
    const { handler } = node;
    const onClosed = (closed: OperateStream): void => {
      streams.delete(closed);
      if (streams.size === 0) onAnswered();
    };
    const opened = new OperateStream({ stream, handler, hello: nodeHello(node), clock, onClosed });
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
  const server = new Server(grpcServerOptions());
  server.addService(SERVICE, { operate, getStatus });
  for (const { definition, implementation } of options.services) {
    server.addService(definition, implementation);
  }
  const address = await bind(server, listen, credentials);
  return {
    address,
    close: (timeoutMs) => {
      closing ??= shutDown({
        server,
        services: options.services,
        answerAll: () =>
          new Promise((resolve) => {
            onAnswered = resolve;
            if (streams.size === 0) resolve();
            for (const stream of [...streams]) stream.finish();
          }),
        clock,
        timeoutMs,
      });
      return closing;
    },
  };
}

function pickStatus({ groups, groupsLed, writable, engine }: StorageRpcStatus): StorageRpcStatus {
  return { groups, groupsLed, writable, engine };
}

function bind(server: Server, listen: string, credentials: ServerCredentials): Promise<string> {
  return new Promise((resolve, reject) => {
    server.bindAsync(listen, credentials, (cause, port) => {
      if (cause === null) resolve(listen.replace(/:\d+$/, `:${port}`));
      else reject(new KvError("UNAVAILABLE", `cannot listen on ${listen}: ${reasonOf(cause)}`));
    });
  });
}

/** The system's own words, such as "listen EADDRINUSE: …", out of grpc-js's list of them. */
function reasonOf({ message }: Error): string {
  return /errors: \[(?:Error: )?(.*)\]$/.exec(message)?.[1] ?? message;
}

async function shutDown(parts: {
  readonly server: Server;
  readonly services: readonly GrpcService[];
  /** Refuses further operations, and resolves when the others are answered. */
  readonly answerAll: () => Promise<void>;
  readonly clock: Clock;
  readonly timeoutMs: number;
}): Promise<void> {
  const { server, services, answerAll, clock, timeoutMs } = parts;
  let cancelTimer = (): void => {};
  const tooLate = new Promise<void>((resolve) => {
    cancelTimer = clock.after(timeoutMs, resolve);
  });
  const answered = answerAll();
  // Takes no more connections, and waits for open streams, for ever if need be: hence the race.
  const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  await Promise.race([answered, tooLate]);
  for (const { end } of services) end?.();
  await Promise.race([closed, tooLate]);
  cancelTimer();
  server.forceShutdown();
}
