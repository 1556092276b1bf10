/** Both ends of the Operate stream, over each of its carriers. */
import { afterEach, describe, expect, it } from "vitest";
import { Cancellation } from "#gateway/storage/cancellation.ts";
import { failureOf } from "#proto/codec/failure.ts";
import type { Operation, ResultBody, ScanRow } from "#proto/codec/messages.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { ERRORS, KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT, type NodeId, Space } from "#shared/ids.ts";
import { COMMAND_SIZE_BYTES_MAX, VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import {
  CARRIERS,
  cleanUp,
  clientTo,
  codeOf,
  echo,
  FakeHandler,
  found,
  getOperation,
  keyRef,
  putInput,
  putOperation,
  ready,
  serve,
  stored,
  until,
  within,
} from "./stream-fixture.ts";

afterEach(cleanUp);

describe.each(CARRIERS)("StorageClient over %s", (_, serveOver) => {
  it("carries gets, puts and deletes and their results", async () => {
    const handler = new FakeHandler();
    handler.answer = echo;
    const served = await serveOver(handler);
    const client = served.client();
    await ready(client);
    expect(await client.get(keyRef("a"), within(5_000))).toMatchObject({
      revision: 7,
      value: utf8("a"),
      contentType: "text/plain",
    });
    const condition = { mustBeAbsent: true, mustExist: false, revisionIs: [], revisionIsNot: [4] };
    const input = { ...putInput(utf8("value")), ttlMs: 9, condition };
    expect(await client.put(keyRef("b"), input, within(5_000))).toEqual({
      kind: "stored",
      revision: 3,
      created: true,
    });
    expect(await client.delete(keyRef("c"), undefined, within(5_000))).toEqual({
      kind: "deleted",
      revision: 3,
    });
    const [, put] = handler.asked.map(({ operation }) => operation.body);
    if (put?.kind !== "write") throw new Error("a write was expected");
    expect(put.command.requestId.length).toBe(16);
    expect(put.command.mutations[0]).toEqual({
      tenant: DEFAULT_TENANT,
      space: Space.Kv,
      key: utf8("b"),
      condition,
      action: {
        ...{ kind: "put", value: utf8("value"), contentType: "text/plain", ttlMs: 9 },
        ...{ logicalSizeBytes: 0, encoding: 0 },
      },
    });
  });

  it("answers each of 20,000 operations once, with its own result", async () => {
    const handler = new FakeHandler();
    let later: (() => void)[] = [];
    const runLater = (): void => {
      const due = later.reverse();
      later = [];
      for (const run of due) run();
    };
    handler.operate = (operation, reply) => {
      // Some at once, some later, and those in another order.
      if (operation.callId % 3 === 0) reply(echo(operation));
      else if (later.push(() => reply(echo(operation))) === 1) setImmediate(runLater);
    };
    const served = await serveOver(handler);
    const client = served.client();
    await ready(client);
    let next = 0;
    const answers = new Uint8Array(20_000);
    const lane = async (): Promise<void> => {
      for (let i = next++; i < answers.length; i = next++) {
        const result = await client.get(keyRef(`key-${i}`), within(20_000));
        if (Buffer.from(result!.value).toString() === `key-${i}`) answers[i]!++;
      }
    };
    await Promise.all(Array.from({ length: 256 }, lane));
    expect(answers.every((count) => count === 1)).toBe(true);
  });

  it("carries values of the largest size both ways", async () => {
    const handler = new FakeHandler();
    const value = new SeededRandom(1).fill(new Uint8Array(VALUE_SIZE_BYTES_MAX));
    handler.answer = ({ body }) => (body.kind === "get" ? found(value) : stored);
    const served = await serveOver(handler);
    const client = served.client();
    await ready(client);
    const puts = Array.from({ length: 20 }, (_, i) =>
      client.put(keyRef(`${i}`), putInput(value), within(10_000)),
    );
    const gets = Array.from({ length: 20 }, (_, i) => client.get(keyRef(`${i}`), within(10_000)));
    await Promise.all(puts);
    for (const result of await Promise.all(gets)) expect(result?.value.length).toBe(value.length);
    const { body } = handler.asked[0]!.operation;
    const action = body.kind === "write" ? body.command.mutations[0]!.action : undefined;
    expect(action?.kind === "put" && Buffer.compare(action.value, value)).toBe(0);
  });

  it("carries batches, scans and counts", async () => {
    const handler = new FakeHandler();
    handler.answer = ({ body, vshard }) => {
      if (body.kind !== "scan") return echo({ body } as Operation);
      if (body.countOnly) return { kind: "scan", rows: [], count: vshard, next: EMPTY_BYTES };
      const row = { ...found(utf8("v")), key: Uint8Array.of(vshard + 1), valueOmitted: false };
      return { kind: "scan", rows: [row as unknown as ScanRow], count: 0, next: EMPTY_BYTES };
    };
    const served = await serveOver(handler);
    const client = served.client();
    await ready(client);
    const options = { ...within(5_000), admitValue: () => undefined };
    const put = { kind: "put", key: utf8("a"), ...putInput(utf8("v")) } as const;
    const outcomes = await client.batch(
      DEFAULT_TENANT,
      [put, { kind: "get", key: utf8("b") }],
      options,
    );
    expect(outcomes).toMatchObject([
      { kind: "stored", revision: 3 },
      { kind: "found", stored: { value: utf8("b") } },
    ]);
    const [write] = handler.asked.map(({ operation }) => operation.body);
    expect(write).toMatchObject({ command: { independent: true } });
    const range = { tenant: DEFAULT_TENANT, start: EMPTY_BYTES, end: EMPTY_BYTES };
    expect(await client.count(range, options)).toBe((255 * 256) / 2);
    const scan = client.scan({ ...range, reverse: false, keysOnly: false, isStream: false });
    const page = await scan.nextPage({ rowsMax: 1_000, bytesMax: 100_000 }, options);
    // Keys 1 to 255, and one of 256, which a byte cannot hold: it is 0.
    expect(page.rows.map(({ key }) => key[0])).toEqual(Array.from({ length: 256 }, (_, i) => i));
    expect(page).toMatchObject({ hasMore: false });
  });

  it("reports failures of the storage node with their code", async () => {
    const handler = new FakeHandler();
    handler.answer = () => failureOf("STORAGE_FULL", "no room", { notApplied: true });
    const served = await serveOver(handler);
    const client = served.client();
    await ready(client);
    const error = await client.put(keyRef("a"), putInput(), within(5_000)).catch((e) => e);
    expect(error).toBeInstanceOf(KvError);
    expect(error).toMatchObject({ code: "STORAGE_FULL", outcome: "not_applied" });
  });

  it("gives up at the deadline when the handler never answers", async () => {
    const handler = new FakeHandler();
    const served = await serveOver(handler);
    const client = served.client();
    await ready(client);
    const put = client.put(keyRef("a"), putInput(), within(60));
    await expect(put).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED", outcome: "unknown" });
    const get = client.get(keyRef("a"), within(60));
    await expect(get).rejects.toMatchObject({ code: "DEADLINE_EXCEEDED", outcome: undefined });
    // Late answers reach nobody, and the stream goes on.
    for (const { operation, reply } of handler.asked.splice(0)) reply(echo(operation));
    handler.answer = echo;
    expect(await client.get(keyRef("b"), within(5_000))).toMatchObject({ value: utf8("b") });
  });

  it("gives up when the caller's cancellation comes, and drops the late answer", async () => {
    const handler = new FakeHandler();
    const served = await serveOver(handler);
    const client = served.client();
    await ready(client);
    const cancellation = new Cancellation();
    const options = { ...within(5_000), cancellation };
    const put = client.put(keyRef("a"), putInput(), options);
    await until(() => handler.asked.length === 1);
    cancellation.cancel();
    await expect(put).rejects.toMatchObject({ code: "CANCELLED", outcome: "unknown" });
    handler.asked[0]!.reply(stored);
    handler.answer = echo;
    expect(await client.get(keyRef("b"), within(5_000))).toMatchObject({ value: utf8("b") });
  });

  it("says unknown when the server died in mid-flight and does not come back", async () => {
    const handler = new FakeHandler();
    const served = await serveOver(handler);
    const client = served.client();
    await ready(client);
    const put = client.put(keyRef("a"), putInput(), within(300));
    await until(() => handler.asked.length === 1);
    await served.cut();
    const failure = { code: "UNAVAILABLE", outcome: "unknown" };
    await expect(put).rejects.toMatchObject(failure);
    const later = client.put(keyRef("a"), putInput(), within(50));
    const notSent = { code: "UNAVAILABLE", outcome: "not_applied" };
    await expect(later).rejects.toMatchObject(notSent);
  });
});

describe("StorageClient over gRPC, whose streams come back", () => {
  it("sends a write again with its request id after the server died in mid-flight", async () => {
    const first = new FakeHandler();
    const rpc = await serve(first);
    const client = clientTo(rpc.address);
    await ready(client);
    const put = client.put(keyRef("a"), putInput(utf8("v")), within(10_000));
    await until(() => first.asked.length === 1);
    await rpc.close(0);
    const second = new FakeHandler();
    second.answer = echo;
    await serve(second, { listen: rpc.address });
    expect(await put).toMatchObject({ kind: "stored" });
    const commands = [...first.asked, ...second.asked].map(({ operation: { body } }) =>
      body.kind === "write" ? body.command : undefined,
    );
    expect(commands.length).toBe(2);
    expect(commands[1]).toEqual(commands[0]);
  });

  it("waits for a server that starts later", async () => {
    const rpc = await serve(new FakeHandler());
    await rpc.close(0);
    const client = clientTo(rpc.address);
    const get = client.get(keyRef("a"), within(10_000));
    const handler = new FakeHandler();
    handler.answer = echo;
    await serve(handler, { listen: rpc.address });
    expect(await get).toMatchObject({ value: utf8("a") });
  });
});

describe.each(CARRIERS)("StreamChannel over %s", (_, serveOver) => {
  it("refuses operations beyond the window of the node's hello", async () => {
    const handler = new FakeHandler();
    const served = await serveOver(handler, { windowOperations: 4 });
    const channel = served.channel();
    await ready(channel);
    const answers: ResultBody[] = [];
    for (let i = 0; i < 6; i++) channel.send(getOperation(), (body) => answers.push(body));
    expect(answers.map(codeOf)).toEqual([ERRORS.OVERLOADED.wire, ERRORS.OVERLOADED.wire]);
    expect(answers[0]).toMatchObject({ notApplied: true });
    await until(() => handler.asked.length === 4);
    for (const { operation, reply } of handler.asked) reply(echo(operation));
    await until(() => answers.length === 6);
    channel.send(getOperation("again"), (body) => answers.push(body));
    await until(() => handler.asked.length === 5);
  });

  it("refuses bytes beyond the window, but takes one operation of any size", async () => {
    const handler = new FakeHandler();
    const served = await serveOver(handler, { windowBytes: 1_000 });
    const channel = served.channel();
    await ready(channel);
    const answers: ResultBody[] = [];
    channel.send(putOperation(new Uint8Array(5_000)), (body) => answers.push(body));
    channel.send(putOperation(new Uint8Array(1)), (body) => answers.push(body));
    expect(answers.map(codeOf)).toEqual([ERRORS.OVERLOADED.wire]);
    await until(() => handler.asked.length === 1);
  });

  it("refuses an operation that would not fit a message, and keeps the stream", async () => {
    const handler = new FakeHandler();
    handler.answer = echo;
    const served = await serveOver(handler);
    const channel = served.channel();
    await ready(channel);
    const answers: ResultBody[] = [];
    const large = putOperation(new Uint8Array(COMMAND_SIZE_BYTES_MAX));
    channel.send(large, (body) => answers.push(body));
    expect(answers.map(codeOf)).toEqual([ERRORS.INVALID_ARGUMENT.wire]);
    channel.send(getOperation("key"), (body) => answers.push(body));
    await until(() => answers.length === 2);
    expect(answers[1]).toMatchObject({ kind: "get", value: utf8("key") });
  });

  it("withdraws an operation that was not written yet", async () => {
    const handler = new FakeHandler();
    const served = await serveOver(handler);
    const channel = served.channel();
    await ready(channel);
    const never = (): void => expect.unreachable();
    const [early, late, other] = [getOperation(), getOperation(), getOperation()];
    channel.send(early, never);
    expect(channel.cancel(early)).toBe(true);
    channel.send(late, never);
    await until(() => handler.asked.length === 1);
    expect(handler.asked[0]!.operation.callId).toBe(late.callId);
    expect(channel.cancel(late)).toBe(false);
    const answers: ResultBody[] = [];
    channel.send(other, (body) => answers.push(body));
    await until(() => handler.asked.length === 2);
    for (const { operation, reply } of handler.asked) reply(echo(operation));
    await until(() => answers.length === 1);
  });

  it.each([
    ["another cluster", { clusterId: "other" }, 'cluster "test"'],
    ["another node", { nodeId: 9 as NodeId }, "is storage node 9"],
  ])("does not become ready at %s, and says why", async (_, options, reason) => {
    const served = await serveOver(new FakeHandler(), options);
    const reasons: string[] = [];
    const channel = served.channel(() => reasons.push(channel.readiness().reason));
    await until(() => reasons.some((text) => text.includes(reason)));
    const answers: ResultBody[] = [];
    channel.send(getOperation(), (body) => answers.push(body));
    expect(answers).toMatchObject([{ code: ERRORS.UNAVAILABLE.wire, notApplied: true }]);
  });

  it("answers what is in flight when it is closed", async () => {
    const handler = new FakeHandler();
    const served = await serveOver(handler);
    const channel = served.channel();
    await ready(channel);
    const answers: ResultBody[] = [];
    channel.send(getOperation(), (body) => answers.push(body));
    await until(() => handler.asked.length === 1);
    await channel.close(10);
    expect(answers).toMatchObject([{ code: ERRORS.UNAVAILABLE.wire, notApplied: false }]);
  });
});
