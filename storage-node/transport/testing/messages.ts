/** Arbitrary messages between two nodes, and their form for the generated code. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { anyBytes, anyUint32, anyUint64 } from "#proto/codec/testing.ts";
import type {
  HeartbeatsSchema,
  LinkFrameSchema,
  RaftMessageSchema,
} from "#proto/gen/minikv/v1/node_pb.ts";
import {
  type GroupId,
  type LogIndex,
  type NodeId,
  type ReplicaId,
  replicaIdOf,
  sequenceOfReplica,
  type Term,
} from "#shared/ids.ts";
import { TRACED_ENTRIES_PER_FRAME_MAX } from "#shared/limits.ts";
import { EntryKind, type Message } from "#storage-node/raft/types.ts";
import { type Heartbeat, isHeartbeat } from "#storage-node/transport/heartbeat-codec.ts";
import type { PlainMessage } from "#storage-node/transport/message-codec.ts";
import type { CarriedTrace } from "#storage-node/transport/transport.ts";

/** Who sends the messages, and who gets them. */
export const NODES = { from: 3 as NodeId, to: 7 as NodeId };

const index = () => anyUint64().map((value) => value as LogIndex);
const term = () => anyUint64().map((value) => value as Term);
const anyReplica = () => anyUint64().map((value) => value as ReplicaId);
const replicaOn = (node: NodeId) =>
  fc
    .oneof(fc.constant(0), fc.nat({ max: 9 }), anyUint32())
    .map((sequence) => replicaIdOf(node, sequence));

const envelope = {
  group: fc.nat({ max: 0xffff }).map((value) => value as GroupId),
  from: replicaOn(NODES.from),
  to: replicaOn(NODES.to),
  term: term(),
};

const anyHeartbeat = (): fc.Arbitrary<Heartbeat> =>
  fc.record({
    ...envelope,
    kind: fc.constantFrom("heartbeat", "heartbeatReply"),
    commit: index(),
    readRound: fc.oneof(fc.constantFrom(0, 5), anyUint64()),
  });

/** As a leader sends them: of founding replicas, under one read round. */
const alikeHeartbeats = (): fc.Arbitrary<Heartbeat[]> =>
  fc
    .record({ heartbeats: fc.array(anyHeartbeat(), { maxLength: 9 }), readRound: anyUint64() })
    .map(({ heartbeats, readRound }) =>
      heartbeats.map((heartbeat) => ({
        ...heartbeat,
        from: replicaIdOf(NODES.from, 0),
        to: replicaIdOf(NODES.to, 0),
        readRound,
      })),
    );

export type Append = Extract<Message, { readonly kind: "append" }>;

const anyAppend = (): fc.Arbitrary<Append> =>
  fc
    .record({
      ...envelope,
      kind: fc.constant("append"),
      previousIndex: fc.maxSafeNat().map((value) => Math.max(value - 10, 0) as LogIndex),
      previousTerm: term(),
      commit: index(),
      bodies: fc.array(
        fc.record({
          term: term(),
          kind: fc.constantFrom(EntryKind.Normal, EntryKind.Configuration),
          data: anyBytes(),
        }),
        { maxLength: 5 },
      ),
    })
    .map(({ bodies, ...append }) => ({
      ...append,
      entries: bodies.map((body, i) => ({
        index: (append.previousIndex + 1 + i) as LogIndex,
        ...body,
      })),
    }));

const anyConfiguration = () => {
  const ids = fc.array(anyReplica(), { maxLength: 4 });
  return fc.record({
    voters: ids,
    outgoing: ids,
    learners: ids,
    learnersNext: ids,
    highestId: anyReplica(),
  });
};

const anyPlainMessage = (): fc.Arbitrary<PlainMessage> =>
  fc.oneof(
    anyAppend(),
    fc.record({
      ...envelope,
      kind: fc.constantFrom("preVote", "vote"),
      lastIndex: index(),
      lastTerm: term(),
      commit: index(),
      commitTerm: term(),
      forced: fc.boolean(),
    }),
    fc.record({
      ...envelope,
      kind: fc.constantFrom("preVoteReply", "voteReply"),
      granted: fc.boolean(),
      commit: index(),
      commitTerm: term(),
    }),
    fc.record({
      ...envelope,
      kind: fc.constant("appendReply"),
      index: index(),
      rejected: fc.boolean(),
      hintIndex: index(),
      hintTerm: term(),
    }),
    fc.record({
      ...envelope,
      kind: fc.constantFrom("readIndex", "readIndexReply"),
      token: anyUint64(),
      index: index(),
    }),
    fc.record({
      ...envelope,
      kind: fc.constant("snapshot"),
      snapshotIndex: index(),
      snapshotTerm: term(),
      configuration: anyConfiguration(),
    }),
    fc.record({ ...envelope, kind: fc.constant("timeoutNow") }),
  );

export const anyMessages = (): fc.Arbitrary<Message[]> =>
  fc.oneof(
    fc.array(fc.oneof(anyHeartbeat(), anyPlainMessage()), { maxLength: 8 }),
    alikeHeartbeats(),
  );

type LinkFrameInit = MessageInitShape<typeof LinkFrameSchema>;

/** In the order in which a frame holds them. */
export function framed(messages: readonly Message[]): readonly Message[] {
  const rank = ({ kind }: Message) => ["heartbeat", "heartbeatReply"].indexOf(kind) >>> 0;
  return messages.toSorted((a, b) => rank(a) - rank(b));
}

export function forGenerated(messages: readonly Message[]): LinkFrameInit {
  const heartbeats = messages.filter(isHeartbeat);
  const requests = heartbeats.filter(({ kind }) => kind === "heartbeat");
  const replies = heartbeats.filter(({ kind }) => kind === "heartbeatReply");
  const others = messages.filter((message) => !isHeartbeat(message)) as PlainMessage[];
  return {
    ...(requests.length > 0 && { heartbeats: columnsOf(requests) }),
    ...(replies.length > 0 && { heartbeatReplies: columnsOf(replies) }),
    messages: others.map(messageForGenerated),
  };
}

function columnsOf(heartbeats: readonly Heartbeat[]): MessageInitShape<typeof HeartbeatsSchema> {
  const unlessZero = <T>(values: readonly T[]): T[] => (values.some(Boolean) ? [...values] : []);
  const rounds = heartbeats.map(({ readRound }) => BigInt(readRound));
  const shared = rounds.every((round) => round === rounds[0]);
  return {
    groups: heartbeats.map(({ group }) => group),
    terms: heartbeats.map((heartbeat) => BigInt(heartbeat.term)),
    commits: heartbeats.map(({ commit }) => BigInt(commit)),
    fromSequences: unlessZero(heartbeats.map(({ from }) => sequenceOfReplica(from))),
    toSequences: unlessZero(heartbeats.map(({ to }) => sequenceOfReplica(to))),
    readRounds: unlessZero(shared ? rounds.slice(0, 1) : rounds),
  };
}

function messageForGenerated(message: PlainMessage): MessageInitShape<typeof RaftMessageSchema> {
  return {
    group: message.group,
    from: BigInt(message.from),
    to: BigInt(message.to),
    term: BigInt(message.term),
    body: bodyForGenerated(message),
  };
}

type Body = NonNullable<
  Exclude<MessageInitShape<typeof RaftMessageSchema>, { $typeName: string }>["body"]
>;

function bodyForGenerated(message: PlainMessage): Body {
  switch (message.kind) {
    case "preVote":
    case "vote": {
      const value = {
        lastIndex: BigInt(message.lastIndex),
        lastTerm: BigInt(message.lastTerm),
        commit: BigInt(message.commit),
        commitTerm: BigInt(message.commitTerm),
        forced: message.forced,
      };
      return { case: message.kind, value };
    }
    case "preVoteReply":
    case "voteReply": {
      const { granted } = message;
      const known = { commit: BigInt(message.commit), commitTerm: BigInt(message.commitTerm) };
      return { case: message.kind, value: { granted, ...known } };
    }
    case "append": {
      const value = {
        previousIndex: BigInt(message.previousIndex),
        previousTerm: BigInt(message.previousTerm),
        commit: BigInt(message.commit),
        entries: message.entries.map((entry) => ({
          term: BigInt(entry.term),
          kind: entry.kind,
          data: entry.data,
        })),
      };
      return { case: "append", value };
    }
    case "appendReply": {
      const value = {
        index: BigInt(message.index),
        rejected: message.rejected,
        hintIndex: BigInt(message.hintIndex),
        hintTerm: BigInt(message.hintTerm),
      };
      return { case: "appendReply", value };
    }
    case "readIndex":
    case "readIndexReply":
      return {
        case: message.kind,
        value: { token: BigInt(message.token), index: BigInt(message.index) },
      };
    case "snapshot": {
      const { voters, outgoing, learners, learnersNext, highestId } = message.configuration;
      const configuration = {
        voters: voters.map(BigInt),
        outgoing: outgoing.map(BigInt),
        learners: learners.map(BigInt),
        learnersNext: learnersNext.map(BigInt),
        highestId: BigInt(highestId),
      };
      const index = BigInt(message.snapshotIndex);
      const value = { index, term: BigInt(message.snapshotTerm), configuration };
      return { case: "snapshot", value };
    }
    case "timeoutNow":
      return { case: "timeoutNow", value: {} };
  }
}

export const anyTraces = (): fc.Arbitrary<CarriedTrace[]> =>
  fc.array(
    fc.record({
      group: fc.nat({ max: 0xffff }).map((group) => group as GroupId),
      index: anyUint64().map((index) => index as LogIndex),
      term: anyUint64().map((term) => term as Term),
      context: fc.uint8Array({ minLength: 25, maxLength: 25 }),
    }),
    { maxLength: TRACED_ENTRIES_PER_FRAME_MAX },
  );
