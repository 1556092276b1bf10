/**
 * What every gRPC channel and server of minikv shares: options, each with its reason, and streams of bytes.
 *
 * Messages are carried as bytes: the hot ones have their own codec, so (de)serialisation is left to
 * the caller (`passBytes`).
 */
import {
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  logVerbosity,
  Metadata,
  type ServerOptions,
  type ServiceDefinition,
  setLogVerbosity,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import {
  STREAM_MESSAGE_SIZE_BYTES_MAX,
  STREAM_RECONNECT_BACKOFF_MS_MAX,
  STREAM_RECONNECT_BACKOFF_MS_MIN,
} from "#shared/limits.ts";
import type { MessageStream, StreamStatus } from "#shared/message-stream.ts";
import { serverNameOf } from "./grpc-credentials.ts";

// grpc-js writes lines of its own to stderr, about what it also reports as errors and statuses. They
// are no JSON, and would break the log for whoever reads it; the variables of grpc-js bring them back.
if (!process.env.GRPC_VERBOSITY && !process.env.GRPC_NODE_VERBOSITY) {
  setLogVerbosity(logVerbosity.NONE);
}

/**
 * Together they find a peer that vanished without closing its connection, in 4 s. Nobody waits for that:
 * groups elect another leader and gateways ask another replica before. A shorter timeout takes a process
 * that waits for its turn on a busy machine for one that vanished, and reconnecting makes it busier.
 */
const KEEPALIVE_TIME_MS = 1_000;
const KEEPALIVE_TIMEOUT_MS = 3_000;
/** The default of 64 KiB makes a stream of large values wait for window updates. */
const FLOW_CONTROL_WINDOW_BYTES = 4 * 1024 * 1024;

/** A peer needs one long-lived stream, and a few calls beside it. */
const STREAMS_PER_CONNECTION_MAX = 128;

/** For both sides: the receive limit defaults to 4 MiB, and is checked by the receiver alone. */
const COMMON = {
  "grpc.max_receive_message_length": STREAM_MESSAGE_SIZE_BYTES_MAX,
  "grpc.max_send_message_length": STREAM_MESSAGE_SIZE_BYTES_MAX,
  "grpc.keepalive_time_ms": KEEPALIVE_TIME_MS,
  "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
  "grpc-node.flow_control_window": FLOW_CONTROL_WINDOW_BYTES,
} as const;

export function grpcChannelOptions(): ChannelOptions {
  return {
    ...COMMON,
    "grpc.keepalive_permit_without_calls": 1,
    // Otherwise all clients of one address in a process share one connection.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.initial_reconnect_backoff_ms": STREAM_RECONNECT_BACKOFF_MS_MIN,
    "grpc.max_reconnect_backoff_ms": STREAM_RECONNECT_BACKOFF_MS_MAX,
    // Default 30 s: too long when a restarted node comes back under another address.
    "grpc.dns_min_time_between_resolutions_ms": 1_000,
    // An `http_proxy` variable in the environment must not divert traffic inside the cluster.
    "grpc.enable_http_proxy": 0,
    // No TXT lookups for service configuration.
    "grpc.service_config_disable_resolution": 1,
    // Bookkeeping per message that nobody reads.
    "grpc.enable_channelz": 0,
    // Retries are made by the caller, who knows about request ids; grpc-js would buffer for its own.
    "grpc.enable_retries": 0,
  };
}

/** A client of one address, `host:port`, which connects with its first call. */
export function grpcClient(address: string, credentials: ChannelCredentials): Client {
  return new Client(address, credentials, { ...grpcChannelOptions(), ...serverNameOf(address) });
}

/**
 * Channelz stays on here: without it grpc-js 1.14 does not know a server's sessions, and
 * `forceShutdown` leaves them open.
 */
export function grpcServerOptions(): ServerOptions {
  return { ...COMMON, "grpc.max_concurrent_streams": STREAMS_PER_CONNECTION_MAX };
}

/**
 * Cancels a call of a client, but not in the turn that brought an event of its connection.
 *
 * When the peer resets one stream and, in the turn that tells of it, another stream of the same session is
 * reset, Node sends while nghttp2 still closes the first one. That frees it twice, and the process
 * aborts (nodejs/node#38964, grpc/grpc-node#1652; seen with Node 26.10 and grpc-js 1.14). With an event
 * loop that came round in between, nothing is half closed.
 */
export function cancelCall(call: { cancel(): void }): void {
  setImmediate(() => call.cancel());
}

/** (De)serialiser for messages that are encoded and decoded by the caller. */
export const passBytes = (bytes: Buffer): Buffer => bytes;

/** Begins a call of `path` in which bytes go both ways. Its messages are those of the stream. */
export function openByteStream(client: Client, path: string, metadata?: Metadata): MessageStream {
  const call: ClientDuplexStream<Uint8Array, Buffer> = client.makeBidiStreamRequest(
    path,
    passBytes as (bytes: Uint8Array) => Buffer,
    passBytes,
    metadata ?? new Metadata(),
  );
  return {
    listen: ({ onMessage, onDrain, onClosed }) => {
      call.on("data", onMessage);
      call.on("drain", onDrain);
      // A `status` event always follows; without a listener the error would end the process.
      call.on("error", () => {});
      call.on("status", ({ code, details }: StreamStatus) => {
        onClosed({ code, details: grpcReasonIn(details) });
      });
    },
    write: (bytes) => call.write(bytes),
    end: () => call.end(),
    // A client of gRPC has no way to say why.
    abort: () => cancelCall(call),
  };
}

/** The system's own words, such as "connect ECONNREFUSED …", out of what grpc-js says around them. */
export function grpcReasonIn(details: string): string {
  return /Last error: (?:Error: )?(.*?)\.? Resolution note: *$/.exec(details)?.[1] ?? details;
}

/** A service that a gRPC server offers, and how it ends. */
export type GrpcService = {
  readonly definition: ServiceDefinition;
  readonly handlers: UntypedServiceImplementation;
  /** The server closes: take nothing new, and resolve when what runs is answered. */
  readonly drain: () => Promise<void>;
  /** All services have drained: end the streams that would never end by themselves. */
  readonly end: () => void;
};
