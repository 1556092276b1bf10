/**
 * Codec of `Heartbeats` in `proto/minikv/v1/node.proto`: heartbeats, or their replies, of many groups
 * as columns of numbers.
 *
 * A node that leads a hundred groups sends a hundred heartbeats to a peer at every tick, and as many
 * with every round of reads. What they have in common is left out: the nodes are known from the hello,
 * sequences are 0 until a replica is moved, the read round is one for all. What remains is group, term
 * and commit index: some five bytes.
 */
import { readOne, readPacked } from "#proto/codec/packed.ts";
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

// Numbers of the columns, by field number.
const GROUPS = 1;
/** The columns up to here are always whole. */
const COMMITS = 3;
const FROM_SEQUENCES = 4;
const TO_SEQUENCES = 5;
const READ_ROUNDS = 6;
const COLUMNS = 6;
const GROUP_MAX = 0xffff;
const SEQUENCE_MAX = 0xffff_ffff;

// Neither encoding nor decoding is ever re-entered: one set of columns serves all calls.
const columns: readonly number[][] = Array.from({ length: COLUMNS + 1 }, () => []);

/** Content size of the columns of at least one heartbeat; their sizes go to `sizes`. */
export function heartbeatsSize(heartbeats: readonly Heartbeat[], sizes: Sizes): number {
  fillColumns(heartbeats);
  let size = 0;
  for (let number = GROUPS; number <= COLUMNS; number++) {
    const column = columns[number]!;
    if (column.length === 0) continue;
    let columnSize = 0;
    for (let i = 0; i < column.length; i++) columnSize += varintSize(column[i]!);
    size += sizes.fill(sizes.reserve(), columnSize);
  }
  return size;
}

export function writeHeartbeats(heartbeats: readonly Heartbeat[], writer: Writer): void {
  fillColumns(heartbeats);
  for (let number = GROUPS; number <= COLUMNS; number++) {
    const column = columns[number]!;
    if (column.length === 0) continue;
    writer.messageField((number << 3) | LENGTH_DELIMITED);
    for (let i = 0; i < column.length; i++) writer.varint(column[i]!);
  }
}

function fillColumns(heartbeats: readonly Heartbeat[]): void {
  const count = heartbeats.length;
  for (const column of columns) column.length = count;
  const [, groups, terms, commits, fromSequences, toSequences, readRounds] = columns;
  const { readRound } = heartbeats[0]!;
  let sequencesFrom = 0;
  let sequencesTo = 0;
  let oneRound = true;
  for (let i = 0; i < count; i++) {
    const heartbeat = heartbeats[i]!;
    groups![i] = heartbeat.group;
    terms![i] = heartbeat.term;
    commits![i] = heartbeat.commit;
    readRounds![i] = heartbeat.readRound;
    fromSequences![i] = sequenceOfReplica(heartbeat.from);
    toSequences![i] = sequenceOfReplica(heartbeat.to);
    sequencesFrom += fromSequences![i]!;
    sequencesTo += toSequences![i]!;
    oneRound &&= heartbeat.readRound === readRound;
  }
  if (sequencesFrom === 0) fromSequences!.length = 0;
  if (sequencesTo === 0) toSequences!.length = 0;
  if (oneRound) readRounds!.length = readRound === 0 ? 0 : 1;
}

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
  const [, groups, terms, commits, fromSequences, toSequences, readRounds] = columns;
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
    const column = columns[tag >>> 3];
    if (column === undefined) reader.skip(tag);
    else if ((tag & 7) === LENGTH_DELIMITED) readPacked(reader, column);
    else if ((tag & 7) === VARINT) readOne(reader, column);
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
}

function checkColumns(reader: Reader, count: number): void {
  for (let number = GROUPS; number <= COLUMNS; number++) {
    const { length } = columns[number]!;
    const whole = length === count;
    const absent = length === 0 && number > COMMITS;
    const shared = length === 1 && number === READ_ROUNDS;
    if (!whole && !absent && !shared) reader.fail("heartbeats whose columns differ in length");
  }
  checkRange(reader, GROUPS, GROUP_MAX);
  checkRange(reader, FROM_SEQUENCES, SEQUENCE_MAX);
  checkRange(reader, TO_SEQUENCES, SEQUENCE_MAX);
}

function checkRange(reader: Reader, number: number, max: number): void {
  const column = columns[number]!;
  for (let i = 0; i < column.length; i++) {
    if (column[i]! > max) reader.fail(`heartbeat with a number beyond ${max}`);
  }
}
