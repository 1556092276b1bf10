/**
 * Where the feed gets changes from: pieces of the change log on demand (`ChangeLog`), and news as they
 * happen (`LiveChanges`).
 *
 * The log is the truth: gapless and in order, answered by the leader of the vshard. News are fast and owe
 * nothing: they may come twice, out of order, late or not at all, and the feed fills what is missing from the log.
 * So whatever carries them (a stream from the leader, NATS) can be lost without losing a change.
 */

import type { ChangeBatch } from "#proto/codec/change-messages.ts";
import type { Revision, VshardId } from "#shared/ids.ts";

export type LogPiece =
  /** Empty when the reader has all there is. `headRevision` is the newest one at that moment. */
  | { readonly kind: "changes"; readonly batch: ChangeBatch; readonly headRevision: Revision }
  /** The log begins at `oldestRevision` (inclusive), behind what was asked for. */
  | {
      readonly kind: "compacted";
      readonly oldestRevision: Revision;
      readonly headRevision: Revision;
    };

export type LogHead = {
  /** The newest revision; 0 when there was no change yet. */
  readonly headRevision: Revision;
  /** Of the oldest change that the log still has; `headRevision + 1` when it has none. */
  readonly oldestRevision: Revision;
};

export type LogCallOptions = {
  /** Wall clock, milliseconds. */
  readonly deadlineMs: number;
};

export interface ChangeLog {
  /**
   * Changes behind `afterRevision`, some `bytesMax` of them.
   *
   * @throws KvError UNAVAILABLE, NOT_LEADER, DEADLINE_EXCEEDED, OVERLOADED, DATA_CORRUPT
   */
  read(
    vshard: VshardId,
    afterRevision: Revision,
    bytesMax: number,
    options: LogCallOptions,
  ): Promise<LogPiece>;
  /**
   * The newest and the oldest revision, as the leader knows them: at most that of the last write that was answered
   * before, if a leader was deposed and does not know it yet. Starting at the head can repeat changes, and miss none
   * that is written later.
   */
  head(vshard: VshardId, options: LogCallOptions): Promise<LogHead>;
  close(): void | Promise<void>;
}

export type LiveListener = {
  readonly onBatch: (batch: ChangeBatch) => void;
  /** There is a change with this revision, whether or not its batch has come. */
  readonly onHead: (vshard: VshardId, revision: Revision) => void;
};

export interface LiveChanges {
  /** To be called once, before anything else. */
  start(listener: LiveListener): void;
  /**
   * News of this vshard are wanted. `position` is what the listener has: a carrier that can begin there does.
   */
  listen(vshard: VshardId, position: () => Revision): void;
  unlisten(vshard: VshardId): void;
  /** Milliseconds since anything was heard that covers this vshard; infinity for never. */
  silenceMs(vshard: VshardId): number;
  close(): Promise<void>;
}
