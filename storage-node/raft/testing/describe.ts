/** Words for what happens in a test cluster: one line each, for transcripts and failures. */
import { utf8Decode } from "#shared/bytes.ts";
import { decodeConfiguration } from "#storage-node/raft/configuration.ts";
import type { Configuration, Entry, Message, RaftStatus, Ready } from "#storage-node/raft/types.ts";
import { EntryKind } from "#storage-node/raft/types.ts";

export function describeEntry(entry: Entry): string {
  if (entry.kind === EntryKind.Configuration) {
    return `${entry.index}@${entry.term} ${describeConfiguration(decodeConfiguration(entry.data))}`;
  }
  const data = entry.data.length === 0 ? "" : ` ${JSON.stringify(utf8Decode(entry.data))}`;
  return `${entry.index}@${entry.term}${data}`;
}

/** `voters 1,2 outgoing 1,3 learners 4 next learners 3`, without what is empty; or `nobody`. */
export function describeConfiguration(configuration: Configuration): string {
  const { voters, outgoing, learners, learnersNext } = configuration;
  const parts = Object.entries({ voters, outgoing, learners, "next learners": learnersNext });
  const named = parts.filter(([, ids]) => ids.length > 0);
  if (named.length === 0) return "nobody";
  return named.map(([name, ids]) => `${name} ${ids.join(",")}`).join(" ");
}

/** `index@term` of each entry, runs of one term shortened to their ends. */
export function describeEntries(entries: readonly Entry[]): string {
  const parts: string[] = [];
  for (let i = 0; i < entries.length; i++) {
    const first = entries[i]!;
    while (entries[i + 1]?.term === first.term) i++;
    const last = entries[i]!;
    const range = first === last ? `${first.index}` : `${first.index}..${last.index}`;
    parts.push(`${range}@${first.term}`);
  }
  return `[${parts.join(" ")}]`;
}

export function describeMessage(message: Message): string {
  return `${message.from}->${message.to} ${message.kind} term ${message.term}${details(message)}`;
}

function details(message: Message): string {
  switch (message.kind) {
    case "preVote":
    case "vote":
      return (
        ` last ${message.lastIndex}@${message.lastTerm}${message.forced ? " forced" : ""}` +
        ` commit ${message.commit}@${message.commitTerm}`
      );
    case "preVoteReply":
    case "voteReply":
      return `${message.granted ? " granted" : " denied"} commit ${message.commit}@${message.commitTerm}`;
    case "append":
      return (
        ` after ${message.previousIndex}@${message.previousTerm}` +
        ` entries ${describeEntries(message.entries)} commit ${message.commit}`
      );
    case "appendReply":
      return message.rejected
        ? ` rejected ${message.index} hint ${message.hintIndex}@${message.hintTerm}`
        : ` accepted ${message.index}`;
    case "heartbeat":
    case "heartbeatReply":
      return ` commit ${message.commit} round ${message.readRound}`;
    case "readIndex":
    case "readIndexReply":
      return ` token ${message.token} index ${message.index}`;
    case "snapshot":
      return (
        ` ${message.snapshotIndex}@${message.snapshotTerm}` +
        ` ${describeConfiguration(message.configuration)}`
      );
    case "timeoutNow":
      return "";
    default:
      return message satisfies never;
  }
}

/** What a batch puts on disk. */
export function describeWrite(ready: Ready): string {
  const parts: string[] = [];
  const { reset } = ready;
  if (reset !== undefined) {
    const how = reset.install ? "installs and resets to" : "resets to";
    parts.push(`${how} ${reset.start.index}@${reset.start.term}`);
  }
  if (ready.truncateFrom !== undefined) parts.push(`cut from ${ready.truncateFrom}`);
  if (ready.entries.length > 0) parts.push(`entries ${describeEntries(ready.entries)}`);
  const { hardState } = ready;
  if (hardState !== undefined) {
    parts.push(`term ${hardState.term} vote ${hardState.vote} commit ${hardState.commit}`);
  }
  return parts.join(", ");
}

export function describeStatus(id: number, status: RaftStatus): readonly string[] {
  const { role, term, vote, leader, logStart, lastIndex, durableIndex, commit, applied } = status;
  return [
    `${id} ${role} term ${term} vote ${vote} leader ${leader}` +
      ` log ${logStart.index}..${lastIndex} durable ${durableIndex}` +
      ` commit ${commit} applied ${applied}`,
    ...status.peers.map(
      (peer) =>
        `    ${peer.id} ${peer.state} match ${peer.match} next ${peer.next}` +
        ` inflight ${peer.inflightMessages}${peer.recentlyActive ? "" : " silent"}` +
        (peer.pendingSnapshot > 0 ? ` snapshot ${peer.pendingSnapshot}` : ""),
    ),
  ];
}
