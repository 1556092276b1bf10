import { describe, expect, it } from "vitest";
import { Cancellation } from "#gateway/storage/cancellation.ts";
import { utf8 } from "#shared/bytes.ts";
import { ChangeKind } from "#shared/change.ts";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT, type Revision, Space, type TenantId } from "#shared/ids.ts";
import {
  FEED_AUDIT_TICKS,
  FEED_LINGER_MS,
  FEED_LOOK_MS,
  WATCH_CLIENT_BYTES_MAX,
  WATCH_RECENT_EVENTS_IN_ONE_GO,
  WATCHES_PER_TENANT_MAX,
} from "#shared/limits.ts";
import { vshardOf } from "#shared/vshard.ts";
import { FakeClient, openTestHub, query } from "./testing.ts";

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "none",
    (error: unknown) => (error instanceof KvError ? error.code : String(error)),
  );

describe("Hub", () => {
  it("keeps no place for a client that goes while its watch is being opened", async () => {
    const { hub, log, clock, advance } = openTestHub();
    log.isFailing = true;
    const from = { since: undefined, isReconnect: false };
    const cancellation = new Cancellation();
    const client = new FakeClient();
    const untilMs = clock.nowMs() + 60_000;
    const opening = codeOf(hub.open(query(), from, client, untilMs, cancellation));
    await advance(100);
    expect(hub.figures().watchesWaiting).toBe(1);
    cancellation.cancel();
    expect(await opening).toBe("CANCELLED");
    expect(hub.figures().watchesWaiting).toBe(0);
    expect(await codeOf(hub.open(query(), from, client, untilMs, cancellation))).toBe("CANCELLED");
    // Nobody needs the vshards any more.
    await advance(FEED_LINGER_MS + 2 * FEED_LOOK_MS);
    expect(hub.figures().vshardsListened).toBe(0);
  });

  it("tells a watch first where it stands, then each change of its filter", async () => {
    const { hub, open, write, advance } = openTestHub();
    write({ key: "a/0" });
    const client = new FakeClient();
    await open(query({ prefix: "a/" }), client);
    write({ key: "a/1", value: "one" });
    write({ key: "b/1" });
    write({ key: "a/1", kind: ChangeKind.Delete });
    write({ key: "a/2", kind: ChangeKind.Expire });
    await advance(100);
    expect(client.names()).toEqual(["progress", "put a/1", "delete a/1", "expire a/2"]);
    expect(client.events().map(({ token }) => token !== undefined)).toEqual([
      true,
      false,
      false,
      true,
    ]);
    const eventsMatched = { put: 1, delete: 1, expire: 1 };
    expect(hub.figures()).toMatchObject({ watches: 1, groups: 1, eventsMatched });
  });

  it("gives watches with the same query the same bytes", async () => {
    const { open, write, advance } = openTestHub();
    const clients = [new FakeClient(), new FakeClient(), new FakeClient()];
    for (const client of clients) await open(query({ prefix: "a/" }), client);
    await advance(100);
    write({ key: "a/1" });
    await advance(100);
    const last = clients.map(({ chunks }) => chunks.at(-1));
    expect(last[0]).toBe(last[1]);
    expect(last[1]).toBe(last[2]);
  });

  it.each(["sse", "ws"] as const)("has the same events as %s", async (format) => {
    const { open, write, advance } = openTestHub();
    const client = new FakeClient(format);
    await open(query({ format, values: true }), client);
    const large = "x".repeat(70_000);
    write({ key: "small", value: "é" });
    write({ key: "large", value: large });
    write({ key: "medium", value: "y".repeat(300) });
    await advance(100);
    const values = client.events().map(({ data }) => data.value);
    expect(values).toEqual([undefined, "é", large, "y".repeat(300)]);
    expect(client.events().at(-1)!.token).toBeTypeOf("string");
  });

  it("keeps tenants, spaces, operations and keys apart", async () => {
    const { open, write, advance } = openTestHub();
    const mine = new FakeClient();
    const deletes = new FakeClient();
    const key = new FakeClient();
    await open(query(), mine);
    await open(query({ ops: ["delete"] }), deletes);
    await open(query({ filter: { kind: "key", key: utf8("a") } }), key);
    write({ key: "a", tenant: 2 as TenantId });
    write({ key: "a", space: Space.Meta });
    write({ key: "a" });
    write({ key: "ab" });
    write({ key: "a", kind: ChangeKind.Delete });
    await advance(100);
    expect(mine.names().slice(1)).toEqual(["put a", "put ab", "delete a"]);
    expect(deletes.names().slice(1)).toEqual(["delete a"]);
    expect(key.names().slice(1)).toEqual(["put a", "delete a"]);
  });

  it("goes on at another gateway from a token, without a gap or a repetition", async () => {
    const one = openTestHub();
    const { clock, history } = one;
    const two = openTestHub({ world: { clock, history } });
    const first = new FakeClient();
    const watch = await one.open(query({ prefix: "a/" }), first);
    for (let i = 0; i < 10; i++) one.write({ key: `a/${i}` });
    await one.advance(100);
    watch.close();
    for (let i = 10; i < 40; i++) history.write({ key: `a/${i}` });
    const second = new FakeClient();
    await two.open(query({ prefix: "a/" }), second, first.lastToken());
    await two.advance(500);
    two.write({ key: "a/40" });
    await two.advance(100);
    expect(second.names()[0]).toBe("progress");
    const keys = second.events().flatMap(({ data }) => (data.key ? [data.key] : []));
    expect(keys.length).toBe(31);
    expect(new Set(keys).size).toBe(31);
    expect(keys.at(-1)).toBe("a/40");
    expect(two.hub.figures()).toMatchObject({ watchesBehind: 0, resumed: 1 });
  });

  it("refuses a token of another filter, and one that is none", async () => {
    const { open, advance } = openTestHub();
    const client = new FakeClient();
    await open(query({ prefix: "a/" }), client);
    await advance(100);
    const token = client.lastToken();
    const other = open(query({ prefix: "b/" }), new FakeClient(), token);
    expect(await codeOf(other)).toBe("INVALID_ARGUMENT");
    const none = open(query({ prefix: "a/" }), new FakeClient(), "nonsense" as typeof token);
    expect(await codeOf(none)).toBe("INVALID_ARGUMENT");
  });

  it("refuses a position that is not in the log any more, and tells it a client that reconnects", async () => {
    const { open, write, advance, hub, history, clock } = openTestHub();
    const first = new FakeClient();
    const watch = await open(query({ filter: { kind: "key", key: utf8("a") } }), first);
    await advance(100);
    const token = first.lastToken();
    watch.close();
    let vshard = write({ key: "a" }).vshard;
    for (let i = 0; i < 5; i++) vshard = write({ key: "a" }).vshard;
    await hub.close();
    history.compact(vshard, 4);
    const next = openTestHub({ world: { clock, history } });
    const ask = query({ filter: { kind: "key", key: utf8("a") } });
    expect(await codeOf(next.open(ask, new FakeClient(), token, false))).toBe("COMPACTED");
    const client = new FakeClient();
    await next.open(ask, client, token, true);
    await next.advance(200);
    expect(client.names()).toEqual(["progress", "compacted", "put a", "put a"]);
    expect(client.events().at(-1)!.data.revision).toBe(6);
  });

  it("leaves a client that does not take its bytes to the log, and catches up with it", async () => {
    const { open, write, advance, hub } = openTestHub();
    const slow = new FakeClient();
    const quick = new FakeClient();
    const watch = await open(query({ values: true }), slow);
    await open(query({ values: true }), quick);
    await advance(50);
    slow.isFull = true;
    const value = "v".repeat(2_000);
    for (let i = 0; i < 1_200; i++) {
      write({ key: `k${i}`, value });
      if (i % 50 === 0) await advance(25);
    }
    await advance(100);
    expect(slow.names().at(-1)).toBe("resync");
    expect(slow.bytes).toBeLessThan(WATCH_CLIENT_BYTES_MAX * 1.5);
    expect(hub.figures()).toMatchObject({ watchesBehind: 1, resyncs: 1 });
    slow.isFull = false;
    watch.drained();
    await advance(2_000);
    expect(hub.figures()).toMatchObject({ watchesBehind: 0, waitingBytes: 0 });
    write({ key: "last", value });
    await advance(100);
    const puts = (client: FakeClient) => client.names().filter((name) => name.startsWith("put"));
    expect(puts(slow).length).toBe(1_201);
    expect(new Set(puts(slow)).size).toBe(1_201);
    expect(puts(quick).length).toBe(1_201);
  });

  it("holds back what follows an event that waits for its value, and reorders nothing", async () => {
    const { open, advance, live, history } = openTestHub();
    const client = new FakeClient();
    await open(query({ prefix: "{t}", values: true }), client);
    const { vshard } = history.write({ key: "{t}1", value: "one" });
    history.write({ key: "{t}2", value: "two" });
    history.write({ key: "{t}1", value: "three" });
    const { changes } = history.batch(vshard, 0, 3);
    // Only the second has its value with it.
    live.listener!.onBatch({
      ...history.batch(vshard, 0, 3),
      changes: changes.map((record, i) => (i === 1 ? record : { ...record, value: undefined })),
    });
    await advance(100);
    const seen = client.events().slice(1);
    expect(seen.map(({ data }) => [data.key, data.value])).toEqual([
      ["{t}1", undefined],
      ["{t}2", "two"],
      ["{t}1", "three"],
    ]);
  });

  it("tells of a change without its value when that cannot be opened", async () => {
    const { open, write, advance, hub } = openTestHub({
      open: () => {
        throw new RangeError("cut short");
      },
    });
    const client = new FakeClient();
    await open(query({ values: true }), client);
    write({ key: "a", value: "v" });
    await advance(100);
    expect(client.names()).toEqual(["progress", "put a"]);
    expect(client.events()[1]!.data.value).toBeUndefined();
    expect(hub.figures()).toMatchObject({ valuesMissed: 1 });
  });

  it("lets so many watches in, and tells the next one", async () => {
    const { open, hub } = openTestHub();
    const watched = query({ filter: { kind: "key", key: utf8("a") } });
    const first = await open(watched, new FakeClient());
    const from = { since: undefined, isReconnect: false };
    const opening: Promise<unknown>[] = [];
    for (let i = 1; i < WATCHES_PER_TENANT_MAX; i++) {
      opening.push(hub.open(watched, from, new FakeClient(), Number.MAX_SAFE_INTEGER));
    }
    await Promise.all(opening);
    expect(await codeOf(open(watched, new FakeClient()))).toBe("OVERLOADED");
    const other = query({ tenant: 2 as TenantId, filter: { kind: "key", key: utf8("a") } });
    expect(await codeOf(open(other, new FakeClient()))).toBe("none");
    first.close();
    first.close();
    expect(await codeOf(open(watched, new FakeClient()))).toBe("none");
    expect(await codeOf(open(watched, new FakeClient()))).toBe("OVERLOADED");
  });

  it("tells progress when only others' keys change, and nothing when nothing does", async () => {
    const { open, write, advance } = openTestHub();
    const client = new FakeClient();
    await open(query({ prefix: "a/" }), client);
    await advance(30_000, 500);
    expect(client.names()).toEqual(["progress"]);
    expect(client.heartbeats).toBe(2);
    write({ key: "b" });
    await advance(2_000, 500);
    expect(client.names()).toEqual(["progress", "progress"]);
    expect(client.events()[1]!.token).not.toBe(client.events()[0]!.token);
  });

  it("ends watches with where to go on, and lets nobody in any more", async () => {
    const { open, write, advance, hub } = openTestHub();
    const revoked = new FakeClient();
    const drained = new FakeClient();
    const watch = await open(query(), revoked);
    await open(query(), drained);
    await advance(50);
    write({ key: "a" });
    watch.finish({ kind: "revoke", reason: "the key was revoked" });
    write({ key: "b" });
    hub.drain();
    await advance(100);
    expect(revoked.names()).toEqual(["progress", "put a", "revoke"]);
    expect(revoked.events().at(-1)!.data).toEqual({ reason: "the key was revoked" });
    expect(revoked.hasEnded).toBe(false);
    expect(drained.names()).toEqual(["progress", "put a", "put b", "drain"]);
    expect(drained.hasEnded).toBe(true);
    expect(drained.events().at(-1)!.token).toBeTypeOf("string");
    expect(await codeOf(open(query(), new FakeClient()))).toBe("UNAVAILABLE");
  });

  it("lets go of who waits for a vshard without a leader: at the deadline, and when it closes", async () => {
    const { advance, log, hub, clock } = openTestHub();
    const { promise: never } = Promise.withResolvers<void>();
    const dead = vshardOf({ tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8("{dead}") });
    log.gate = (vshard) => (vshard === dead ? never : undefined);
    const from = { since: undefined, isReconnect: false };
    const ask = (prefix: string, timeoutMs: number): Promise<string> =>
      codeOf(hub.open(query({ prefix }), from, new FakeClient(), clock.nowMs() + timeoutMs));
    const asked = Array.from({ length: 20 }, (_, i) => ask(i % 2 === 0 ? "" : "{dead}", 1_000));
    const last = ask("", 60_000);
    await advance(100);
    expect(hub.figures().watchesWaiting).toBe(21);
    await advance(1_000);
    expect(new Set(await Promise.all(asked))).toEqual(new Set(["DEADLINE_EXCEEDED"]));
    expect(hub.figures().watchesWaiting).toBe(1);
    // What has nothing to do with it goes on.
    expect(await ask("{alive}", 1_000)).toBe("none");
    await hub.close();
    expect(await last).toBe("UNAVAILABLE");
  });

  it("finds out by itself when news say again and again that there are none", async () => {
    const { open, advance, history, live } = openTestHub();
    const client = new FakeClient();
    await open(query({ prefix: "{t}" }), client);
    const { vshard } = history.write({ key: "{t}1" });
    // As of old: repeated by whoever can publish what he has heard, or by a leader that is none any more.
    for (let passedMs = 0; passedMs < FEED_AUDIT_TICKS * FEED_LOOK_MS; passedMs += 1_000) {
      live.listener!.onHead(vshard, 0 as Revision);
      await advance(1_000, 250);
    }
    await advance(100);
    expect(client.names()).toEqual(["progress", "put {t}1"]);
  });

  it("tells of a change whose time is none that there is", async () => {
    const { open, advance, history, live } = openTestHub();
    const client = new FakeClient();
    await open(query({ prefix: "{t}" }), client);
    const { vshard, record } = history.write({ key: "{t}1" });
    const timeMs = Number.MAX_SAFE_INTEGER;
    live.listener!.onBatch({
      ...history.batch(vshard, 0, 1),
      changes: [{ ...record, timeMs }],
    });
    await advance(100);
    expect(client.names()).toEqual(["progress", "put {t}1"]);
  });

  it("looks at so many recent events in one go, and others have their turn", async () => {
    const { open, write, advance, hub, clock } = openTestHub();
    await open(query({ prefix: "{t}" }), new FakeClient());
    const early = new FakeClient();
    const first = await open(query({ prefix: "{t}none" }), early);
    await advance(100);
    first.close();
    const count = 5 * WATCH_RECENT_EVENTS_IN_ONE_GO;
    for (let i = 0; i < count; i++) write({ key: `{t}${i}` });
    await advance(1_000);
    const from = { since: early.lastToken(), isReconnect: true };
    const late = new FakeClient();
    await hub.open(query({ prefix: "{t}none" }), from, late, clock.nowMs() + 1_000);
    clock.advance(1);
    expect(hub.figures().watchesBehind).toBe(1);
    await advance(100, 1);
    expect(hub.figures().watchesBehind).toBe(0);
    write({ key: "{t}none" });
    await advance(100);
    expect(late.names()).toEqual(["progress", "put {t}none"]);
  });

  it("gives up vshards that nobody watches, and is told why one cannot be opened", async () => {
    const { open, advance, live, log, hub } = openTestHub();
    const watch = await open(query({ prefix: "{t}" }), new FakeClient());
    expect(live.listened.size).toBe(1);
    watch.close();
    watch.close();
    await advance(8_000, 500);
    expect(live.listened.size).toBe(0);
    log.isFailing = true;
    expect(await codeOf(open(query(), new FakeClient()))).toBe("UNAVAILABLE");
    expect(hub.figures()).toMatchObject({ watches: 0, groups: 0 });
    log.isFailing = false;
    const client = new FakeClient();
    await open(query(), client);
    await advance(100);
    expect(client.names()).toEqual(["progress"]);
  });
});
