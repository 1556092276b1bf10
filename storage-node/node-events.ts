/** What a process does about the events of its storage node: log them, and end when it must. */

import { endAtOnce } from "#shared/runtime/exit.ts";
import type { Logger } from "#shared/runtime/log.ts";
import { EXIT_FAILURE } from "#shared/runtime/shutdown.ts";
import type { OpenNodeOptions } from "./open-node.ts";
import type { PeerEvent } from "./transport/link.ts";

export function nodeEvents(
  logger: Logger,
): Pick<
  OpenNodeOptions,
  "onFatal" | "onWritable" | "onTransferError" | "onPlan" | "onPlanFailure" | "onRemoved"
> {
  return {
    // Nothing is closed in order: after a failed write or sync, or a broken invariant, the memory of
    // this process is not to be trusted. What was acknowledged is on disk; a restart recovers it.
    onFatal: (err) => {
      logger.fatal({ err }, "the storage node cannot go on; ending the process");
      endAtOnce(EXIT_FAILURE);
    },
    onTransferError: (err) =>
      logger.warn({ err }, "a snapshot failed on its way; it is tried again"),
    onPlan: (reasons) => logger.info({ reasons }, "the cluster map changes"),
    onPlanFailure: (err) =>
      logger.warn({ err }, "the cluster map cannot be changed as planned; it is tried again"),
    onRemoved: (detail) => logger.error({ detail }, "this node is not in the cluster any more"),
    onWritable: (writable, freeBytes) => {
      if (writable) logger.info({ freeBytes }, "enough disk space again: taking writes");
      else logger.warn({ freeBytes }, "low on disk space: refusing writes");
    },
  };
}

/** Connections between nodes come and go; one line for each change. */
export const onPeerEvent =
  (logger: Logger) =>
  ({ kind, ...fields }: PeerEvent): void => {
    if (kind === "connected") logger.info(fields, "connected to a storage node");
    else if (kind === "lost") logger.warn(fields, "connection to a storage node lost");
    else logger.error(fields, "a storage node and this one refuse each other");
  };
