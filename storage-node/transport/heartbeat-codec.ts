/**
 * Codec of `Heartbeats` in `proto/minikv/v1/node.proto`: heartbeats, or their replies, of many groups
 * as columns of numbers.
 *
 * A node that leads a hundred groups sends a hundred heartbeats to a peer at every tick, and as many
 * with every round of reads. What they have in common is left out: the nodes are known from the hello,
 * sequences are 0 until a replica is moved, the read round is one for all. What remains is group, term
 * and commit index: some five bytes.
 */
import {
  LENGTH_DELIMITED,
  type Reader,
  type Sizes,
  VARINT,
  varintSize,
  type Writer,
} from "#proto/codec/wire.ts";
import {
  type GroupId,
  type LogIndex,
  type NodeId,
  type ReplicaId,
  sequenceOfReplica,
  type Term,
} from "#shared/ids.ts";
import type { Message } from "#storage-node/raft/types.ts";

export type Heartbeat = Extract<Message, { readonly kind: "heartbeat" | "heartbeatReply" }>;

export const isHeartbeat = (message: Message): message is Heartbeat =>
  message.kind === "heartbeat" || message.kind === "heartbeatReply";

/** Column by field number, minus 1. */
const COLUMNS: readonly ((heartbeat: Heartbeat) => number)[] = [
  ({ group }) => group,
  ({ term }) => term,
  ({ commit }) => commit,
  ({ from }) => sequenceOfReplica(from),
  ({ to }) => sequenceOfReplica(to),
  ({ readRound }) => readRound,
];
const READ_ROUNDS = COLUMNS.length - 1;
/** Columns that have as many numbers as there are heartbeats, even if all are 0. */
const COLUMNS_ALWAYS_WHOLE = 3;
const GROUP_MAX = 0xffff;
const SEQUENCE_MAX = 0xffff_ffff;

/** How many numbers of a column are written: none, one for all, or one for each heartbeat. */
function columnLength(heartbeats: readonly Heartbeat[], column: number): number {
  if (column < COLUMNS_ALWAYS_WHOLE) return heartbeats.length;
  const value = COLUMNS[column]!;
  const first = value(heartbeats[0]!);
  // The loop ends at the first number that differs.
  const same = heartbeats.every((heartbeat) => value(heartbeat) === first);
  if (!same) return heartbeats.length;
  if (first === 0) return 0;
  return column === READ_ROUNDS ? 1 : heartbeats.length;
}

/** Content size of the columns of at least one heartbeat; their sizes go to `sizes`. */
export function heartbeatsSize(heartbeats: readonly Heartbeat[], sizes: Sizes): number {
  let size = 0;
  for (let column = 0; column < COLUMNS.length; column++) {
    const length = columnLength(heartbeats, column);
    if (length === 0) continue;
    const value = COLUMNS[column]!;
    let columnSize = 0;
    for (let i = 0; i < length; i++) columnSize += varintSize(value(heartbeats[i]!));
    size += sizes.fill(sizes.reserve(), columnSize);
  }
  return size;
}

export function writeHeartbeats(heartbeats: readonly Heartbeat[], writer: Writer): void {
  for (let column = 0; column < COLUMNS.length; column++) {
    const length = columnLength(heartbeats, column);
    if (length === 0) continue;
    const value = COLUMNS[column]!;
    writer.messageField(((column + 1) << 3) | LENGTH_DELIMITED);
    for (let i = 0; i < length; i++) writer.varint(value(heartbeats[i]!));
  }
}

// Reading is synchronous and never re-entered: one set of columns serves all calls.
const columns: readonly number[][] = COLUMNS.map(() => []);

/**
 * Reads heartbeats whose tag has just been read, of replicas of node `from` for replicas of node `to`,
 * and appends them to `messages`.
 */
export function readHeartbeats(
  reader: Reader,
  kind: Heartbeat["kind"],
  nodes: { readonly from: NodeId; readonly to: NodeId },
  messages: Message[],
): void {
  readColumns(reader);
  const [groups, terms, commits, fromSequences, toSequences, readRounds] = columns;
  const count = groups!.length;
  checkColumns(reader, count);
  const sharedRound = readRounds!.length === 1 ? readRounds![0]! : 0;
  for (let i = 0; i < count; i++) {
    messages.push({
      kind,
      group: groups![i]! as GroupId,
      from: ((fromSequences![i] ?? 0) * 2 ** 20 + nodes.from) as ReplicaId,
      to: ((toSequences![i] ?? 0) * 2 ** 20 + nodes.to) as ReplicaId,
      term: terms![i]! as Term,
      commit: commits![i]! as LogIndex,
      readRound: readRounds!.length > 1 ? readRounds![i]! : sharedRound,
    });
  }
}

function readColumns(reader: Reader): void {
  for (const column of columns) column.length = 0;
  const outerEnd = reader.enter();
  while (reader.more) {
    const tag = reader.tag();
    const column = columns[(tag >>> 3) - 1];
    if (column === undefined) reader.skip(tag);
    else if ((tag & 7) === LENGTH_DELIMITED) readPacked(reader, column);
    else if ((tag & 7) === VARINT) readOne(reader, column);
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
}

function readPacked(reader: Reader, column: number[]): void {
  const outerEnd = reader.enter();
  while (reader.more) readOne(reader, column);
  reader.leave(outerEnd);
}

function readOne(reader: Reader, column: number[]): void {
  reader.countElement();
  column.push(reader.uint64());
}

function checkColumns(reader: Reader, count: number): void {
  for (let i = 0; i < columns.length; i++) {
    const column = columns[i]!;
    const whole = column.length === count;
    const short = i >= COLUMNS_ALWAYS_WHOLE && column.length === 0;
    const shared = i === READ_ROUNDS && column.length === 1;
    if (!whole && !short && !shared) reader.fail("heartbeats whose columns differ in length");
  }
  const [groups, , , fromSequences, toSequences] = columns;
  if (groups!.some((group) => group > GROUP_MAX)) reader.fail("group beyond 65535");
  const tooHigh = (sequence: number): boolean => sequence > SEQUENCE_MAX;
  if (fromSequences!.some(tooHigh) || toSequences!.some(tooHigh)) {
    reader.fail("replica sequence beyond 2^32 - 1");
  }
}
