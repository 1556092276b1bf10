/** A gateway's directory over calls in a test's hands: streams that break, lag or lie, answers that are lost. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NoAnswer } from "#gateway/cluster/cluster-rpc.ts";
import {
  type ChangeDirectoryRequest,
  ChangeDirectoryResponseSchema,
  type FollowDirectoryRequest,
  FollowDirectoryResponseSchema,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import { utf8, utf8Decode } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { ERRORS } from "#shared/errors.ts";
import {
  DIRECTORY_HEARTBEAT_MS,
  DIRECTORY_SILENT_LOOKS_MAX,
  MAP_WATCH_BACKOFF_MS_MAX,
} from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { DirectoryFollower } from "./directory-follower.ts";
import type { DirectoryRpc, FollowListener } from "./directory-rpc.ts";
import { RowSet } from "./row-set.ts";

type Message = MessageInitShape<typeof FollowDirectoryResponseSchema>;
type ChangeAnswer = MessageInitShape<typeof ChangeDirectoryResponseSchema> | NoAnswer;

class FakeCall {
  readonly address: string;
  readonly #listener: FollowListener;
  readonly sent: FollowDirectoryRequest[] = [];
  isCancelled = false;

  constructor(address: string, listener: FollowListener) {
    this.address = address;
    this.#listener = listener;
  }
  say(message: Message): void {
    this.#listener.onMessage(create(FollowDirectoryResponseSchema, message));
  }
  /** A whole set of rows, each with its revision. */
  set(rows: Readonly<Record<string, number>>, revision: number): void {
    this.say({ rows: rowsOf(rows), revision: BigInt(revision) });
  }
  close(): void {
    this.#listener.onClosed("it broke");
  }
}

const rowsOf = (rows: Readonly<Record<string, number>>) =>
  Object.entries(rows).map(([name, revision]) => ({
    name,
    revision: BigInt(revision),
    value: utf8(`${name}@${revision}`),
  }));

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function open() {
  const clock = new ManualClock();
  const calls: FakeCall[] = [];
  const changes: ChangeDirectoryRequest[] = [];
  const answers: ((request: ChangeDirectoryRequest) => ChangeAnswer)[] = [];
  const troubles: string[] = [];
  const failures: string[] = [];
  const rpc: DirectoryRpc = {
    follow: (address, listener) => {
      const call = new FakeCall(address, listener);
      calls.push(call);
      return {
        send: (request) => void call.sent.push(request),
        cancel: () => {
          call.isCancelled = true;
        },
      };
    },
    change: async (_, request) => {
      changes.push(request);
      const answer = answers.shift()!(request);
      if (answer instanceof NoAnswer) throw answer;
      return create(ChangeDirectoryResponseSchema, answer);
    },
  };
  const directory = new DirectoryFollower({
    rpc,
    clusterId: () => "c-1",
    addresses: () => ["n1:1", "n2:1", "n3:1"],
    addressOf: (id) => (id === 0 ? undefined : `n${id}:1`),
    whyNone: () => "none",
    clock,
    random: new SeededRandom(1),
    onTrouble: (address, reason) => troubles.push(`${address} ${reason}`),
    onListenerFailed: (name, error) => failures.push(`${name} ${error}`),
  });
  directory.start();
  const heard: string[] = [];
  directory.subscribe("", (name, row) => heard.push(`${name} ${row?.revision}`));
  const soon = () => ({ deadlineMs: clock.nowMs() + 5_000 });
  return { clock, calls, changes, answers, troubles, failures, directory, heard, soon };
}

const textOf = (directory: DirectoryFollower): readonly string[] =>
  directory.list("").map(({ value }) => utf8Decode(value));

describe("DirectoryFollower", () => {
  it("knows its rows when all parts of the first set have come, and keeps them in order", () => {
    const { calls, directory, clock } = open();
    expect([directory.isKnown, directory.silenceMs()]).toEqual([false, Number.POSITIVE_INFINITY]);
    calls[0]!.say({ rows: rowsOf({ b: 2 }) });
    expect([directory.isKnown, textOf(directory)]).toEqual([false, []]);
    calls[0]!.say({ rows: rowsOf({ a: 3, "b/c": 1 }), revision: 3n });
    expect([directory.isKnown, textOf(directory)]).toEqual([true, ["a@3", "b@2", "b/c@1"]]);
    expect(directory.list("b").map(({ name }) => name)).toEqual(["b", "b/c"]);
    expect(directory.get("a")?.revision).toBe(3);
    clock.advance(70);
    expect(directory.silenceMs()).toBe(70);
  });

  it("shows the rows of one change together, and tells of each when all are there", () => {
    const { calls, directory } = open();
    calls[0]!.set({ a: 1, b: 1 }, 1);
    const seen: (readonly string[])[] = [];
    directory.subscribe("", () => seen.push(textOf(directory)));
    calls[0]!.say({ rows: rowsOf({ a: 2 }) });
    expect(textOf(directory)).toEqual(["a@1", "b@1"]);
    calls[0]!.say({ removed: ["b"], rows: rowsOf({ c: 3 }), revision: 3n });
    expect(seen).toEqual([
      ["a@2", "c@3"],
      ["a@2", "c@3"],
      ["a@2", "c@3"],
    ]);
  });

  it("tells subscribers of what a new stream shows to have changed or gone, and of nothing else", () => {
    const { calls, directory, heard, clock } = open();
    calls[0]!.set({ a: 1, b: 2, c: 3 }, 3);
    heard.length = 0;
    const narrow: string[] = [];
    const stop = directory.subscribe("c", (name) => narrow.push(name));
    calls[0]!.close();
    expect(textOf(directory)).toEqual(["a@1", "b@2", "c@3"]);
    clock.advance(MAP_WATCH_BACKOFF_MS_MAX);
    expect(calls.length).toBe(2);
    calls[1]!.say({ rows: rowsOf({ a: 1 }) });
    expect(heard).toEqual([]);
    calls[1]!.say({ rows: rowsOf({ c: 7, d: 8 }), revision: 8n });
    expect(heard.sort()).toEqual(["b undefined", "c 7", "d 8"]);
    expect(narrow).toEqual(["c"]);
    stop();
    calls[1]!.set({ c: 9 }, 9);
    expect(narrow).toEqual(["c"]);
  });

  it("goes where a node says that the leader is, at once, and else on to the next with a pause", () => {
    const { calls, clock, troubles } = open();
    const hint = { code: ERRORS.NOT_LEADER.wire, detail: "not here", leaderNodeId: 3 };
    const first = calls[0]!;
    const elsewhere = first.address === "n3:1" ? 2 : 3;
    first.say({ failure: { ...hint, leaderNodeId: elsewhere } });
    expect(calls[1]!.address).toBe(`n${elsewhere}:1`);
    expect(first.isCancelled).toBe(true);
    calls[1]!.say({ failure: { ...hint, leaderNodeId: 0 } });
    expect(calls.length).toBe(2);
    clock.advance(MAP_WATCH_BACKOFF_MS_MAX);
    expect(calls.length).toBe(3);
    expect(troubles.length).toBe(2);
    // Two nodes that name each other are not asked in a circle without a pause.
    for (let i = 2; i < 6 && i < calls.length; i++) {
      const other = calls[i]!.address === "n1:1" ? 2 : 1;
      calls[i]!.say({ failure: { ...hint, leaderNodeId: other } });
    }
    expect(calls.length).toBeLessThanOrEqual(6);
  });

  it("turns away from a leader that has fallen silent, by its own looks", () => {
    const { calls, clock, directory } = open();
    calls[0]!.set({ a: 1 }, 1);
    for (let i = 0; i < 20; i++) {
      clock.advance(DIRECTORY_HEARTBEAT_MS);
      calls[0]!.set({ a: 1 }, 1);
    }
    expect(calls.length).toBe(1);
    clock.advance((DIRECTORY_SILENT_LOOKS_MAX + 1) * DIRECTORY_HEARTBEAT_MS);
    expect(calls[0]!.isCancelled).toBe(true);
    clock.advance(MAP_WATCH_BACKOFF_MS_MAX);
    expect(calls.length).toBe(2);
    expect([directory.isKnown, textOf(directory)]).toEqual([true, ["a@1"]]);
  });

  it("takes no set that is older than what it has heard: its sender was deposed", () => {
    const { calls, clock, directory } = open();
    calls[0]!.set({ a: 5 }, 5);
    calls[0]!.close();
    clock.advance(MAP_WATCH_BACKOFF_MS_MAX);
    calls[1]!.set({ a: 4 }, 4);
    expect(calls[1]!.isCancelled).toBe(true);
    expect([textOf(directory), directory.revision]).toEqual([["a@5"], 5]);
  });

  it("begins anew after it has stood still: what it then finds to read may be long over", () => {
    const { calls, clock, directory } = open();
    calls[0]!.set({ a: 1 }, 1);
    const suspendedMs = 20 * 60_000;
    // As a machine that was suspended, whose monotonic clock does not count that.
    clock.jumpWall(suspendedMs);
    expect(directory.silenceMs()).toBe(suspendedMs);
    calls[0]!.set({ a: 1 }, 1);
    expect(calls[0]!.isCancelled).toBe(true);
    expect(directory.silenceMs()).toBe(suspendedMs);
    clock.advance(MAP_WATCH_BACKOFF_MS_MAX);
    calls[1]!.set({ a: 2 }, 2);
    expect([directory.silenceMs(), textOf(directory)]).toEqual([0, ["a@2"]]);
    clock.advance(DIRECTORY_HEARTBEAT_MS);
    expect(calls[1]!.isCancelled).toBe(false);
    // Nothing has come yet, and the look is the first to notice.
    clock.jumpWall(suspendedMs);
    clock.advance(DIRECTORY_HEARTBEAT_MS);
    expect(calls[1]!.isCancelled).toBe(true);
  });

  it("tells all others of a change when one cannot take it", async () => {
    const { calls, directory, heard, answers, failures, soon } = open();
    calls[0]!.set({}, 1);
    directory.subscribe("a", () => {
      throw new RangeError("the row does not decode");
    });
    directory.subscribe("", (name) => heard.push(`later ${name}`));
    answers.push(() => ({ applied: true, revision: 2n }));
    const asked = directory.change([{ name: "a", value: utf8("x") }], soon());
    await turn();
    calls[0]!.set({ a: 2 }, 2);
    expect(heard).toEqual(["a 2", "later a"]);
    expect(failures).toEqual(["a RangeError: the row does not decode"]);
    expect(await asked).toBe(true);
  });

  it("says whom it means and who it is, and then what is asked of it, twice a second", () => {
    const { calls, clock, directory } = open();
    expect(calls[0]!.sent).toMatchObject([{ clusterId: "c-1", demands: [] }]);
    expect(calls[0]!.sent[0]!.gatewayId.length).toBe(16);
    directory.demandSource(() => new Map([[7, { requestsPerSecond: 3, bytesPerSecond: 4 }]]));
    calls[0]!.set({}, 1);
    clock.advance(2 * DIRECTORY_HEARTBEAT_MS);
    const demands = [{ tenantId: 7, requestsPerSecond: 3, bytesPerSecond: 4 }];
    expect(calls[0]!.sent.slice(1)).toMatchObject([{ clusterId: "", demands }, { demands }]);
  });

  it("keeps usage and shares until a new leader knows them", () => {
    const { calls, clock, directory } = open();
    expect(directory.shareOf(7)).toEqual({ requests: 1, bytes: 1 });
    const usage = (bytes: number) => [
      { tenantId: 7, bytes: BigInt(bytes), objects: BigInt(Math.min(bytes, 1)) },
    ];
    const share = { tenantId: 7, requests: 0.75, bytes: 0.5 };
    calls[0]!.say({
      revision: 1n,
      usage: usage(10),
      usageKnown: true,
      shares: [share],
      gateways: 4,
    });
    const version = directory.usageVersion;
    expect(directory.usageOf(7)).toEqual({ bytes: 10, objects: 1 });
    expect(directory.shareOf(7)).toEqual({ requests: 0.75, bytes: 0.5 });
    expect(directory.shareOf(8)).toEqual({ requests: 0.25, bytes: 0.25 });
    calls[0]!.say({ revision: 1n, usageKnown: true, gateways: 4 });
    expect(directory.usageVersion).toBe(version + 1);
    calls[0]!.close();
    clock.advance(MAP_WATCH_BACKOFF_MS_MAX);
    calls[1]!.say({ revision: 1n, usage: usage(3) });
    expect(directory.usageOf(7)).toEqual({ bytes: 10, objects: 1 });
    expect(directory.shareOf(7)).toEqual({ requests: 0.75, bytes: 0.5 });
    calls[1]!.say({ revision: 1n, usage: usage(4), usageKnown: true, gateways: 2 });
    expect(directory.usageOf(7)).toEqual({ bytes: 4, objects: 1 });
    expect(directory.shareOf(7)).toEqual({ requests: 0.5, bytes: 0.5 });
    calls[1]!.say({
      revision: 1n,
      usage: usage(0),
      usageKnown: true,
      shares: [share],
      gateways: 2,
    });
    expect(directory.usageOf(7)).toEqual({ bytes: 0, objects: 0 });
    calls[1]!.say({ revision: 1n, shares: [{ tenantId: 7 }], gateways: 2 });
    expect(directory.shareOf(7)).toEqual({ requests: 0.5, bytes: 0.5 });
  });
});

describe("DirectoryFollower.change()", () => {
  it("resolves when the own rows have the change, and not before", async () => {
    const { calls, answers, changes, directory, soon } = open();
    calls[0]!.set({}, 4);
    answers.push(() => ({ applied: true, revision: 6n }));
    let result: boolean | undefined;
    const change = { name: "a", value: utf8("x"), expectedRevision: 0 };
    const asked = directory.change([change, { name: "b", value: undefined }], soon());
    void asked.then((applied) => {
      result = applied;
    });
    await turn();
    expect(changes[0]).toMatchObject({
      clusterId: "c-1",
      mutations: [{ name: "a", expectedRevision: 0n }, { name: "b" }],
    });
    expect(changes[0]!.mutations[1]!.value).toBeUndefined();
    calls[0]!.set({ a: 5 }, 5);
    await turn();
    expect(result).toBeUndefined();
    calls[0]!.set({ a: 6 }, 6);
    expect(await asked).toBe(true);
  });

  it("asks again under the same request id when an answer is lost", async () => {
    const { calls, answers, changes, directory, soon, clock } = open();
    calls[0]!.set({ a: 6 }, 6);
    const lost = new NoAnswer("lost", { mayHaveArrived: true });
    const elsewhere = { code: ERRORS.NOT_LEADER.wire, detail: "no", notApplied: false };
    answers.push(
      () => lost,
      () => ({ failure: elsewhere }),
      () => ({ applied: true, revision: 6n }),
    );
    const asked = directory.change([{ name: "a", value: utf8("x") }], soon());
    for (let i = 0; i < 10; i++) {
      await turn();
      clock.advance(200);
    }
    expect(await asked).toBe(true);
    expect(changes.length).toBe(3);
    const ids = new Set(changes.map(({ requestId }) => requestId.toHex()));
    expect([ids.size, changes[0]!.requestId.length]).toEqual([1, 16]);
  });

  it("answers false only with rows that show why", async () => {
    const { calls, answers, directory, soon } = open();
    calls[0]!.set({}, 4);
    answers.push(() => ({ applied: false, revision: 6n }));
    const asked = directory.change([{ name: "a", value: utf8("x"), expectedRevision: 0 }], soon());
    await turn();
    calls[0]!.set({ a: 6 }, 6);
    expect([await asked, directory.get("a")?.revision]).toEqual([false, 6]);
  });

  it("says what is not known: a lost answer, or a change that is not seen here in time", async () => {
    const { calls, answers, directory, soon, clock } = open();
    calls[0]!.set({}, 4);
    const lost = new NoAnswer("lost", { mayHaveArrived: true });
    const refused = { code: ERRORS.CLUSTER_CONFLICT.wire, detail: "full", notApplied: true };
    answers.push(() => ({ failure: refused }));
    await expect(directory.change([{ name: "a", value: utf8("x") }], soon())).rejects.toMatchObject(
      { code: "CLUSTER_CONFLICT", outcome: "not_applied" },
    );
    answers.push(
      () => lost,
      () => ({ failure: refused }),
    );
    const unclear = directory.change([{ name: "a", value: utf8("x") }], soon());
    unclear.catch(() => {});
    for (let i = 0; i < 5; i++) {
      await turn();
      clock.advance(200);
    }
    await expect(unclear).rejects.toMatchObject({ outcome: "unknown" });
    answers.push(() => ({ applied: true, revision: 9n }));
    const unseen = directory.change([{ name: "a", value: utf8("x") }], soon());
    unseen.catch(() => {});
    await turn();
    clock.advance(5_000);
    await expect(unseen).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED", outcome: "unknown" });
  });
});

describe("RowSet", () => {
  it("lists what begins with a prefix as a sorted model does", () => {
    const name = fc.stringMatching(/^[ab/]{1,4}$/);
    const step = fc.dictionary(name, fc.option(fc.nat(), { nil: undefined }), { maxKeys: 100 });
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 8 }),
        fc.stringMatching(/^[ab/]{0,2}$/),
        (steps, prefix) => {
          const rows = new RowSet();
          const model = new Map<string, number>();
          for (const one of steps) {
            const changes = Object.entries(one).map(([key, revision]) => {
              if (revision === undefined) model.delete(key);
              else model.set(key, revision);
              const row = { name: key, value: utf8(key), revision: revision ?? 0 };
              return [key, revision === undefined ? undefined : row] as const;
            });
            rows.apply(new Map(changes));
          }
          const names = [...model.keys()].sort();
          expect(rows.names()).toEqual(names);
          expect(rows.list(prefix).map((row) => row.name)).toEqual(
            names.filter((key) => key.startsWith(prefix)),
          );
        },
      ),
    );
  });
});
