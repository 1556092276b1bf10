/**
 * Scripted clusters: runs a transcript of commands and says what each one caused.
 *
 * In a transcript, lines that begin with `> ` are commands, `#` begins a comment, and the lines
 * behind a command are its output. After every command each live replica's Readys are carried out:
 * messages go into the queue of their link (`1->2`), writes into the queue of their disk. Nothing is
 * delivered and nothing becomes durable unless a command says so.
 *
 *     new 3 [spare=2] [messages=few] [pre-vote=off] [check-quorum=off] [inflight=2] [append-bytes=64] [uncommitted=200]
 *     preset 1 term=3 log=1,1,3 [vote=2] [commit=1]   a durable state to start from (log: terms)
 *     campaign 1 · tick 1 5 · tick all 5 · propose 1 hello [times] · read-index 1 7
 *     deliver 1->2 [count] · drop 1->2 [count] · duplicate 1->2 · cut 1 2 · isolate 1 · heal
 *     save 1->2 name · replay name       takes messages off a link; puts a copy of them back
 *     persist 1 [count]                  makes the oldest write (or `count`, or `all`) durable
 *     crash 1 · compact 1 4
 *     change 1 voter:4 learner:2 removed:3     proposes a change of membership
 *     transfer 1 2 · forget-leader 2 · unreachable 1 2
 *     snapshot 1 2                       offers one; the state travels with the message
 *     snapshot-report 1 2 received       (or failed)
 *     restart 1 [applied]                (the engine kept everything that was applied, or only so far)
 *     stabilize                          delivers and persists until nothing is left to do, and
 *                                        sends the snapshots that are due
 *     elect 1                            campaign and stabilize, without the details
 *     status [1] · log 1 · queues · membership 1
 */
import { assert } from "#shared/assert.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import type { LogIndex, ReplicaId, Term } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import {
  type Entry,
  EntryKind,
  type MemberChange,
  type Message,
  type Ready,
} from "#storage-node/raft/types.ts";
import {
  describeConfiguration,
  describeEntries,
  describeEntry,
  describeMessage,
  describeStatus,
  describeWrite,
} from "./describe.ts";
import { Member, type MemberHooks, type Tuning, votersUpTo } from "./member.ts";

const STABILIZE_ROUNDS_MAX = 1000;

/** Runs a transcript and returns it with the output that the commands really had. */
export function runScript(text: string): string {
  const cluster = new ScriptedCluster();
  const lines: string[] = [];
  let inOutput = false;
  for (const line of text.split("\n")) {
    if (line.startsWith("> ")) {
      lines.push(line, ...cluster.run(line.slice(2)));
      inOutput = true;
    } else if (line === "" || line.startsWith("#")) {
      lines.push(line);
      inOutput = false;
    } else {
      assert(inOutput, `neither command, comment nor output: ${line}`);
    }
  }
  return lines.join("\n");
}

type Arguments = {
  readonly words: readonly string[];
  readonly settings: ReadonlyMap<string, string>;
};

class ScriptedCluster {
  #members: Member[] = [];
  #links = new Map<string, Message[]>();
  #cut = new Set<string>();
  #saved = new Map<string, readonly Message[]>();
  #output: string[] = [];
  #due: { readonly from: Member; readonly to: ReplicaId }[] = [];
  #roles = new Map<ReplicaId, string>();

  run(line: string): readonly string[] {
    this.#output = [];
    const [name, ...rest] = line.trim().split(/\s+/);
    const words = rest.filter((word) => !word.includes("="));
    const settings = new Map(
      rest.filter((word) => word.includes("=")).map((word) => word.split("=") as [string, string]),
    );
    const command = this.#commands[name!];
    assert(command !== undefined, `no such command: ${name}`);
    command({ words, settings });
    this.#pumpAll();
    return this.#output.length > 0 ? this.#output : ["ok"];
  }

  readonly #commands: Readonly<Record<string, (given: Arguments) => void>> = {
    new: ({ words, settings }) => this.#create(Number(words[0]), settings),
    preset: ({ words, settings }) => this.#preset(this.#member(words[0]), settings),
    campaign: ({ words }) => this.#campaign(this.#member(words[0])),
    tick: ({ words }) => this.#tick(words[0]!, Number(words[1] ?? 1)),
    propose: ({ words }) => this.#propose(words),
    "read-index": ({ words }) => this.#readIndex(words),
    persist: ({ words }) => this.#persist(this.#member(words[0]), words[1] ?? "1"),
    crash: ({ words }) => this.#member(words[0]).crash(),
    restart: ({ words }) => this.#restart(this.#member(words[0]), words[1]),
    compact: ({ words }) => this.#member(words[0]).compact(Number(words[1]) as LogIndex),
    stabilize: () => this.#stabilize(),
    elect: ({ words }) => this.#elect(this.#member(words[0])),
    status: ({ words }) => this.#status(words[0]),
    log: ({ words }) => this.#log(this.#member(words[0])),
    deliver: ({ words }) => this.#deliver(words[0]!, words[1]),
    drop: ({ words }) => this.#drop(words[0]!, words[1]),
    duplicate: ({ words }) => this.#duplicate(words[0]!),
    cut: ({ words }) => this.#cutOff(words[0]!, words[1]!),
    isolate: ({ words }) => this.#isolate(words[0]!),
    heal: () => this.#cut.clear(),
    save: ({ words }) => this.#save(words[0]!, words[1]!),
    replay: ({ words }) => this.#replay(words[0]!),
    queues: () => this.#showQueues(),
    membership: ({ words }) => this.#membership(this.#member(words[0])),
    change: ({ words }) => this.#change(words),
    transfer: ({ words }) => this.#transfer(words),
    "forget-leader": ({ words }) => this.#forgetLeader(this.#member(words[0])),
    unreachable: ({ words }) =>
      this.#member(words[0]).raft.reportUnreachable(Number(words[1]) as ReplicaId),
    snapshot: ({ words }) => this.#snapshot(this.#member(words[0]), Number(words[1]) as ReplicaId),
    "snapshot-report": ({ words }) =>
      this.#member(words[0]).raft.reportSnapshot(
        Number(words[1]) as ReplicaId,
        words[2] === "failed" ? "failed" : "received",
      ),
  };

  #campaign(member: Member): void {
    if (!member.raft.campaign()) this.#say(`${member.id} may not stand`);
  }

  #membership({ raft }: Member): void {
    this.#say(describeConfiguration(raft.configuration));
  }

  #change(words: readonly string[]): void {
    const changes = words.slice(1).map((word): MemberChange => {
      const [to, replica] = word.split(":");
      return { to: to as MemberChange["to"], replica: Number(replica) as ReplicaId };
    });
    const result = this.#member(words[0]).raft.proposeConfiguration(changes);
    if (result.kind === "accepted") this.#say(`accepted ${result.index}@${result.term}`);
    else if (result.kind === "notLeader") this.#say(`not leader, ask ${result.leader}`);
    else if (result.kind === "refused") this.#say(`refused: ${result.reason}`);
    else this.#say(`transferring to ${result.to}`);
  }

  #transfer(words: readonly string[]): void {
    const result = this.#member(words[0]).raft.transferLeadership(Number(words[1]) as ReplicaId);
    if (result.kind === "started") this.#say("started");
    else if (result.kind === "notLeader") this.#say(`not leader, ask ${result.leader}`);
    else this.#say(`refused: ${result.reason}`);
  }

  #forgetLeader({ raft }: Member): void {
    if (!raft.forgetLeader()) this.#say("follows nobody");
  }

  #snapshot(member: Member, to: ReplicaId): void {
    this.#due = this.#due.filter((due) => due.from !== member || due.to !== to);
    const message = member.raft.offerSnapshot(to);
    if (message === undefined) this.#say("no snapshot is needed");
    else this.#enqueue(message);
    if (message !== undefined) this.#say(`send ${describeMessage(message)}`);
  }

  /** As an owner does: each snapshot is sent, and reported as received. */
  #sendDueSnapshots(): boolean {
    const due = this.#due;
    this.#due = [];
    for (const { from, to } of due) {
      if (!from.alive) continue;
      this.#snapshot(from, to);
      from.raft.reportSnapshot(to, "received");
    }
    return due.length > 0;
  }

  #drop(link: string, count: string | undefined): void {
    for (const message of this.#take(link, count)) this.#say(`lost ${describeMessage(message)}`);
  }

  #duplicate(link: string): void {
    const queue = this.#queue(link);
    queue.push(...queue);
  }

  #cutOff(a: string, b: string): void {
    this.#cut.add(`${a}->${b}`).add(`${b}->${a}`);
  }

  #isolate(word: string): void {
    for (const { id } of this.#members) this.#cutOff(String(id), word);
  }

  #save(link: string, name: string): void {
    this.#saved.set(name, this.#take(link, undefined));
  }

  #replay(name: string): void {
    const saved = this.#saved.get(name);
    assert(saved !== undefined, `nothing was saved as ${name}`);
    for (const message of saved) this.#enqueue(message);
  }

  #showQueues(): void {
    for (const queue of this.#links.values()) {
      for (const message of queue) this.#say(describeMessage(message));
    }
  }

  #say(line: string): void {
    this.#output.push(line);
  }

  #member(word: string | undefined): Member {
    const member = this.#members[Number(word) - 1];
    assert(member !== undefined, `no such replica: ${word}`);
    return member;
  }

  #hooks(): MemberHooks {
    return {
      send: (message) => this.#enqueue(message),
      onReady: (member, ready, batch) => this.#reportReady(member, ready, batch),
      onApply: (member, entry) => this.#say(`${member.id} applies ${describeEntry(entry)}`),
      onRead: (member, read) => this.#say(`${member.id} reads ${read.token} at ${read.index}`),
      onSnapshotDue: (from, to) => {
        this.#due.push({ from, to });
        this.#say(`${from.id} owes ${to} a snapshot`);
      },
      onDroppedRead: (member, token) => this.#say(`${member.id} drops read ${token}`),
    };
  }

  #create(count: number, settings: ReadonlyMap<string, string>): void {
    const number = (name: string, otherwise: number): number =>
      Number(settings.get(name) ?? otherwise);
    const tuning: Tuning = {
      saveMessages: settings.get("messages") === "few",
      preVote: settings.get("pre-vote") !== "off",
      checkQuorum: settings.get("check-quorum") !== "off",
      inflightMessagesMax: number("inflight", 16),
      inflightBytesMax: number("inflight-bytes", 1 << 20),
      appendBytesMax: number("append-bytes", 1 << 16),
      uncommittedBytesMax: number("uncommitted", 1 << 20),
    };
    const configuration = votersUpTo(count);
    const everyone = votersUpTo(count + number("spare", 0));
    this.#members = everyone.voters.map(
      (id) =>
        new Member({
          id,
          // A spare replica learns of its membership from the log.
          configuration: id <= count ? configuration : votersUpTo(0),
          random: new SeededRandom(id),
          tuning,
          hooks: this.#hooks(),
        }),
    );
    for (const member of this.#members) this.#roles.set(member.id, "follower term 0");
  }

  #preset(member: Member, settings: ReadonlyMap<string, string>): void {
    const terms = (settings.get("log") ?? "").split(",").filter((term) => term !== "");
    member.disk.entries = terms.map(
      (term, i): Entry => ({
        index: (i + 1) as LogIndex,
        term: Number(term) as Term,
        kind: EntryKind.Normal,
        data: EMPTY_BYTES,
      }),
    );
    member.disk.hardState = {
      term: Number(settings.get("term") ?? terms.at(-1) ?? 0) as Term,
      vote: Number(settings.get("vote") ?? 0) as ReplicaId,
      commit: Number(settings.get("commit") ?? 0) as LogIndex,
    };
    member.restart(0 as LogIndex);
    this.#noteRole(member, false);
  }

  #restart(member: Member, applied: string | undefined): void {
    member.restart(Number(applied ?? member.appliedIndex) as LogIndex);
    this.#noteRole(member, false);
    this.#status(String(member.id));
  }

  #tick(who: string, count: number): void {
    const members = who === "all" ? this.#members : [this.#member(who)];
    for (let i = 0; i < count; i++) {
      for (const member of members) if (member.alive) member.raft.tick();
      this.#pumpAll();
    }
  }

  #propose(words: readonly string[]): void {
    const { raft } = this.#member(words[0]);
    for (let i = 0; i < Number(words[2] ?? 1); i++) {
      const result = raft.propose(utf8(words[1]!));
      if (result.kind === "accepted") this.#say(`accepted ${result.index}@${result.term}`);
      else if (result.kind === "notLeader") this.#say(`not leader, ask ${result.leader}`);
      else if (result.kind === "transferring") this.#say(`transferring to ${result.to}`);
      else this.#say("full");
    }
  }

  #readIndex(words: readonly string[]): void {
    const result = this.#member(words[0]).raft.readIndex(Number(words[1]));
    if (result.kind !== "pending") this.#say(result.kind);
  }

  #persist(member: Member, count: string): void {
    const batches = count === "all" ? member.disk.pending.length : Number(count);
    for (let i = 0; i < batches; i++) {
      const batch = member.disk.pending[0];
      if (!member.persist()) return;
      this.#say(`${member.id} has batch ${batch!.number} on disk`);
      this.#pumpAll();
    }
  }

  #stabilize(): void {
    for (let i = 0; i < STABILIZE_ROUNDS_MAX; i++) {
      let busy = false;
      for (const member of this.#members) {
        if (!member.alive || member.disk.pending.length === 0) continue;
        this.#persist(member, "all");
        busy = true;
      }
      for (const [link, queue] of this.#links) {
        if (queue.length === 0) continue;
        this.#deliver(link, undefined);
        busy = true;
      }
      if (this.#sendDueSnapshots()) busy = true;
      if (!busy) return;
    }
    assert(false, "the cluster does not come to rest");
  }

  #elect(member: Member): void {
    member.raft.campaign();
    this.#pumpAll();
    this.#stabilize();
    this.#output = [];
    this.#status(undefined);
  }

  #status(word: string | undefined): void {
    const members = word === undefined ? this.#members : [this.#member(word)];
    for (const { id, raft, alive } of members) {
      if (alive) for (const line of describeStatus(id, raft.status())) this.#say(line);
      else this.#say(`${id} down`);
    }
  }

  #log(member: Member): void {
    const { entries, hardState } = member.disk;
    this.#say(
      `${member.id} disk term ${hardState.term} vote ${hardState.vote}` +
        ` commit ${hardState.commit} ${describeEntries(entries)}`,
    );
    for (const { number, ready } of member.disk.pending) {
      this.#say(`    then batch ${number}: ${describeWrite(ready)}`);
    }
  }

  #queue(link: string): Message[] {
    let queue = this.#links.get(link);
    if (queue === undefined) this.#links.set(link, (queue = []));
    return queue;
  }

  #enqueue(message: Message): void {
    this.#queue(`${message.from}->${message.to}`).push(message);
  }

  #take(link: string, count: string | undefined): readonly Message[] {
    const queue = this.#queue(link);
    return queue.splice(0, count === undefined ? queue.length : Number(count));
  }

  #deliver(link: string, count: string | undefined): void {
    const cut = this.#cut.has(link);
    for (const message of this.#take(link, count)) {
      const member = this.#member(String(message.to));
      const lost = cut || !member.alive;
      this.#say(`${lost ? "lost" : "got "} ${describeMessage(message)}`);
      if (lost) continue;
      member.raft.step(message);
      this.#pumpAll();
    }
  }

  #pumpAll(): void {
    for (const member of this.#members) {
      if (!member.alive) continue;
      this.#noteRole(member, true);
      member.pump();
    }
  }

  #noteRole(member: Member, aloud: boolean): void {
    const role = `${member.raft.role} term ${member.raft.term}`;
    if (this.#roles.get(member.id) === role) return;
    this.#roles.set(member.id, role);
    if (aloud) this.#say(`${member.id} is ${role}`);
  }

  #reportReady(member: Member, ready: Ready, batch: number): void {
    for (const message of ready.messagesNow) this.#say(`send ${describeMessage(message)}`);
    if (batch > 0) this.#say(`${member.id} writes batch ${batch}: ${describeWrite(ready)}`);
    const when = batch > 0 || member.disk.pending.length > 0 ? "then" : "send";
    for (const message of ready.messagesAfterAppend) {
      this.#say(`${when} ${describeMessage(message)}`);
    }
  }
}
