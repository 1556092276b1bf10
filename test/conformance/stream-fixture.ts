/**
 * Gateway and storage node over a real gRPC stream on 127.0.0.1 or over a message port, with a
 * handler that the tests command. Used by tests only.
 */
import { MessageChannel } from "node:worker_threads";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { StorageClient } from "#gateway/storage/client.ts";
import { grpcConnector } from "#gateway/storage/grpc-connector.ts";
import { portConnector } from "#gateway/storage/port-connector.ts";
import { type Connector, StreamChannel } from "#gateway/storage/stream-channel.ts";
import type {
  Hello,
  Operation,
  OperationHandler,
  Reply,
  ResultBody,
} from "#proto/codec/messages.ts";
import { encodeOperateRequest } from "#proto/codec/operate-request.ts";
import { decodeOperateResponse } from "#proto/codec/operate-response.ts";
import { OPERATE_PATH, PROTOCOL_VERSION } from "#proto/codec/service.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { type Clock, systemClock } from "#shared/clock.ts";
import { type ClusterNode, fullyReplicatedMap } from "#shared/cluster-map.ts";
import { DEFAULT_TENANT, type NodeId, type Revision, Space, type VshardId } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";
import { grpcChannelOptions, passBytes } from "#shared/runtime/grpc.ts";
import { type GrpcCredentials, insecureCredentials } from "#shared/runtime/grpc-credentials.ts";
import type { OperationFigures } from "#storage-node/operation-figures.ts";
import { serveStoragePort } from "#storage-node/rpc/port.ts";
import { type RpcServer, startRpcServer } from "#storage-node/rpc/server.ts";
import { storageService } from "#storage-node/rpc/storage-service.ts";

const CLUSTER = "test";
export const NODE = 1 as NodeId;
export const clock = systemClock();
export const random = systemRandom();
const cleanups: (() => Promise<void>)[] = [];

/** For `afterEach`: closes what the test opened, last first. */
export async function cleanUp(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}

type Asked = { readonly operation: Operation; readonly reply: Reply };

/** Keeps what it is asked, and answers when told, or at once through `answer`. */
export class FakeHandler implements OperationHandler {
  readonly asked: Asked[] = [];
  answer: ((operation: Operation) => ResultBody | undefined) | undefined;

  operate(operation: Operation, reply: Reply): void {
    this.asked.push({ operation, reply });
    const body = this.answer?.(operation);
    if (body) reply(body);
  }
}

export function found(value: Uint8Array): ResultBody {
  return {
    kind: "get",
    found: true,
    revision: 7 as Revision,
    value,
    contentType: "text/plain",
    expiresAtMs: 0,
    modifiedAtMs: 5,
    valueSizeBytes: value.length,
  };
}

export const stored: ResultBody = {
  kind: "write",
  applied: true,
  mutations: [{ status: 1, revision: 3 as Revision, created: true }],
};

/** Reads answer with their key as the value, writes as stored. */
export const echo = ({ body }: Operation): ResultBody =>
  body.kind === "get" ? found(body.key) : stored;

type ServerOptions = {
  readonly listen?: string;
  readonly clusterId?: string;
  readonly nodeId?: NodeId;
  readonly windowOperations?: number;
  readonly windowBytes?: number;
  readonly credentials?: GrpcCredentials;
  /** Of the service; the machine's by default. */
  readonly clock?: Clock;
  readonly figures?: OperationFigures;
};

export async function serve(
  handler: OperationHandler,
  options: ServerOptions = {},
): Promise<RpcServer> {
  const { listen, credentials: given, clock: ofService = clock, ...identity } = options;
  const node = {
    handler,
    status: () => ({ groups: 256, groupsLed: 255, writable: true, engine: "memory" }),
    clusterId: CLUSTER,
    nodeId: NODE,
    softwareVersion: "test",
    ...identity,
  };
  const service = storageService({ node: () => node, clock: ofService });
  const rpc = await startRpcServer({
    listen: listen ?? "127.0.0.1:0",
    credentials: (given ?? insecureCredentials()).server,
    services: [service],
    clock,
  });
  cleanups.push(() => rpc.close(0));
  return rpc;
}

export const channelTo = (
  address: string,
  onReadiness?: () => void,
  credentials = insecureCredentials(),
): StreamChannel => openChannel(grpcConnector(address, credentials.channel), onReadiness);

export const clientTo = (address: string): StorageClient => openClient(() => channelTo(address));

function openChannel(connector: Connector, onReadiness = (): void => {}): StreamChannel {
  const channel = new StreamChannel({
    connector,
    clusterId: CLUSTER,
    nodeId: NODE,
    softwareVersion: "test",
    clock,
    random,
    onReadiness,
  });
  cleanups.push(() => channel.close(0));
  return channel;
}

function openClient(connect: () => StreamChannel): StorageClient {
  const node: ClusterNode = {
    id: NODE,
    address: "",
    zone: "",
    host: "",
    state: "up",
    capacityBytes: 0,
  };
  const map = fullyReplicatedMap(CLUSTER, [node]);
  const client = new StorageClient({ map, connect, clock, random });
  cleanups.push(() => client.close(0));
  return client;
}

/** A served handler, and the ways to it. Over a port there is one of them only. */
type Served = {
  readonly channel: (onReadiness?: () => void) => StreamChannel;
  readonly client: () => StorageClient;
  /** As when the node dies. */
  readonly cut: () => Promise<void>;
};

type Carrier = (handler: OperationHandler, options?: ServerOptions) => Promise<Served>;

const overGrpc: Carrier = async (handler, options) => {
  const rpc = await serve(handler, options);
  return {
    channel: (onReadiness) => channelTo(rpc.address, onReadiness),
    client: () => clientTo(rpc.address),
    cut: () => rpc.close(0),
  };
};

const overPort: Carrier = async (handler, options) => {
  const { port1, port2 } = new MessageChannel();
  const identity = { clusterId: CLUSTER, nodeId: NODE, softwareVersion: "test" };
  serveStoragePort({ port: port1, handler, clock, ...identity, ...options });
  cleanups.push(async () => port1.close());
  const channel = (onReadiness?: () => void) => openChannel(portConnector(port2), onReadiness);
  return { channel, client: () => openClient(() => channel()), cut: async () => port1.close() };
};

export const CARRIERS: readonly (readonly [string, Carrier])[] = [
  ["gRPC", overGrpc],
  ["a message port", overPort],
];

export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

export const ready = (channel: { readiness(): { ready: boolean } }): Promise<void> =>
  until(() => channel.readiness().ready);

export const keyRef = (key: string) => ({ tenant: DEFAULT_TENANT, key: utf8(key) });
export const within = (ms: number) => ({ deadlineMs: clock.nowMs() + ms });
export const putInput = (value = EMPTY_BYTES as Uint8Array) => ({
  value,
  contentType: "text/plain",
  ttlMs: 0,
});

let nextCallId = 1;
export function getOperation(key = "key", deadlineMs = clock.nowMs() + 5_000): Operation {
  return {
    callId: nextCallId++,
    vshard: 3 as VshardId,
    deadlineMs,
    traceContext: EMPTY_BYTES,
    body: {
      kind: "get",
      tenant: DEFAULT_TENANT,
      space: Space.Kv,
      key: utf8(key),
      maxStalenessMs: 0,
      metadataOnly: false,
    },
  };
}

export function putOperation(value: Uint8Array, requestId = new Uint8Array(16)): Operation {
  const deadlineMs = clock.nowMs() + 5_000;
  const action = { kind: "put", ...putInput(value) } as const;
  const mutation = {
    tenant: DEFAULT_TENANT,
    space: Space.Kv,
    key: utf8("key"),
    condition: undefined,
    action,
  };
  const command = { requestId, deadlineMs, mutations: [mutation] };
  return { ...getOperation(), deadlineMs, body: { kind: "write", command } };
}

/** A gateway without manners: sends any bytes, and tells what came back. */
export function rawStream(address: string) {
  const client = new Client(address, credentials.createInsecure(), grpcChannelOptions());
  const stream = client.makeBidiStreamRequest(
    OPERATE_PATH,
    passBytes,
    passBytes,
    new Metadata({ waitForReady: true }),
  );
  const messages: ReturnType<typeof decodeOperateResponse>[] = [];
  stream.on("data", (bytes: Buffer) => messages.push(decodeOperateResponse(bytes)));
  stream.on("error", () => {});
  const status = new Promise<{ code: number; details: string }>((resolve) => {
    stream.on("status", resolve);
  });
  cleanups.push(async () => {
    stream.cancel();
    client.close();
  });
  const send = (hello: Hello | undefined, operations: readonly Operation[]): void => {
    stream.write(encodeOperateRequest({ hello, operations }) as Buffer);
  };
  return { stream, messages, status, send };
}

export const goodHello: Hello = {
  protocolVersion: PROTOCOL_VERSION,
  clusterId: CLUSTER,
  nodeId: 0,
  softwareVersion: "test",
  windowOperations: 10,
  windowBytes: 1000,
};

export function codeOf(body: ResultBody | undefined): number | undefined {
  return body?.kind === "failure" ? body.code : undefined;
}
