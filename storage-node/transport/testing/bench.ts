/**
 * What the transport carries between two processes on this machine. Not part of any test:
 *
 *     node storage-node/transport/testing/bench.ts [seconds]
 *
 * The first process sends a batch of messages in one turn, and the next one as soon as an answer to an
 * earlier one has come; `window` batches are under way. The second answers each message, as a follower
 * would.
 */
import { fork } from "node:child_process";
import { replicaIdOf } from "#shared/ids.ts";
import type { Message } from "#storage-node/raft/types.ts";
import { append, cleanUp, heartbeat, startNode, type TestNode, until } from "./nodes.ts";

const SECONDS_DEFAULT = 5;
const WARM_UP_SECONDS = 2;

type Scenario = {
  readonly name: string;
  readonly batch: (from: TestNode, to: { readonly id: TestNode["id"] }) => readonly Message[];
  readonly window: number;
};

const data = new Uint8Array(300).fill(7);
const groups = (count: number) => Array.from({ length: count }, (_, group) => group);

const heartbeats: Scenario["batch"] = (from, to) =>
  groups(256).map((group) => heartbeat({ from, to: to as TestNode }, group));
const appends: Scenario["batch"] = (from, to) =>
  groups(64).map((group) => append({ from, to: to as TestNode }, data, group));
const oneAppend: Scenario["batch"] = (from, to) => [
  append({ from, to: to as TestNode }, data, 1, 64),
];
const small: Scenario["batch"] = (from, to) => [append({ from, to: to as TestNode }, data)];

const SCENARIOS: readonly Scenario[] = [
  { name: "heartbeats of 256 groups", batch: heartbeats, window: 1 },
  { name: "heartbeats of 256 groups", batch: heartbeats, window: 8 },
  { name: "appends of 64 groups, 300 B each", batch: appends, window: 1 },
  { name: "appends of 64 groups, 300 B each", batch: appends, window: 8 },
  { name: "one append of 64 x 300 B", batch: oneAppend, window: 1 },
  { name: "one append of 64 x 300 B", batch: oneAppend, window: 8 },
  { name: "one append of 300 B", batch: small, window: 1 },
];

function answerTo(message: Message): Message {
  const { group, from, to, term } = message;
  const envelope = { group, from: to, to: from, term };
  if (message.kind === "heartbeat") {
    const { commit, readRound } = message;
    return { kind: "heartbeatReply", ...envelope, commit, readRound };
  }
  if (message.kind !== "append") throw new Error(`unexpected ${message.kind}`);
  const index = message.entries.at(-1)!.index;
  const hint = { hintIndex: index, hintTerm: term };
  return { kind: "appendReply", ...envelope, index, rejected: false, ...hint };
}

async function runFollower(): Promise<void> {
  const node = await startNode(2);
  node.onMessage = (message) => node.transport.send([answerTo(message)]);
  process.send!(node.address);
  process.once("disconnect", () => process.exit(0));
}

/** Batches per second, CPU of this process, frames. */
async function run(leader: TestNode, scenario: Scenario, seconds: number): Promise<void> {
  const messages = scenario.batch(leader, { id: 2 as TestNode["id"] });
  let answers = 0;
  let batches = 0;
  let sending = true;
  leader.onMessage = () => {
    answers++;
    if (answers % messages.length !== 0) return;
    batches++;
    if (sending) leader.transport.send(messages);
  };
  for (let i = 0; i < scenario.window; i++) leader.transport.send(messages);
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  await pause(WARM_UP_SECONDS * 1000);
  const statistics = leader.transport.statistics().get(2 as TestNode["id"])!;
  const before = { batches, ...statistics, cpu: process.cpuUsage(), ms: performance.now() };
  await pause(seconds * 1000);
  const elapsedS = (performance.now() - before.ms) / 1000;
  const done = batches - before.batches;
  const { user, system } = process.cpuUsage(before.cpu);
  const rate = (value: number) => Math.round(value / elapsedS).toLocaleString("en");
  const line = [
    `${scenario.name}, ${scenario.window} under way:`,
    `${rate(done)} batches/s,`,
    `${rate(done * messages.length)} messages/s and as many answers,`,
    `${rate(statistics.framesSent - before.framesSent)} frames/s,`,
    `${((statistics.bytesSent - before.bytesSent) / elapsedS / 2 ** 20).toFixed(1)} MiB/s,`,
    `${((user + system) / done).toFixed(0)} us of CPU per batch in the sender`,
  ];
  process.stdout.write(`${line.join(" ")}\n`);
  sending = false;
  await until(() => answers === (batches + 0) * messages.length);
  await pause(100);
}

async function runLeader(seconds: number): Promise<void> {
  const follower = fork(process.argv[1]!, ["follower"]);
  const address = await new Promise<string>((resolve) => {
    follower.once("message", (message) => resolve(String(message)));
  });
  const leader = await startNode(1);
  const id = Number(replicaIdOf(2 as TestNode["id"], 0)) as TestNode["id"];
  leader.transport.setPeers(new Map([[id, address]]));
  await until(() => leader.events.at(-1)?.kind === "connected");
  for (const scenario of SCENARIOS) await run(leader, scenario, seconds);
  await cleanUp();
  follower.disconnect();
}

if (process.argv[2] === "follower") await runFollower();
else await runLeader(Number(process.argv[2] ?? SECONDS_DEFAULT));
