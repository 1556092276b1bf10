/** The Operate stream to the storage node of the same process, which runs in another thread. */
import type { MessagePort } from "node:worker_threads";
import { PORT_OPERATIONS_GATHERED_MAX } from "#shared/limits.ts";
import { PortStream } from "#shared/runtime/port-stream.ts";
import type { Connector } from "./stream-channel.ts";

/** One stream only: threads of a process do not come back one without the other. */
export function portConnector(port: MessagePort): Connector {
  let stream: PortStream | undefined = new PortStream(port);
  return {
    peer: "the storage node of this process",
    operationsGatheredMax: PORT_OPERATIONS_GATHERED_MAX,
    givesUpSilent: false,
    open: () => {
      const opened = stream;
      stream = undefined;
      return opened;
    },
    close: () => port.close(),
  };
}
