import { describe, expect, it } from "vitest";
import { encodeChangeBatch, encodeChangeHeads } from "#proto/codec/change-batch.ts";
import type { ChangeBatch } from "#proto/codec/change-messages.ts";
import { busSubjects } from "#shared/bus-subjects.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { type Revision, Space, toTenantId, type VshardId } from "#shared/ids.ts";
import {
  BUS_CHANGES_PER_MESSAGE_MAX,
  BUS_MALFORMED_TOLD_INTERVAL_MS,
  BUS_MESSAGE_BYTES_MAX,
} from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { NatsBus } from "#shared/runtime/bus.ts";
import { FakeNats } from "#shared/runtime/testing/fake-nats.ts";
import { NatsLive } from "./nats-live.ts";

const CLUSTER = "minikv-1";
const { heads, changesOf } = busSubjects(CLUSTER);
const SEVEN = 7 as VshardId;
const NINE = 9 as VshardId;

const batchOf = (vshard: VshardId, previousRevision: number, count = 1): ChangeBatch => ({
  vshard,
  previousRevision: previousRevision as Revision,
  changes: Array.from({ length: count }, (_, at) => ({
    kind: 2,
    tenant: toTenantId(1),
    space: Space.Kv,
    key: utf8("k"),
    revision: (previousRevision + 1 + at) as Revision,
    previousRevision: 0 as Revision,
    valueSizeBytes: 0,
    expiresAtMs: 0,
    timeMs: 1,
    transactionId: EMPTY_BYTES,
    value: undefined,
    traceContext: EMPTY_BYTES,
  })),
});

const headsOf = (...pairs: readonly (readonly [VshardId, number])[]) =>
  encodeChangeHeads({
    nodeId: 1,
    heads: pairs.map(([vshard, revision]) => ({ vshard, revision: revision as Revision })),
  });

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function fixture(cluster: { id: string | undefined } = { id: CLUSTER }) {
  const nats = new FakeNats();
  const clock = new ManualClock();
  const bus = new NatsBus({
    ...{ servers: ["a:1"], dial: nats.dial, clock, random: new SeededRandom(1) },
    onState: () => {},
  });
  const malformed: string[] = [];
  const live = new NatsLive({
    bus,
    open: () => bus.start(),
    close: () => bus.close(1_000),
    clusterId: () => cluster.id,
    clock,
    onMalformed: (detail) => malformed.push(detail),
  });
  const heard: unknown[] = [];
  live.start({
    onBatch: (batch) => heard.push(batch),
    onHead: (vshard, revision) => heard.push([vshard, revision]),
  });
  await settle();
  return { nats, clock, live, heard, malformed };
}

describe("NatsLive", () => {
  it("subscribes once, whether the cluster was known already or only at the next look", async () => {
    const cluster: { id: string | undefined } = { id: undefined };
    const { nats, clock, live, heard } = await fixture(cluster);
    live.listen(SEVEN);
    cluster.id = CLUSTER;
    live.listen(NINE);
    clock.advance(1_000);
    expect(nats.subjects().toSorted()).toEqual(
      [heads, changesOf(SEVEN), changesOf(NINE)].toSorted(),
    );
    live.unlisten(NINE);
    live.unlisten(SEVEN);
    expect(nats.subjects()).toEqual([]);
    expect(heard).toEqual([]);
  });

  it("subscribes to what is listened to, and to heads as long as anything is", async () => {
    const { nats, live } = await fixture();
    expect(nats.subjects()).toEqual([]);
    live.listen(SEVEN);
    live.listen(SEVEN);
    live.listen(NINE);
    expect(new Set(nats.subjects())).toEqual(new Set([heads, changesOf(SEVEN), changesOf(NINE)]));
    live.unlisten(SEVEN);
    expect(new Set(nats.subjects())).toEqual(new Set([heads, changesOf(NINE)]));
    live.unlisten(NINE);
    expect(nats.subjects()).toEqual([]);
    live.listen(SEVEN);
    expect(new Set(nats.subjects())).toEqual(new Set([heads, changesOf(SEVEN)]));
  });

  it("passes batches and heads on, of listened vshards only", async () => {
    const { nats, live, heard } = await fixture();
    live.listen(SEVEN);
    nats.deliver(changesOf(SEVEN), encodeChangeBatch(batchOf(SEVEN, 4, 2)));
    nats.deliver(heads, headsOf([NINE, 3], [SEVEN, 6]));
    live.unlisten(SEVEN);
    nats.deliver(changesOf(SEVEN), encodeChangeBatch(batchOf(SEVEN, 6)));
    nats.deliver(heads, headsOf([SEVEN, 7]));
    expect(heard).toEqual([batchOf(SEVEN, 4, 2), [SEVEN, 6]]);
  });

  it("knows how long it has heard nothing of a vshard", async () => {
    const { nats, clock, live } = await fixture();
    expect(live.silenceMs(SEVEN)).toBe(Number.POSITIVE_INFINITY);
    live.listen(SEVEN);
    live.listen(NINE);
    expect(live.silenceMs(SEVEN)).toBe(Number.POSITIVE_INFINITY);
    nats.deliver(heads, headsOf([SEVEN, 1]));
    clock.advance(700);
    expect(live.silenceMs(SEVEN)).toBe(700);
    expect(live.silenceMs(NINE)).toBe(Number.POSITIVE_INFINITY);
    nats.deliver(changesOf(SEVEN), encodeChangeBatch(batchOf(SEVEN, 1)));
    expect(live.silenceMs(SEVEN)).toBe(0);
    live.unlisten(SEVEN);
    live.listen(SEVEN);
    expect(live.silenceMs(SEVEN)).toBe(Number.POSITIVE_INFINITY);
  });

  it("subscribes as soon as the cluster is known", async () => {
    const cluster: { id: string | undefined } = { id: undefined };
    const { nats, clock, live } = await fixture(cluster);
    live.listen(SEVEN);
    live.listen(NINE);
    live.unlisten(NINE);
    clock.advance(900);
    expect(nats.subjects()).toEqual([]);
    cluster.id = CLUSTER;
    clock.advance(200);
    expect(new Set(nats.subjects())).toEqual(new Set([heads, changesOf(SEVEN)]));
  });

  it("hears of its vshards again when the server was away", async () => {
    const { nats, clock, live, heard } = await fixture();
    live.listen(SEVEN);
    nats.break("gone");
    await settle();
    nats.deliver(heads, headsOf([SEVEN, 1]));
    clock.advance(5_000);
    await settle();
    nats.deliver(heads, headsOf([SEVEN, 2]));
    expect(heard.at(-1)).toEqual([SEVEN, 2]);
  });

  it("refuses what no node sends, counts it, tells it now and then, and goes on", async () => {
    const { nats, clock, live, heard, malformed } = await fixture();
    live.listen(SEVEN);
    const random = new SeededRandom(3);
    const hostile = [
      new Uint8Array(BUS_MESSAGE_BYTES_MAX + 1),
      utf8("no batch"),
      encodeChangeBatch(batchOf(NINE, 4)),
      encodeChangeBatch(batchOf(SEVEN, 4, BUS_CHANGES_PER_MESSAGE_MAX + 1)),
      encodeChangeBatch(batchOf(SEVEN, 4)).subarray(0, 9),
    ];
    for (const message of hostile) nats.deliver(changesOf(SEVEN), message);
    expect(live.figures().messagesMalformed).toBe(hostile.length);
    nats.deliver(heads, Uint8Array.of(0x12, 0x01, 0x07));
    expect(live.figures().messagesMalformed).toBe(hostile.length + 1);
    expect(malformed).toEqual(["it is larger than any that a node sends"]);
    clock.advance(BUS_MALFORMED_TOLD_INTERVAL_MS);
    nats.deliver(changesOf(SEVEN), utf8("no batch"));
    expect(malformed).toHaveLength(2);
    expect(heard).toEqual([]);
    expect(live.silenceMs(SEVEN)).toBe(Number.POSITIVE_INFINITY);
    for (let i = 0; i < 2_000; i++) {
      const bytes = random.fill(new Uint8Array(random.below(64)));
      nats.deliver(changesOf(SEVEN), bytes);
      nats.deliver(heads, bytes);
    }
    heard.length = 0;
    nats.deliver(changesOf(SEVEN), encodeChangeBatch(batchOf(SEVEN, 4)));
    expect(heard).toEqual([batchOf(SEVEN, 4)]);
  });

  it("close() ends everything, twice as well, and listens to nothing any more", async () => {
    const { nats, live, heard } = await fixture();
    live.listen(SEVEN);
    await live.close();
    await live.close();
    live.listen(NINE);
    nats.deliver(heads, headsOf([SEVEN, 1], [NINE, 1]));
    expect(nats.open).toBe(0);
    expect(nats.subjects()).toEqual([]);
    expect(heard).toEqual([]);
  });
});
