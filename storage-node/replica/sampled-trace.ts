/** Which writes are traced. */
import { TRACE_CONTEXT_SIZE_BYTES } from "#shared/limits.ts";
import type { WriteTrace } from "./waiting.ts";

const FLAGS = TRACE_CONTEXT_SIZE_BYTES - 1;
/** W3C trace context: the sampled flag. */
const SAMPLED = 1;

/** What a write takes along through the log of this node; undefined for one that nobody records. */
export function sampledTrace(context: Uint8Array): WriteTrace | undefined {
  if (context.length !== TRACE_CONTEXT_SIZE_BYTES || (context[FLAGS]! & SAMPLED) === 0)
    return undefined;
  return { context };
}
