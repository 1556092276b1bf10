/** Serves the gateway of the same process, which runs in another thread. */
import type { MessagePort } from "node:worker_threads";
import type { OperationHandler } from "#proto/codec/messages.ts";
import type { Clock } from "#shared/clock.ts";
import { PortStream } from "#shared/runtime/port-stream.ts";
import type { NodeChanges } from "#storage-node/changes/node-changes.ts";
import type { OperationFigures } from "#storage-node/operation-figures.ts";
import { changesHello, type NodeIdentity, nodeHello } from "./hello.ts";
import { OperateStream } from "./operate-stream.ts";

export type PortServiceOptions = NodeIdentity & {
  readonly port: MessagePort;
  readonly handler: OperationHandler;
  readonly clock: Clock;
  readonly figures?: OperationFigures | undefined;
};

/** The stream lives as long as the port: the gateway closes it before the node is closed. */
export function serveStoragePort(options: PortServiceOptions): OperateStream {
  const { port, handler, clock, figures } = options;
  const hello = nodeHello(options);
  const stream = new PortStream(port);
  return new OperateStream({ stream, handler, hello, clock, figures, onClosed: () => {} });
}

export type PortChangesOptions = NodeIdentity & {
  readonly port: MessagePort;
  readonly changes: NodeChanges;
};

/** The same for its Changes stream; a gateway that has lost one may open another. */
export function serveChangesPort(options: PortChangesOptions): void {
  options.changes.serve(new PortStream(options.port), changesHello(options));
}
