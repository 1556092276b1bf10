/**
 * Branded numbers: ids and positions that must not be swapped for one another.
 *
 * All are safe integers (below 2^53) and travel as unsigned 64-bit values on disk and on the wire.
 * A brand costs nothing at run time. Values from outside enter through `to…`, which checks;
 * arithmetic inside a module that has proven its range may cast.
 */
declare const brand: unique symbol;
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** A storage node: 1 to `NODE_ID_MAX`. Never reused; 0 means "none". */
export type NodeId = Brand<number, "NodeId">;
/**
 * A replica (member of one Raft group): `sequence × 2^20 + node id`. Never reused within its group,
 * and a later one is higher, because every new replica takes the next sequence. Its node can be read
 * off it, so no directory of replicas is needed, and no two nodes can ever hold the same id. The
 * replicas with which a group begins have sequence 0: their ids are their nodes' ids. 0 means "none".
 */
export type ReplicaId = Brand<number, "ReplicaId">;
/** A Raft group: a vshard (0–255) or the meta group (0xFFFF). */
export type GroupId = Brand<number, "GroupId">;
/** One of the 256 partitions of the key space. */
export type VshardId = Brand<number, "VshardId">;
/** A Raft term, from 0. */
export type Term = Brand<number, "Term">;
/** A position in a Raft log, from 1; 0 means "before the first entry". */
export type LogIndex = Brand<number, "LogIndex">;
/** A position in a vshard's history of key changes: 1, 2, 3, … without holes. */
export type Revision = Brand<number, "Revision">;
/** A tenant; 1 is the default tenant, 0 is reserved. */
export type TenantId = Brand<number, "TenantId">;

export const VSHARD_COUNT = 256;
export const NODE_ID_MAX = 2 ** 20 - 1;
/** Of one group. 2^32 replicas of a group are more than it will ever have. */
export const REPLICA_SEQUENCE_MAX = 2 ** 32 - 1;
export const META_GROUP = 0xffff as GroupId;
/** Owns the rows of the meta group. No client can name it. */
export const SYSTEM_TENANT = 0 as TenantId;
export const DEFAULT_TENANT = 1 as TenantId;

/**
 * Key spaces of a tenant. Values are on disk and on the wire: never renumber. `Ticket` is of gateways: what may be used
 * once, by its id.
 */
export const Space = { Kv: 1, Meta: 2, Directory: 3, Ticket: 4 } as const;
export type Space = (typeof Space)[keyof typeof Space];

function checked(value: number, max: number, what: string): number {
  if (!Number.isSafeInteger(value) || value < 0 || value > max) {
    throw new RangeError(`${what} must be an integer from 0 to ${max}, got ${value}`);
  }
  return value;
}

export const toNodeId = (value: number): NodeId => checked(value, NODE_ID_MAX, "node id") as NodeId;
export const toReplicaId = (value: number): ReplicaId =>
  checked(value, Number.MAX_SAFE_INTEGER, "replica id") as ReplicaId;
export const toGroupId = (value: number): GroupId => checked(value, 0xffff, "group id") as GroupId;
export const toVshardId = (value: number): VshardId =>
  checked(value, VSHARD_COUNT - 1, "vshard id") as VshardId;
export const toTerm = (value: number): Term =>
  checked(value, Number.MAX_SAFE_INTEGER, "term") as Term;
export const toLogIndex = (value: number): LogIndex =>
  checked(value, Number.MAX_SAFE_INTEGER, "log index") as LogIndex;
export const toRevision = (value: number): Revision =>
  checked(value, Number.MAX_SAFE_INTEGER, "revision") as Revision;
export const toTenantId = (value: number): TenantId =>
  checked(value, 0xffff_ffff, "tenant id") as TenantId;

/** The Raft group that stores a vshard: same number. */
export const groupOfVshard = (vshard: VshardId): GroupId => vshard as number as GroupId;

/** The node that holds a replica. */
export const nodeOfReplica = (replica: ReplicaId): NodeId => (replica % 2 ** 20) as NodeId;
export const sequenceOfReplica = (replica: ReplicaId): number => Math.floor(replica / 2 ** 20);
export const replicaIdOf = (node: NodeId, sequence: number): ReplicaId =>
  (checked(sequence, REPLICA_SEQUENCE_MAX, "replica sequence") * 2 ** 20 + node) as ReplicaId;
