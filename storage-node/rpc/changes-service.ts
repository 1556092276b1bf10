/** The change logs of a node: gRPC in front of `NodeChanges`. */
import type { ServiceDefinition } from "@grpc/grpc-js";
import { CHANGES_PATH } from "#proto/codec/service.ts";
import type { Clock } from "#shared/clock.ts";
import { GrpcStatus } from "#shared/errors.ts";
import { type GrpcService, passBytes } from "#shared/runtime/grpc.ts";
import type { NodeChanges } from "#storage-node/changes/node-changes.ts";
import { type BytesCall, grpcStream } from "./grpc-stream.ts";
import { changesHello, type NodeIdentity } from "./hello.ts";
import { helloInTime } from "./hello-timeout.ts";

const NOT_YET = "the storage node belongs to no cluster yet";

const DEFINITION = {
  changes: {
    path: CHANGES_PATH,
    requestStream: true,
    responseStream: true,
    requestSerialize: passBytes,
    requestDeserialize: passBytes,
    responseSerialize: passBytes,
    responseDeserialize: passBytes,
  },
} as const satisfies ServiceDefinition;

/** A node that shows its change logs. */
export type ChangesNode = NodeIdentity & { readonly changes: NodeChanges };

export type ChangesServiceOptions = {
  /** Undefined as long as the node belongs to no cluster: gateways are told to come again. */
  readonly node: () => ChangesNode | undefined;
  readonly clock: Clock;
};

export function changesService({ node, clock }: ChangesServiceOptions): GrpcService {
  const calls = new Set<BytesCall>();
  const changes = (call: BytesCall): void => {
    calls.add(call);
    call.on("close", () => calls.delete(call));
    const stream = helloInTime(grpcStream(call), clock);
    const serving = node();
    if (serving === undefined) {
      stream.listen({ onMessage: () => {}, onDrain: () => {}, onClosed: () => {} });
      stream.abort({ code: GrpcStatus.Unavailable, details: NOT_YET });
      return;
    }
    serving.changes.serve(stream, changesHello(serving));
    // The gateway has said its last: it wants nothing more.
    call.on("end", () => call.end());
  };
  return {
    definition: DEFINITION,
    handlers: { changes },
    // While leadership is handed over, follows are told so one by one.
    drain: () => Promise.resolve(),
    end: () => {
      for (const call of [...calls]) call.end();
    },
  };
}
