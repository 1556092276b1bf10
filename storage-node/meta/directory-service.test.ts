/** The directory as gateways meet it: streams of messages, and changes with their outcome. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { ReportRequestSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import {
  ChangeDirectoryRequestSchema,
  FollowDirectoryRequestSchema,
  type FollowDirectoryResponse,
  FollowDirectoryResponseSchema,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { fullyReplicatedMap } from "#shared/cluster-map.ts";
import { errorCodeFromWire } from "#shared/errors.ts";
import type { NodeId } from "#shared/ids.ts";
import {
  DIRECTORY_FOLLOWERS_MAX,
  DIRECTORY_HEARTBEAT_MS,
  DIRECTORY_HELLO_TIMEOUT_MS,
  DIRECTORY_MESSAGE_BYTES_SOFT_MAX,
  DIRECTORY_MUTATIONS_MAX,
  DIRECTORY_NAME_SIZE_BYTES_MAX,
  DIRECTORY_ROWS_MAX,
  DIRECTORY_STALL_MS_MAX,
  DIRECTORY_VALUE_SIZE_BYTES_MAX,
  TICK_MS,
} from "#shared/limits.ts";
import type { MessageStream, StreamListener, StreamStatus } from "#shared/message-stream.ts";
import { DirectoryService } from "./directory-service.ts";
import { MapHolder } from "./map-holder.ts";
import { FIRST_SHARES_AFTER_MS } from "./rate-shares.ts";
import { FakeDirectoryGroup, turn } from "./testing/fake-directory-group.ts";
import { makeNode } from "./testing/fixtures.ts";
import { UsageSums } from "./usage-sums.ts";

const CLUSTER = "c-1";

/** The gateway's end, too. */
class FakeStream implements MessageStream {
  readonly messages: FollowDirectoryResponse[] = [];
  ended: StreamStatus | "end" | undefined;
  isFull = false;
  #listener: StreamListener | undefined;

  listen(listener: StreamListener): void {
    this.#listener = listener;
  }
  write(bytes: Uint8Array): boolean {
    this.messages.push(fromBinary(FollowDirectoryResponseSchema, bytes));
    return !this.isFull;
  }
  end(): void {
    this.ended ??= "end";
  }
  abort(status: StreamStatus): void {
    this.ended ??= status;
  }

  say(request: MessageInitShape<typeof FollowDirectoryRequestSchema>): void {
    const message = create(FollowDirectoryRequestSchema, request);
    this.#listener!.onMessage(toBinary(FollowDirectoryRequestSchema, message));
  }
  sendBytes(bytes: Uint8Array): void {
    this.#listener!.onMessage(bytes);
  }
  drain(): void {
    this.isFull = false;
    this.#listener!.onDrain();
  }
  close(): void {
    this.#listener!.onClosed({ code: 1, details: "gone" });
  }

  /** As a gateway would have them. */
  rows(): Record<string, string> {
    const rows = new Map<string, string>();
    for (const message of this.messages) {
      for (const name of message.removed) rows.delete(name);
      for (const { name, value } of message.rows) rows.set(name, Buffer.from(value).toString());
    }
    return Object.fromEntries([...rows].sort());
  }
  get failure() {
    const failure = this.messages.at(-1)?.failure;
    return failure && { code: errorCodeFromWire(failure.code), leader: failure.leaderNodeId };
  }
}

function open(more: { readonly isWritable?: () => boolean; readonly isFounding?: boolean } = {}) {
  const clock = new ManualClock();
  const group = new FakeDirectoryGroup();
  const nodes = [makeNode(1), makeNode(2)];
  const map = { ...fullyReplicatedMap(CLUSTER, nodes), version: more.isFounding ? 0 : 1 };
  const fatal = (error: unknown): never => {
    throw error;
  };
  const usage = new UsageSums(() => group.term);
  const service = new DirectoryService({
    group,
    maps: new MapHolder(map, async () => {}, fatal),
    usage,
    clock,
    isWritable: more.isWritable ?? (() => true),
    onFatal: fatal,
  });
  const pass = async (forMs: number): Promise<void> => {
    for (let ms = 0; ms < forMs; ms += TICK_MS) {
      clock.advance(TICK_MS);
      service.tick();
      for (let i = 0; i < 4; i++) await turn();
    }
  };
  let gateways = 0;
  const follow = (id = ++gateways, clusterId = CLUSTER): FakeStream => {
    const stream = new FakeStream();
    service.follow(stream);
    stream.say({ clusterId, gatewayId: new Uint8Array(16).fill(id) });
    return stream;
  };
  const change = async (request: MessageInitShape<typeof ChangeDirectoryRequestSchema>) => {
    const answer = await service.changeDirectory(
      create(ChangeDirectoryRequestSchema, {
        clusterId: CLUSTER,
        requestId: new Uint8Array(16),
        deadlineMs: BigInt(clock.nowMs() + 1_000),
        ...request,
      }),
    );
    if (answer.failure === undefined) return answer.applied;
    const { code, notApplied, detail } = answer.failure;
    return { code: errorCodeFromWire(code), notApplied, detail };
  };
  const put = (name: string, value = "x") => change({ mutations: [{ name, value: utf8(value) }] });
  return { clock, group, service, usage, pass, follow, change, put };
}

describe("following the directory", () => {
  it("brings all rows in bounded parts, of which only the last one has a revision", async () => {
    const { group, follow, pass } = open();
    const value = utf8("v".repeat(DIRECTORY_VALUE_SIZE_BYTES_MAX));
    for (let i = 0; i < 40; i++) group.rows.set(`row/${i}`, { value, revision: 1 + (i % 5) });
    const stream = follow();
    await pass(TICK_MS);
    const parts = stream.messages;
    expect(Object.keys(stream.rows()).length).toBe(40);
    expect(parts.length).toBe(3);
    expect(parts.map(({ revision }) => revision)).toEqual([0n, 0n, 5n]);
    for (const { rows } of parts) {
      const sizeBytes = rows.reduce((sum, row) => sum + row.value.length, 0);
      expect(sizeBytes).toBeLessThan(DIRECTORY_MESSAGE_BYTES_SOFT_MAX + 2 * value.length);
    }
  });

  it("brings each change, and what was removed", async () => {
    const { follow, pass, put, change } = open();
    const stream = follow();
    await pass(TICK_MS);
    expect(await put("a", "1")).toBe(true);
    await turn();
    await put("b", "1");
    await pass(TICK_MS);
    expect(stream.rows()).toEqual({ a: "1", b: "1" });
    await change({ mutations: [{ name: "a" }, { name: "b", value: utf8("2") }] });
    await pass(TICK_MS);
    const last = stream.messages.at(-1)!;
    expect([last.removed, last.rows.map(({ name }) => name)]).toEqual([["a"], ["b"]]);
    expect(last.revision).toBe(9n);
  });

  it("has a heartbeat twice a second, whether or not rows change, with usage and shares", async () => {
    const { follow, pass, put, usage } = open();
    for (const nodeId of [1, 2]) {
      const led = [{ tenantId: 7, bytes: 10n, objects: 1n }];
      usage.take(create(ReportRequestSchema, { nodeId, usage: led, usageTo: 1n }));
    }
    const one = follow();
    const other = follow();
    await pass(FIRST_SHARES_AFTER_MS + DIRECTORY_HEARTBEAT_MS);
    expect(one.messages.filter(({ usageKnown }) => usageKnown).length).toBeGreaterThan(3);
    // Both nodes have fallen silent since.
    expect(one.messages.flatMap(({ usage }) => usage)).toMatchObject([
      { tenantId: 7, bytes: 20n, objects: 2n },
      { tenantId: 7, bytes: 0n, objects: 0n },
    ]);
    const before = one.messages.length;
    one.say({ demands: [{ tenantId: 7, requestsPerSecond: 9, bytesPerSecond: 0 }] });
    for (let i = 0; i < 30; i++) {
      await put("busy", `${i}`);
      await pass(TICK_MS);
    }
    const since = one.messages.slice(before);
    expect(since.filter(({ gateways }) => gateways === 2).length).toBeGreaterThan(4);
    const shareOf = (stream: FakeStream) =>
      stream.messages.flatMap(({ shares }) => shares).at(-1)!.requests;
    expect(shareOf(one)).toBeGreaterThan(0.6);
    expect(shareOf(one) + shareOf(other)).toBeLessThanOrEqual(1);
  });

  it("sends nothing to a stream that is full, and then the newest; cuts off one that stays so", async () => {
    const { follow, pass, put } = open();
    const stream = follow();
    await pass(TICK_MS);
    stream.isFull = true;
    await put("a", "0");
    await pass(TICK_MS);
    const count = stream.messages.length;
    for (let i = 1; i <= 20; i++) await put("a", `${i}`);
    await pass(2 * DIRECTORY_HEARTBEAT_MS);
    expect(stream.messages.length).toBe(count);
    stream.drain();
    expect(stream.messages.length).toBe(count + 1);
    expect(stream.rows()).toEqual({ a: "20" });
    stream.isFull = true;
    await put("a", "21");
    await pass(DIRECTORY_STALL_MS_MAX + 5 * TICK_MS);
    expect(stream.ended).toMatchObject({ details: "the gateway takes no messages" });
  });

  it("ends with NOT_LEADER and a hint, at another node and when the lead is lost", async () => {
    const { group, follow, pass } = open();
    group.leads = false;
    group.leader = 2 as NodeId;
    const early = follow();
    expect([early.failure, early.ended]).toEqual([{ code: "NOT_LEADER", leader: 2 }, "end"]);
    group.leads = true;
    const stream = follow();
    await pass(TICK_MS);
    expect([stream.failure, stream.ended]).toEqual([undefined, undefined]);
    group.leads = false;
    await pass(TICK_MS);
    expect([stream.failure, stream.ended]).toEqual([{ code: "NOT_LEADER", leader: 2 }, "end"]);
    group.leads = true;
    const next = follow();
    await pass(TICK_MS);
    group.term += 2;
    await pass(TICK_MS);
    expect(next.failure?.code).toBe("NOT_LEADER");
  });

  it("refuses another cluster, a stream without a hello, nonsense, and too many gateways", async () => {
    const { service, clock, follow, pass } = open();
    expect(follow(1, "c-2").failure?.code).toBe("CLUSTER_CONFLICT");
    const silent = new FakeStream();
    service.follow(silent);
    clock.advance(DIRECTORY_HELLO_TIMEOUT_MS);
    expect([silent.failure?.code, silent.ended]).toEqual(["INVALID_ARGUMENT", "end"]);
    const nonsense = new FakeStream();
    service.follow(nonsense);
    nonsense.sendBytes(new Uint8Array([255, 255]));
    expect(nonsense.failure?.code).toBe("INVALID_ARGUMENT");
    const short = new FakeStream();
    service.follow(short);
    short.say({ clusterId: CLUSTER, gatewayId: new Uint8Array(3) });
    expect(short.failure?.code).toBe("INVALID_ARGUMENT");
    for (let i = 0; i < DIRECTORY_FOLLOWERS_MAX; i++) service.follow(new FakeStream());
    const tooMany = new FakeStream();
    service.follow(tooMany);
    expect(tooMany.failure?.code).toBe("OVERLOADED");
    await pass(DIRECTORY_HELLO_TIMEOUT_MS);
    expect(follow().failure).toBeUndefined();
  });

  it("serves the newer of two streams of one gateway", async () => {
    const { follow, pass, service } = open();
    const first = follow(9);
    await pass(TICK_MS);
    const second = follow(9);
    await pass(TICK_MS);
    expect([first.ended, second.ended]).toEqual(["end", undefined]);
    service.stop();
    expect(second.ended).toBe("end");
  });
});

describe("changing the directory", () => {
  it("changes all rows or none", async () => {
    const { group, pass, change, put } = open();
    await pass(TICK_MS);
    await put("a");
    const { revision } = group.rows.get("a")!;
    const both = (expectedRevision: number) =>
      change({
        mutations: [
          { name: "b", value: utf8("1"), expectedRevision: 0n },
          { name: "a", expectedRevision: BigInt(expectedRevision) },
        ],
      });
    expect(await both(revision + 1)).toBe(false);
    expect([...group.rows.keys()]).toEqual(["a"]);
    expect(await both(revision)).toBe(true);
    expect([...group.rows.keys()]).toEqual(["b"]);
  });

  it("refuses what is malformed, and says that nothing was done", async () => {
    const { change, pass, clock, put } = open();
    await pass(TICK_MS);
    const mutations = [{ name: "a", value: utf8("x") }];
    const far = BigInt(clock.nowMs() + 3_600_000);
    for (const request of [
      { mutations: [] },
      { mutations: [...mutations, ...mutations] },
      { mutations, requestId: new Uint8Array(15) },
      { mutations, deadlineMs: far },
      { mutations, deadlineMs: 0n },
      { mutations, clusterId: "" },
      { mutations: [{ name: "" }] },
      { mutations: [{ name: "é" }] },
      { mutations: [{ name: "a\n" }] },
      { mutations: [{ name: "n".repeat(DIRECTORY_NAME_SIZE_BYTES_MAX + 1) }] },
      { mutations: [{ name: "a", value: new Uint8Array(DIRECTORY_VALUE_SIZE_BYTES_MAX + 1) }] },
      { mutations: [{ name: "a", expectedRevision: 2n ** 60n }] },
      {
        mutations: Array.from({ length: DIRECTORY_MUTATIONS_MAX + 1 }, (_, i) => ({
          name: `${i}`,
        })),
      },
    ]) {
      expect(await change(request)).toMatchObject({ code: "INVALID_ARGUMENT", notApplied: true });
    }
    expect(await change({ mutations, clusterId: "c-2" })).toMatchObject({
      code: "CLUSTER_CONFLICT",
      notApplied: true,
    });
    expect(await put("a", "v".repeat(DIRECTORY_VALUE_SIZE_BYTES_MAX))).toBe(true);
  });

  it("is refused by who does not lead, has not read its rows, or waits for the founding", async () => {
    const { group, put, pass } = open();
    expect(await put("a")).toMatchObject({ code: "UNAVAILABLE", notApplied: true });
    await pass(TICK_MS);
    expect(await put("a")).toBe(true);
    group.leads = false;
    expect(await put("a")).toMatchObject({ code: "NOT_LEADER", notApplied: true });
    const founding = open({ isFounding: true });
    await founding.pass(TICK_MS);
    expect(await founding.put("a")).toMatchObject({ code: "UNAVAILABLE", notApplied: true });
  });

  it("says when the outcome is not known", async () => {
    const { group, put, pass } = open();
    await pass(TICK_MS);
    group.appliesAtOnce = false;
    const asked = put("a");
    group.giveUp(0);
    expect(await asked).toMatchObject({ code: "DEADLINE_EXCEEDED", notApplied: false });
  });

  it("has a bound of rows and bytes, also for what is under way, and lets room be made", async () => {
    const { group, put, change, pass } = open();
    for (let i = 0; i < DIRECTORY_ROWS_MAX - 1; i++) {
      group.rows.set(`row/${i}`, { value: utf8("x"), revision: 1 });
    }
    await pass(TICK_MS);
    group.appliesAtOnce = false;
    const last = put("new/1");
    const full = { code: "CLUSTER_CONFLICT", notApplied: true };
    expect(await put("new/2")).toMatchObject(full);
    group.appliesAtOnce = true;
    group.apply();
    expect(await last).toBe(true);
    await pass(TICK_MS);
    expect(await put("new/2")).toMatchObject(full);
    expect(await put("row/1", "y")).toBe(true);
    expect(await change({ mutations: [{ name: "row/2" }] })).toBe(true);
    await pass(TICK_MS);
    expect(await put("new/2")).toBe(true);
  });

  it("adds nothing on a disk that is full, and removes", async () => {
    let isWritable = true;
    const { put, change, pass } = open({ isWritable: () => isWritable });
    await pass(TICK_MS);
    expect(await put("a")).toBe(true);
    await pass(TICK_MS);
    isWritable = false;
    expect(await put("b")).toMatchObject({ code: "STORAGE_FULL", notApplied: true });
    expect(await change({ mutations: [{ name: "a" }] })).toBe(true);
  });
});
