/**
 * One change of one key, as the change log keeps it and watchers see it.
 *
 * The value is not part of it: a reader that wants it fetches the key and compares revisions.
 */
import type { Revision, Space, TenantId } from "./ids.ts";

/** Values are on disk: never renumber. */
export const ChangeKind = { Put: 1, Delete: 2, Expire: 3 } as const;
export type ChangeKind = (typeof ChangeKind)[keyof typeof ChangeKind];

export type Change = {
  readonly kind: ChangeKind;
  readonly revision: Revision;
  /** Revision of the key before this change; 0 if it did not exist. */
  readonly previousRevision: Revision;
  readonly tenant: TenantId;
  readonly space: Space;
  readonly key: Uint8Array;
  /** Size of the value after the change, bytes; 0 for delete and expire. */
  readonly valueSizeBytes: number;
  /** Log time at which the key expires, milliseconds; 0 for never. */
  readonly expiresAtMs: number;
};
