/** What a command takes in the log, without encoding it. */
import type { Command } from "#proto/codec/messages.ts";

/** Bytes of a command beyond keys, values and content types: an upper bound for its framing. */
const COMMAND_OVERHEAD_BYTES = 96;
const MUTATION_OVERHEAD_BYTES = 64;

/** An upper bound of the command's encoded size. */
export function commandSizeBytes(command: Command): number {
  let sizeBytes = COMMAND_OVERHEAD_BYTES;
  for (const mutation of command.mutations) {
    sizeBytes += MUTATION_OVERHEAD_BYTES + mutation.key.length;
    if (mutation.action.kind === "put") {
      sizeBytes += mutation.action.value.length + mutation.action.contentType.length * 3;
    }
    const condition = mutation.condition;
    if (condition) {
      sizeBytes += 10 * (condition.revisionIs.length + condition.revisionIsNot.length);
    }
  }
  return sizeBytes;
}
