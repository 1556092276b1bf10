/**
 * What waits in a replica for an answer, and what of it is given up.
 *
 * Each operation that waits holds a place in the window of the stream on which it came. A group that
 * cannot commit, because the disks of a quorum hang while their processes go on answering heartbeats,
 * would use up the window, and with it what all other groups of the node need. So nothing waits here
 * for longer than anybody waits for it.
 */
import { failureOf } from "#proto/codec/failure.ts";
import type { Command, EntryBody, Read, Reply, ResultBody } from "#proto/codec/messages.ts";
import type { LogIndex, Term } from "#shared/ids.ts";
import type { TraceContext } from "#shared/tracing.ts";
import type { EntryTimeline } from "./timeline.ts";

export type PendingWrite = {
  readonly command: Command;
  readonly sizeBytes: number;
  /** Of a write that is traced; see `sampledTrace`. */
  readonly trace: WriteTrace | undefined;
  reply: Reply;
};

/** `context`: 25 bytes, as in `Operation`. */
export type WriteTrace = { readonly context: TraceContext };

/** An entry that was proposed here, and those who wait for it. */
export type ProposedEntry = EntryTimeline & {
  readonly index: LogIndex;
  readonly term: Term;
  readonly writes: readonly PendingWrite[];
  /** What the entry's data was made of. */
  readonly body: EntryBody;
  /** The span that members are told of; set when operations of it are traced. */
  trace: TraceContext | undefined;
};

export type PendingRead = { readonly read: Read; readonly reply: Reply };

/** `startedMs` is monotonic, and before the round left: what it found was committed by then. */
export type ReadRound = { readonly startedMs: number; readonly reads: readonly PendingRead[] };

export type ReadsAtIndex = ReadRound & { readonly index: LogIndex };

/** Nobody is left to be answered when it has been taken before. */
export function answerRound(round: ReadRound | undefined, answer: ResultBody): void {
  if (round !== undefined) for (const read of round.reads) read.reply(answer);
}

const answered: Reply = () => {};

/** Of the node's own commands (expiry) nobody has said until when they are wanted. */
const isPast = ({ command: { deadlineMs } }: PendingWrite, nowMs: number): boolean =>
  deadlineMs !== 0 && deadlineMs < nowMs;

/** Answers the writes whose deadline has passed before anybody proposed them; returns the others. */
export function refusePast(writes: PendingWrite[], nowMs: number): PendingWrite[] {
  if (!writes.some((write) => isPast(write, nowMs))) return writes;
  const detail = "the deadline passed before the write was proposed";
  const refusal = failureOf("DEADLINE_EXCEEDED", detail, { notApplied: true });
  return writes.filter((write) => {
    if (!isPast(write, nowMs)) return true;
    write.reply(refusal);
    return false;
  });
}

/**
 * Answers the writes whose deadline has passed after they were proposed: they may be applied yet. Their
 * entries go on being waited for, so that the order of all others stays.
 */
export function giveUpPast(waiters: readonly ProposedEntry[], nowMs: number): void {
  const detail = "the deadline passed before the write was committed";
  const unknown = failureOf("DEADLINE_EXCEEDED", detail, { notApplied: false });
  for (const { writes } of waiters) {
    for (const write of writes) {
      if (write.reply === answered || !isPast(write, nowMs)) continue;
      const { reply } = write;
      write.reply = answered;
      reply(unknown);
    }
  }
}
