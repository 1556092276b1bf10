/**
 * The storage node's gRPC server: one listener for gateways, other nodes and operators.
 *
 * Which services it offers is the caller's choice; they share credentials, and end together: first
 * all drain, so that what gateways wait for can still be replicated, then the streams are ended that
 * would never end by themselves.
 */
import { Server, type ServerCredentials } from "@grpc/grpc-js";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { type GrpcService, grpcServerOptions } from "#shared/runtime/grpc.ts";
import { withListenAdvice } from "#shared/runtime/listen-advice.ts";

export type RpcServerOptions = {
  /** `host:port`; port 0 takes any that is free. */
  readonly listen: string;
  readonly credentials: ServerCredentials;
  readonly services: readonly GrpcService[];
  readonly clock: Clock;
};

export type RpcServer = {
  /** `host:port` that is really listened on. */
  readonly address: string;
  /**
   * Refuses new streams and operations, answers those in flight, and closes; what is not answered
   * after `timeoutMs` is cut off. Idempotent.
   */
  close(timeoutMs: number): Promise<void>;
};

/** @throws KvError UNAVAILABLE when the address cannot be listened on. */
export async function startRpcServer(options: RpcServerOptions): Promise<RpcServer> {
  const { listen, credentials, services, clock } = options;
  const server = new Server(grpcServerOptions());
  for (const { definition, handlers } of services) server.addService(definition, handlers);
  const address = await bind(server, listen, credentials);
  let closing: Promise<void> | undefined;
  return {
    address,
    close: (timeoutMs) => {
      closing ??= shutDown({ server, services, clock, timeoutMs });
      return closing;
    },
  };
}

function bind(server: Server, listen: string, credentials: ServerCredentials): Promise<string> {
  return new Promise((resolve, reject) => {
    server.bindAsync(listen, credentials, (cause, port) => {
      if (cause === null) resolve(listen.replace(/:\d+$/, `:${port}`));
      else {
        const reason = withListenAdvice("--listen", reasonOf(cause));
        reject(new KvError("UNAVAILABLE", `cannot listen on ${listen}: ${reason}`));
      }
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
  readonly clock: Clock;
  readonly timeoutMs: number;
}): Promise<void> {
  const { server, services, clock, timeoutMs } = parts;
  let cancelTimer = (): void => {};
  const tooLate = new Promise<void>((resolve) => {
    cancelTimer = clock.after(timeoutMs, resolve);
  });
  const drained = Promise.all(services.map(({ drain }) => drain()));
  // Takes no more connections, and waits for open streams, for ever if need be: hence the race.
  const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  await Promise.race([drained, tooLate]);
  for (const { end } of services) end();
  await Promise.race([closed, tooLate]);
  cancelTimer();
  server.forceShutdown();
}
