/**
 * Change logs of the vshards that this node leads, as streams ask for them: who may answer, what is the
 * head, and what becomes of errors.
 */
import type { ChangeRecord } from "#proto/codec/change-messages.ts";
import { failureOf } from "#proto/codec/failure.ts";
import type { Failure } from "#proto/codec/messages.ts";
import type { Clock } from "#shared/clock.ts";
import { type ErrorCode, KvError } from "#shared/errors.ts";
import type { Revision, VshardId } from "#shared/ids.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import type { Replica } from "#storage-node/replica/replica.ts";
import type { ChangeTail } from "./change-tail.ts";
import { type LogPiece, oldestInLog, readLogPiece } from "./log-piece.ts";

export type LogSeen =
  | {
      readonly kind: "seen";
      /** Behind what was asked for; undefined when only the head was. */
      readonly changes: readonly ChangeRecord[] | undefined;
      readonly sizeBytes: number;
      readonly headRevision: Revision;
      /** 0 when it was not looked for. */
      readonly oldestRevision: Revision;
    }
  | {
      readonly kind: "failure";
      readonly failure: Failure;
      readonly headRevision: Revision;
      readonly oldestRevision: Revision;
    };

const UNKNOWN = 0 as Revision;

export class LogReader {
  readonly #engine: Pick<Engine, "iterate">;
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #tail: ChangeTail;

  constructor(parts: {
    readonly engine: Pick<Engine, "iterate">;
    readonly clock: Pick<Clock, "monotonicMs">;
    readonly tail: ChangeTail;
  }) {
    this.#engine = parts.engine;
    this.#clock = parts.clock;
    this.#tail = parts.tail;
  }

  /** The newest revision, and the oldest that there is. */
  head(vshard: VshardId): MaybePromise<LogSeen> {
    return this.#asLeader(vshard, (replica) => {
      const { appliedRevision } = replica;
      const oldest = this.#oldest(replica);
      const seen = (oldestRevision: Revision): LogSeen => headSeen(appliedRevision, oldestRevision);
      return isPromise(oldest) ? oldest.then(seen) : seen(oldest);
    });
  }

  /** A piece of the log behind `afterRevision`, and where the log begins and ends. */
  read(vshard: VshardId, afterRevision: Revision, bytesMax: number): MaybePromise<LogSeen> {
    return this.#asLeader(vshard, (replica) => {
      // Both are begun now: later the rows may have begun to go.
      const oldest = this.#oldest(replica);
      const piece = this.#piece(replica, afterRevision, bytesMax);
      if (!isPromise(oldest) && !isPromise(piece)) return withOldest(piece, oldest);
      return Promise.all([piece, oldest]).then(([seen, found]) => withOldest(seen, found));
    });
  }

  /** As `read`, for one that needs not know where the log begins, and is often at its end. */
  follow(vshard: VshardId, position: Revision, bytesMax: number): MaybePromise<LogSeen> {
    return this.#asLeader(vshard, (replica) => {
      const { appliedRevision } = replica;
      if (position >= appliedRevision) return headSeen(appliedRevision, UNKNOWN);
      return this.#piece(replica, position, bytesMax);
    });
  }

  /** Whether there is anything to tell a follow at `position`: changes, or that this node leads no more. */
  hasBehind(vshard: VshardId, position: Revision): boolean {
    const replica = this.#tail.leaderOf(vshard);
    return replica === undefined || position < replica.appliedRevision;
  }

  #oldest({ machine, appliedRevision }: Replica): MaybePromise<Revision> {
    return oldestInLog(this.#engine, machine, appliedRevision);
  }

  #piece(
    { group, appliedRevision: headRevision }: Replica,
    afterRevision: Revision,
    bytesMax: number,
  ): MaybePromise<LogSeen> {
    const asked = { group, headRevision, afterRevision, bytesMax };
    const piece = readLogPiece(this.#engine, this.#clock, asked);
    const seen = (found: LogPiece): LogSeen => {
      if (found.kind === "compacted") return compacted(headRevision, found.oldestRevision);
      const { changes, sizeBytes } = found;
      // What has been written while the engine was asked counts too.
      const last = changes.at(-1)?.revision ?? UNKNOWN;
      const head = Math.max(headRevision, last) as Revision;
      return { ...headSeen(head, UNKNOWN), changes, sizeBytes };
    };
    return isPromise(piece) ? piece.then(seen) : seen(piece);
  }

  #asLeader(
    vshard: VshardId,
    look: (replica: Replica) => MaybePromise<LogSeen>,
  ): MaybePromise<LogSeen> {
    const replica = this.#tail.leaderOf(vshard);
    if (replica === undefined) return refusal(this.#notLeader(vshard));
    // Its rows have begun to be replaced.
    if (replica.installing) {
      return failed("UNAVAILABLE", "the replica is taking over a snapshot");
    }
    try {
      const looking = look(replica);
      return isPromise(looking) ? looking.catch(failureFor) : looking;
    } catch (error) {
      return failureFor(error);
    }
  }

  #notLeader(vshard: VshardId): Failure {
    const replica = this.#tail.replicaOf(vshard);
    if (replica !== undefined) return replica.notLeader(true);
    const detail = `this node has no replica of vshard ${vshard}`;
    return failureOf("NOT_LEADER", detail, { notApplied: true });
  }
}

const headSeen = (headRevision: Revision, oldestRevision: Revision) =>
  ({ kind: "seen", changes: undefined, sizeBytes: 0, headRevision, oldestRevision }) as const;

const withOldest = (seen: LogSeen, oldestRevision: Revision): LogSeen =>
  seen.kind === "failure" ? seen : { ...seen, oldestRevision };

function compacted(headRevision: Revision, oldestRevision: Revision): LogSeen {
  const detail = `the change log begins at revision ${oldestRevision}`;
  const failure = failureOf("COMPACTED", detail, { notApplied: true });
  return { kind: "failure", failure, headRevision, oldestRevision };
}

const refusal = (failure: Failure): LogSeen => ({
  ...{ kind: "failure", failure, headRevision: UNKNOWN, oldestRevision: UNKNOWN },
});

const failed = (code: ErrorCode, detail: string): LogSeen =>
  refusal(failureOf(code, detail, { notApplied: true }));

/** One damaged row must not take the node down, nor be skipped: its readers get the error. */
function failureFor(error: unknown): LogSeen {
  const code = error instanceof KvError ? error.code : "INTERNAL";
  const detail = error instanceof Error ? error.message : String(error);
  return failed(code, `the change log could not be read: ${detail}`);
}
