/** Channels, maps and results for tests of the storage client. Used by tests only. */
import { failureOf } from "#proto/codec/failure.ts";
import type { Operation, ResultBody } from "#proto/codec/messages.ts";
import { utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import {
  type ClusterMap,
  type ClusterNode,
  fullyReplicatedMap,
  NodeState,
  type Placement,
  type ReplicaRole,
} from "#shared/cluster-map.ts";
import { type ErrorCode, KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT, type Revision, replicaIdOf, toNodeId } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { noTracing, type Tracing } from "#shared/tracing.ts";
import type { Channel, ChannelFigures, Readiness } from "./channel.ts";
import { StorageClient } from "./client.ts";

type Sent = { readonly operation: Operation; readonly reply: (body: ResultBody) => void };

/** A way to a node that does what the test says. */
export class FakeChannel implements Channel {
  /** All that was ever sent, oldest first. */
  readonly sent: Sent[] = [];
  readonly cancelled: number[] = [];
  /** What `cancel` says of operations in flight. */
  neverLeft = false;
  ready = true;
  closed = false;
  /** Answers at once, without the test's help, while set. */
  auto: ((operation: Operation) => ResultBody) | undefined;

  send(operation: Operation, reply: (body: ResultBody) => void): void {
    this.sent.push({ operation, reply });
    if (this.auto) reply(this.auto(operation));
  }

  cancel({ callId }: Operation): boolean {
    this.cancelled.push(callId);
    return this.neverLeft;
  }

  readiness(): Readiness {
    return { ready: this.ready, reason: this.ready ? "" : "down" };
  }

  figures(): ChannelFigures {
    return { isUp: this.ready, inFlight: 0, inFlightBytes: 0, windowBytes: 0 };
  }

  async close(): Promise<void> {
    this.closed = true;
    this.ready = false;
  }

  /** Answers the last operation. */
  answer(body: ResultBody): void {
    this.sent.at(-1)!.reply(body);
  }
}

export const testNode = (id: number, address = `node-${id}:1`): ClusterNode => ({
  id: toNodeId(id),
  address,
  zone: "",
  host: "",
  state: NodeState.Up,
  capacityBytes: 0,
});

export const key = { tenant: DEFAULT_TENANT, key: utf8("key") };
export const input = { value: utf8("value"), contentType: "", ttlMs: 0 };

export const stored: ResultBody = {
  kind: "write",
  applied: true,
  mutations: [{ status: 1, revision: 5 as Revision, created: true }],
};

export const absent: ResultBody = {
  kind: "get",
  found: false,
  revision: 0 as Revision,
  value: new Uint8Array(0),
  contentType: "",
  expiresAtMs: 0,
  modifiedAtMs: 0,
  valueSizeBytes: 0,
};

export const refused = (code: ErrorCode) => failureOf(code, "detail", { notApplied: true });
export const doubtful = (code: ErrorCode) => failureOf(code, "detail", { notApplied: false });
/** NOT_LEADER with a hint at the leader, 0 for none. */
export const notLeader = (leaderNodeId: number) =>
  failureOf("NOT_LEADER", "detail", { notApplied: true, leaderNodeId });

/** Of a call that must fail. */
export const errorOf = (promise: Promise<unknown>): Promise<KvError> =>
  promise.then(
    () => Promise.reject(new Error("a failure was expected")),
    (error: unknown) => (error instanceof KvError ? error : Promise.reject(error)),
  );

/** Longer than any back-off, shorter than the deadlines used in tests. */
export const BACKOFF_PASSED_MS = 300;

type MapOptions = {
  readonly version: number;
  readonly nodes?: readonly ClusterNode[];
  /** Of every vshard. */
  readonly replicas?: readonly (readonly [number, ReplicaRole])[];
  readonly preferred?: number;
};

/** By default three nodes, each with a voter of every vshard; node 1 is preferred as leader. */
export function mapOf(options: MapOptions): ClusterMap {
  const nodes = options.nodes ?? [testNode(1), testNode(2), testNode(3)];
  const replicas =
    options.replicas ?? nodes.map(({ id }): readonly [number, ReplicaRole] => [id, "voter"]);
  const placed = (placement: Placement): Placement => ({
    ...placement,
    replicas: replicas.map(([id, role]) => ({ replica: replicaIdOf(toNodeId(id), 0), role })),
    preferredLeader: toNodeId(options.preferred ?? 1),
  });
  const map = fullyReplicatedMap("test", nodes);
  return { ...map, version: options.version, placements: map.placements.map(placed) };
}

/** A client in front of fake channels, one for each node of each map. */
export function openTestClient(
  map: ClusterMap | "none" = mapOf({ version: 1 }),
  tracing: Tracing = noTracing,
) {
  const clock = new ManualClock();
  /** Every channel there has been, oldest first. */
  const opened: { readonly address: string; readonly channel: FakeChannel }[] = [];
  let unknownNodes = 0;
  const client = new StorageClient({
    connect: ({ address }) => {
      const channel = new FakeChannel();
      opened.push({ address, channel });
      return channel;
    },
    clock,
    random: new SeededRandom(1),
    tracing,
    onUnknownNode: () => unknownNodes++,
    whyNoMap: () => "nobody gave a map",
  });
  if (map !== "none") client.setMap(map);
  const to = (node: number, address = `node-${node}:1`): FakeChannel =>
    opened.findLast((one) => one.address === address)!.channel;
  return {
    clock,
    client,
    to,
    opened,
    unknownNodes: () => unknownNodes,
    put: (deadlineMs = 5_000) => client.put(key, input, { deadlineMs: clock.nowMs() + deadlineMs }),
    get: (maxStalenessMs = 0, deadlineMs = 5_000) =>
      client.get(key, { deadlineMs: clock.nowMs() + deadlineMs, maxStalenessMs }),
    counts: () => [1, 2, 3].map((node) => to(node).sent.length),
  };
}
