/** Changes streams to the storage node of the same process, which runs in another thread. */
import { MessageChannel, type MessagePort } from "node:worker_threads";
import { PortStream } from "#shared/runtime/port-stream.ts";
import type { ChangesConnector } from "./changes-link.ts";

/** `give` hands the far end of a channel to the storage node's thread. */
export function portChangesConnector(give: (port: MessagePort) => void): ChangesConnector {
  return {
    peer: "the storage node of this process",
    open: () => {
      const { port1, port2 } = new MessageChannel();
      give(port2);
      return new PortStream(port1);
    },
    close: () => {},
  };
}
