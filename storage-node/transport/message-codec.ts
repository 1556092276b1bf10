/**
 * Codec of `RaftMessage` in `proto/minikv/v1/node.proto`: all kinds of Raft messages but heartbeats,
 * which travel as columns (heartbeat-codec.ts).
 *
 * Decoding checks the form, not the meaning: who may send what to whom is checked by the link, and
 * the rest is for the core.
 */
import { readOne, readPacked } from "#proto/codec/packed.ts";
import {
  LENGTH_DELIMITED,
  messageFieldSize,
  numberFieldSize,
  type Reader,
  type Sizes,
  VARINT,
  varintSize,
  type Writer,
} from "#proto/codec/wire.ts";
import { unreachable } from "#shared/assert.ts";
import type { GroupId, LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import type { Configuration, Message } from "#storage-node/raft/types.ts";
import { appendSize, readAppend, writeAppend } from "./append-codec.ts";
import type { Heartbeat } from "./heartbeat-codec.ts";

export type PlainMessage = Exclude<Message, Heartbeat>;

type Kind = PlainMessage["kind"];
type Snapshot = Extract<PlainMessage, { readonly kind: "snapshot" }>;

const GROUP = (1 << 3) | VARINT;
const FROM = (2 << 3) | VARINT;
const TO = (3 << 3) | VARINT;
const TERM = (4 << 3) | VARINT;
const GROUP_MAX = 0xffff;

/** Tag of each kind's body. */
const BODY = {
  preVote: (5 << 3) | LENGTH_DELIMITED,
  preVoteReply: (6 << 3) | LENGTH_DELIMITED,
  vote: (7 << 3) | LENGTH_DELIMITED,
  voteReply: (8 << 3) | LENGTH_DELIMITED,
  append: (9 << 3) | LENGTH_DELIMITED,
  appendReply: (10 << 3) | LENGTH_DELIMITED,
  readIndex: (11 << 3) | LENGTH_DELIMITED,
  readIndexReply: (12 << 3) | LENGTH_DELIMITED,
  snapshot: (13 << 3) | LENGTH_DELIMITED,
  timeoutNow: (14 << 3) | LENGTH_DELIMITED,
} as const satisfies Record<Kind, number>;

const KIND_OF_TAG: (Kind | undefined)[] = [];
for (const [kind, tag] of Object.entries(BODY)) KIND_OF_TAG[tag] = kind as Kind;

/** Tag of the number in field `field`. */
const numberTag = (field: number): number => (field << 3) | VARINT;

/** Content size of a message; its embedded sizes go to `sizes`. */
export function messageSize(message: PlainMessage, sizes: Sizes): number {
  const slot = sizes.reserve();
  return (
    numberFieldSize(message.group) +
    numberFieldSize(message.from) +
    numberFieldSize(message.to) +
    numberFieldSize(message.term) +
    sizes.fill(slot, bodySize(message, sizes))
  );
}

export function writeMessage(message: PlainMessage, writer: Writer): void {
  writer.numberField(GROUP, message.group);
  writer.numberField(FROM, message.from);
  writer.numberField(TO, message.to);
  writer.numberField(TERM, message.term);
  writer.messageField(BODY[message.kind]);
  writeBody(message, writer);
}

function bodySize(message: PlainMessage, sizes: Sizes): number {
  switch (message.kind) {
    case "append":
      return appendSize(message, sizes);
    case "snapshot":
      return (
        numberFieldSize(message.snapshotIndex) +
        numberFieldSize(message.snapshotTerm) +
        sizes.fill(sizes.reserve(), configurationSize(message.configuration, sizes))
      );
    case "timeoutNow":
      return 0;
    default:
      return numbersSize(numbersOf(message));
  }
}

function writeBody(message: PlainMessage, writer: Writer): void {
  switch (message.kind) {
    case "append":
      writeAppend(message, writer);
      return;
    case "snapshot":
      writer.numberField(numberTag(1), message.snapshotIndex);
      writer.numberField(numberTag(2), message.snapshotTerm);
      writer.messageField((3 << 3) | LENGTH_DELIMITED);
      writeConfiguration(message.configuration, writer);
      return;
    case "timeoutNow":
      return;
    default:
      writeNumbers(numbersOf(message), writer);
  }
}

type NumbersMessage = Exclude<
  PlainMessage,
  { readonly kind: "append" | "snapshot" | "timeoutNow" }
>;

/** The fields of a body that has nothing but numbers, from field 1 on. */
function numbersOf(message: NumbersMessage): readonly number[] {
  switch (message.kind) {
    case "preVote":
    case "vote": {
      const { lastIndex, lastTerm, commit, commitTerm, forced } = message;
      return [lastIndex, lastTerm, commit, commitTerm, Number(forced)];
    }
    case "preVoteReply":
    case "voteReply":
      return [Number(message.granted), message.commit, message.commitTerm];
    case "appendReply":
      return [message.index, Number(message.rejected), message.hintIndex, message.hintTerm];
    case "readIndex":
    case "readIndexReply":
      return [message.token, message.index];
    default:
      return unreachable(message);
  }
}

function numbersSize(numbers: readonly number[]): number {
  let size = 0;
  for (const value of numbers) size += numberFieldSize(value);
  return size;
}

function writeNumbers(numbers: readonly number[], writer: Writer): void {
  for (let i = 0; i < numbers.length; i++) writer.numberField(numberTag(i + 1), numbers[i]!);
}

const NUMBERS_MAX = 5;
// Reading is synchronous and never re-entered: one list serves all calls.
const numbers: number[] = new Array(NUMBERS_MAX).fill(0);

/** The fields of a body that has nothing but numbers; 0 for those that are absent. */
function readNumbers(reader: Reader): readonly number[] {
  numbers.fill(0);
  while (reader.more) {
    const tag = reader.tag();
    const field = tag >>> 3;
    if ((tag & 7) === VARINT && field <= NUMBERS_MAX) numbers[field - 1] = reader.uint64();
    else reader.skip(tag);
  }
  return numbers;
}

/** A message whose envelope is filled in when all of it is read: fields come in any order. */
type Draft<M> = M extends unknown ? { -readonly [Field in keyof M]: M[Field] } : never;

const NO_ENVELOPE = {
  group: 0 as GroupId,
  from: 0 as ReplicaId,
  to: 0 as ReplicaId,
  term: 0 as Term,
} as const;

/** Reads an embedded message whose tag has just been read. */
export function readMessage(reader: Reader): PlainMessage {
  reader.countElement();
  const outerEnd = reader.enter();
  let group = 0;
  let from = 0;
  let to = 0;
  let term = 0;
  let message: Draft<PlainMessage> | undefined;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === GROUP) group = reader.uint32();
    else if (tag === FROM) from = reader.uint64();
    else if (tag === TO) to = reader.uint64();
    else if (tag === TERM) term = reader.uint64();
    else {
      const kind = KIND_OF_TAG[tag];
      if (kind === undefined) reader.skip(tag);
      else message = readBody(kind, reader);
    }
  }
  reader.leave(outerEnd);
  if (group > GROUP_MAX) reader.fail("group beyond 65535");
  // A kind of a later version must never be taken for none: it may be what the sender waits for.
  if (message === undefined) reader.fail("Raft message without a known body");
  message.group = group as GroupId;
  message.from = from as ReplicaId;
  message.to = to as ReplicaId;
  message.term = term as Term;
  return message;
}

function readBody(kind: Kind, reader: Reader): Draft<PlainMessage> {
  const outerEnd = reader.enter();
  const message = readContents(kind, reader);
  reader.leave(outerEnd);
  return message;
}

function readContents(kind: Kind, reader: Reader): Draft<PlainMessage> {
  switch (kind) {
    case "append":
      return { ...NO_ENVELOPE, kind, ...readAppend(reader) };
    case "snapshot":
      return { ...NO_ENVELOPE, kind, ...readSnapshot(reader) };
    case "preVote":
    case "vote": {
      const [lastIndex, lastTerm, commit, commitTerm, forced] = readNumbers(reader);
      return {
        ...NO_ENVELOPE,
        kind,
        lastIndex: lastIndex as LogIndex,
        lastTerm: lastTerm as Term,
        forced: forced !== 0,
        commit: commit as LogIndex,
        commitTerm: commitTerm as Term,
      };
    }
    case "preVoteReply":
    case "voteReply": {
      const [granted, commit, commitTerm] = readNumbers(reader);
      const known = { commit: commit as LogIndex, commitTerm: commitTerm as Term };
      return { ...NO_ENVELOPE, kind, granted: granted !== 0, ...known };
    }
    case "appendReply": {
      const [index, rejected, hintIndex, hintTerm] = readNumbers(reader);
      return {
        ...NO_ENVELOPE,
        kind,
        index: index as LogIndex,
        rejected: rejected !== 0,
        hintIndex: hintIndex as LogIndex,
        hintTerm: hintTerm as Term,
      };
    }
    case "readIndex":
    case "readIndexReply": {
      const [token, index] = readNumbers(reader);
      return { ...NO_ENVELOPE, kind, token: token!, index: index as LogIndex };
    }
    case "timeoutNow":
      while (reader.more) reader.skip(reader.tag());
      return { ...NO_ENVELOPE, kind };
    default:
      return unreachable(kind);
  }
}

const CONFIGURATION_LISTS = ["voters", "outgoing", "learners", "learnersNext"] as const;
const HIGHEST_ID = (5 << 3) | VARINT;

function configurationSize(configuration: Configuration, sizes: Sizes): number {
  let size = numberFieldSize(configuration.highestId);
  for (const name of CONFIGURATION_LISTS) {
    const ids = configuration[name];
    if (ids.length === 0) continue;
    let contentSize = 0;
    for (const id of ids) contentSize += varintSize(id);
    sizes.fill(sizes.reserve(), contentSize);
    size += messageFieldSize(contentSize);
  }
  return size;
}

function writeConfiguration(configuration: Configuration, writer: Writer): void {
  CONFIGURATION_LISTS.forEach((name, i) => {
    const ids = configuration[name];
    if (ids.length === 0) return;
    writer.messageField(((i + 1) << 3) | LENGTH_DELIMITED);
    for (const id of ids) writer.varint(id);
  });
  writer.numberField(HIGHEST_ID, configuration.highestId);
}

type SnapshotFields = Pick<Snapshot, "snapshotIndex" | "snapshotTerm" | "configuration">;

function readSnapshot(reader: Reader): SnapshotFields {
  let snapshotIndex = 0;
  let snapshotTerm = 0;
  let configuration: Configuration | undefined;
  while (reader.more) {
    const tag = reader.tag();
    if (tag === numberTag(1)) snapshotIndex = reader.uint64();
    else if (tag === numberTag(2)) snapshotTerm = reader.uint64();
    else if (tag === ((3 << 3) | LENGTH_DELIMITED)) configuration = readConfiguration(reader);
    else reader.skip(tag);
  }
  if (configuration === undefined) reader.fail("snapshot without a configuration");
  return {
    snapshotIndex: snapshotIndex as LogIndex,
    snapshotTerm: snapshotTerm as Term,
    configuration,
  };
}

function readConfiguration(reader: Reader): Configuration {
  const outerEnd = reader.enter();
  const lists: ReplicaId[][] = CONFIGURATION_LISTS.map(() => []);
  let highestId = 0;
  while (reader.more) {
    const tag = reader.tag();
    const list = lists[(tag >>> 3) - 1];
    if (tag === HIGHEST_ID) highestId = reader.uint64();
    else if (list !== undefined && (tag & 7) === LENGTH_DELIMITED) readPacked(reader, list);
    else if (list !== undefined && (tag & 7) === VARINT) readOne(reader, list);
    else reader.skip(tag);
  }
  reader.leave(outerEnd);
  const [voters, outgoing, learners, learnersNext] = lists;
  return {
    voters: voters!,
    outgoing: outgoing!,
    learners: learners!,
    learnersNext: learnersNext!,
    highestId: highestId as ReplicaId,
  };
}
