import { describe, expect, it } from "vitest";
import { decodeChangeBatch, decodeChangeHeads } from "#proto/codec/change-batch.ts";
import type { ChangeBatch, ChangeRecord } from "#proto/codec/change-messages.ts";
import { busSubjects } from "#shared/bus-subjects.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { ManualClock } from "#shared/clock.ts";
import { type Revision, Space, toNodeId, toTenantId, type VshardId } from "#shared/ids.ts";
import {
  BUS_CHANGES_PER_MESSAGE_MAX,
  BUS_CHANGES_PER_TURN_MAX,
  BUS_HEADS_INTERVAL_MS,
} from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { NatsBus } from "#shared/runtime/bus.ts";
import { FakeNats } from "#shared/runtime/testing/fake-nats.ts";
import { MemoryTracing } from "#shared/testing/memory-tracing.ts";
import type { Tracing } from "#shared/tracing.ts";
import { type ChangeSink, Publisher } from "./publisher.ts";

const CLUSTER = "minikv-1";
const subjects = busSubjects(CLUSTER);

function record(revision: number, valueBytes = 0): ChangeRecord {
  return {
    kind: 1,
    tenant: toTenantId(1),
    space: Space.Kv,
    key: utf8(`key-${revision}`),
    revision: revision as Revision,
    previousRevision: 0 as Revision,
    valueSizeBytes: valueBytes,
    expiresAtMs: 0,
    timeMs: 1_700_000_000_000,
    transactionId: EMPTY_BYTES,
    value:
      valueBytes === 0
        ? undefined
        : { value: new Uint8Array(valueBytes), encoding: 0, contentType: "text/plain" },
    traceContext: EMPTY_BYTES,
  };
}

const batchOf = (vshard: number, from: number, count: number, valueBytes = 0): ChangeBatch => ({
  vshard: vshard as VshardId,
  previousRevision: (from - 1) as Revision,
  changes: Array.from({ length: count }, (_, at) => record(from + at, valueBytes)),
});

async function fixture(
  options: { payloadBytesMax?: number; connect?: boolean; tracing?: Tracing } = {},
) {
  const nats = new FakeNats();
  nats.payloadBytesMax = options.payloadBytesMax ?? nats.payloadBytesMax;
  const clock = new ManualClock();
  const bus = new NatsBus({
    ...{ servers: ["a:1"], dial: nats.dial, clock, random: new SeededRandom(1) },
    onState: () => {},
  });
  if (options.connect !== false) bus.start();
  await new Promise((resolve) => setImmediate(resolve));
  let sink: ChangeSink | undefined;
  const heads: { vshard: VshardId; revision: Revision }[] = [];
  const turn: (() => void)[] = [];
  const publisher = new Publisher({
    bus,
    tail: {
      subscribe: (given) => {
        sink = given;
        return () => {
          sink = undefined;
        };
      },
      heads: () => heads,
    },
    ...{ nodeId: toNodeId(3), clusterId: CLUSTER, clock },
    ...(options.tracing && { tracing: options.tracing }),
    atEndOfTurn: (work) => turn.push(work),
  });
  publisher.start();
  const endTurn = (): void => {
    for (const work of turn.splice(0)) work();
  };
  const batches = () =>
    nats.published
      .filter(({ subject }) => subject !== subjects.heads)
      .map(({ subject, payload }) => ({ subject, batch: decodeChangeBatch(payload) }));
  const fresh = (batch: ChangeBatch): void => sink?.onFresh(batch);
  return {
    nats,
    clock,
    bus,
    publisher,
    heads,
    fresh,
    endTurn,
    turn,
    batches,
    isOn: () => sink !== undefined,
  };
}

describe("Publisher", () => {
  it("records what it sends of writes that are traced", async () => {
    const tracing = new MemoryTracing();
    const { fresh, endTurn } = await fixture({ tracing });
    const traceContext = Uint8Array.fromHex(`${"ab".repeat(16)}${"cd".repeat(8)}01`);
    const [plain] = batchOf(7, 1, 1).changes;
    const traced = { ...record(2), traceContext };
    fresh({ ...batchOf(7, 1, 0), changes: [plain!, traced] });
    endTurn();
    expect(tracing.spans).toMatchObject([
      { name: "publish", kind: "producer", parent: traceContext, error: undefined },
    ]);
    expect(tracing.spans[0]!.attributes).toMatchObject({
      "minikv.vshard": 7,
      "messaging.batch.message_count": 2,
    });
  });

  it("sends one message for each vshard and turn, on the vshard's subject", async () => {
    const { fresh, endTurn, batches, nats, publisher } = await fixture();
    fresh(batchOf(7, 1, 2));
    fresh(batchOf(9, 5, 1));
    fresh(batchOf(7, 3, 2, 10));
    expect(nats.published).toEqual([]);
    endTurn();
    expect(batches()).toEqual([
      {
        subject: subjects.changesOf(7 as VshardId),
        batch: {
          ...batchOf(7, 1, 4),
          changes: [record(1), record(2), record(3, 10), record(4, 10)],
        },
      },
      { subject: subjects.changesOf(9 as VshardId), batch: batchOf(9, 5, 1) },
    ]);
    fresh(batchOf(7, 5, 1));
    endTurn();
    expect(batches()).toHaveLength(3);
    expect(publisher.figures()).toEqual({ changesPublished: 6, changesDropped: 0 });
  });

  it("never puts changes into one batch that do not follow each other", async () => {
    const { fresh, endTurn, batches } = await fixture();
    fresh(batchOf(7, 1, 2));
    fresh(batchOf(7, 9, 1));
    fresh(batchOf(7, 10, 1));
    endTurn();
    expect(batches().map(({ batch }) => batch)).toEqual([batchOf(7, 1, 2), batchOf(7, 9, 2)]);
  });

  it("splits what one message cannot hold, in order", async () => {
    const { fresh, endTurn, batches, nats } = await fixture({ payloadBytesMax: 10_000 });
    fresh(batchOf(7, 1, 20, 1_000));
    endTurn();
    expect(batches().length).toBeGreaterThan(2);
    expect(nats.published.every(({ payload }) => payload.length <= 10_000)).toBe(true);
    let position = 0;
    for (const { batch } of batches()) {
      expect(batch.previousRevision).toBe(position);
      position += batch.changes.length;
    }
    expect(position).toBe(20);
  });

  it("drops what does not fit into any message, and the rest of that turn with it", async () => {
    const { fresh, endTurn, batches, publisher } = await fixture({ payloadBytesMax: 2_000 });
    fresh(batchOf(7, 1, 1));
    fresh({ ...batchOf(7, 2, 3), changes: [record(2, 4_000), record(3), record(4)] });
    endTurn();
    expect(batches().map(({ batch }) => batch)).toEqual([batchOf(7, 1, 1)]);
    expect(publisher.figures()).toEqual({ changesPublished: 1, changesDropped: 3 });
  });

  it("bounds the changes of a message, and of a turn", async () => {
    const { fresh, endTurn, batches, publisher } = await fixture();
    fresh(batchOf(7, 1, BUS_CHANGES_PER_MESSAGE_MAX + 1));
    endTurn();
    expect(batches().map(({ batch }) => batch.changes.length)).toEqual([
      BUS_CHANGES_PER_MESSAGE_MAX,
      1,
    ]);
    fresh(batchOf(8, 1, BUS_CHANGES_PER_TURN_MAX));
    fresh(batchOf(9, 1, 1));
    expect(publisher.figures().changesDropped).toBe(1);
    endTurn();
    fresh(batchOf(9, 2, 1));
    endTurn();
    expect(publisher.figures()).toEqual({
      changesPublished: BUS_CHANGES_PER_MESSAGE_MAX + 1 + BUS_CHANGES_PER_TURN_MAX + 1,
      changesDropped: 1,
    });
  });

  it("keeps and encodes nothing while there is no bus", async () => {
    const { fresh, turn, publisher } = await fixture({ connect: false });
    for (let i = 0; i < 10; i++) fresh(batchOf(7, i + 1, 1));
    expect(turn).toEqual([]);
    expect(publisher.figures()).toEqual({ changesPublished: 0, changesDropped: 10 });
  });

  it("drops what the bus lost meanwhile, and goes on when it is back", async () => {
    const { fresh, endTurn, batches, nats, clock, publisher } = await fixture();
    fresh(batchOf(7, 1, 1));
    nats.break("gone");
    await new Promise((resolve) => setImmediate(resolve));
    endTurn();
    expect(publisher.figures()).toEqual({ changesPublished: 0, changesDropped: 1 });
    clock.advance(5_000);
    await new Promise((resolve) => setImmediate(resolve));
    fresh(batchOf(7, 2, 1));
    endTurn();
    expect(batches().map(({ batch }) => batch)).toEqual([batchOf(7, 2, 1)]);
  });

  it("tells each second which revisions are the newest, behind the batches they come from", async () => {
    const { fresh, heads, clock, nats } = await fixture();
    clock.advance(BUS_HEADS_INTERVAL_MS);
    expect(nats.published).toEqual([]);
    heads.push({ vshard: 7 as VshardId, revision: 2 as Revision });
    fresh(batchOf(7, 1, 2));
    clock.advance(BUS_HEADS_INTERVAL_MS);
    const [batch, head] = nats.published;
    expect(batch?.subject).toBe(subjects.changesOf(7 as VshardId));
    expect(head?.subject).toBe(subjects.heads);
    expect(decodeChangeHeads(head!.payload)).toEqual({ nodeId: 3, heads });
    clock.advance(3 * BUS_HEADS_INTERVAL_MS);
    expect(nats.published).toHaveLength(5);
  });

  it("stop() sends what waits, and nothing afterwards", async () => {
    const { fresh, publisher, nats, clock, heads, isOn } = await fixture();
    heads.push({ vshard: 7 as VshardId, revision: 1 as Revision });
    fresh(batchOf(7, 1, 1));
    publisher.stop();
    expect(nats.published).toHaveLength(1);
    expect(isOn()).toBe(false);
    clock.advance(10 * BUS_HEADS_INTERVAL_MS);
    expect(nats.published).toHaveLength(1);
  });
});
