/**
 * The directory as a gateway sees it: tenants, API keys, signing keys and wrapped data keys, all of it in
 * memory and kept up to date by the leader of the meta group.
 *
 * A row is a message of `directory.proto` under a name such as `key/<id>`. Whoever owns a kind of row
 * encodes and decodes it; nothing here looks inside.
 */

export type DirectoryRow = {
  readonly name: string;
  readonly value: Uint8Array;
  /** Grows with each change of the directory. */
  readonly revision: number;
};

export type DirectoryMutation = {
  readonly name: string;
  /** Undefined removes the row. */
  readonly value: Uint8Array | undefined;
  /** Undefined: whatever the row is. 0: the row must not exist. */
  readonly expectedRevision?: number;
};

export type TenantUsage = { readonly bytes: number; readonly objects: number };

/** What was asked of this gateway per second, admitted or not. */
export type TenantDemand = {
  readonly requestsPerSecond: number;
  readonly bytesPerSecond: number;
};

/** Parts of a tenant's rates that this gateway may give out: 0 to 1. */
export type TenantShare = { readonly requests: number; readonly bytes: number };

/** `row` is undefined when the row was removed. */
export type DirectoryListener = (name: string, row: DirectoryRow | undefined) => void;

export interface Directory {
  /** All rows have been seen once. Until then nobody can be authenticated. */
  readonly isKnown: boolean;
  /** Since the leader of the meta group last spoke, milliseconds. Infinity before it ever has. */
  silenceMs(): number;
  get(name: string): DirectoryRow | undefined;
  /** Rows whose names begin with `prefix`, in the order of their names. */
  list(prefix: string): readonly DirectoryRow[];
  /** Told of each later change of a row whose name begins with `prefix`. Returns what ends that. */
  subscribe(prefix: string, listener: DirectoryListener): () => void;
  /**
   * Makes all the changes or none, durably. When it resolves with true, this directory has them; other
   * gateways have them within a second. False: a row was not as expected.
   *
   * @throws KvError with its outcome
   */
  change(
    mutations: readonly DirectoryMutation[],
    options: { readonly deadlineMs: number },
  ): Promise<boolean>;
  /** As last heard, at most about two seconds old while the meta group has a leader. */
  usageOf(tenantId: number): TenantUsage;
  /** Grows whenever usage is heard, so that what was counted since can be told apart. */
  readonly usageVersion: number;
  shareOf(tenantId: number): TenantShare;
  /** Gateways that follow the directory, as last heard, this one included; at least 1. */
  readonly gateways: number;
  /** Asked before each message to the leader for what to say of each tenant that asked for anything. */
  demandSource(source: () => ReadonlyMap<number, TenantDemand>): void;
}
