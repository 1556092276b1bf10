/** What values of events may cost: in memory, and those who wait for theirs. */
import { describe, expect, it } from "vitest";
import type { KeyRef, StoredValue } from "#gateway/storage/storage.ts";
import { latin1 } from "#shared/bytes.ts";
import { DEFAULT_TENANT, type TenantId, VSHARD_COUNT } from "#shared/ids.ts";
import {
  WATCH_CATCH_UP_VALUE_BYTES_MAX,
  WATCH_EVENTS_HELD_BYTES_MAX,
  WATCH_VALUE_READS_MAX,
} from "#shared/limits.ts";
import { Slots } from "./slots.ts";
import { FakeClient, type FakeHistory, openTestHub, query, settle } from "./testing.ts";

const OTHER = 2 as TenantId;

/** Storage whose reads wait until they are let go. */
function heldReads(history: () => FakeHistory) {
  const asked: string[] = [];
  const letGo: (() => void)[] = [];
  const get = async (ref: KeyRef): Promise<StoredValue | undefined> => {
    asked.push(latin1(ref.key));
    await new Promise<void>((resolve) => letGo.push(resolve));
    return history().get(ref);
  };
  const letAllGo = async (): Promise<void> => {
    while (letGo.length > 0) {
      letGo.shift()!();
      await settle();
    }
  };
  return { asked, get, letGo, letAllGo };
}

/** A change whose value is too large to come with it. */
const without = <T extends { value: unknown }>(record: T): T => ({ ...record, value: undefined });

describe("values of events", () => {
  it("are read for a watch that is behind a few large ones at a time, and all come", async () => {
    const reads = heldReads(() => hub.history);
    const bounds = { recentBytes: 1, clientBytes: 64 * 1024 * 1024 };
    const hub = openTestHub({ get: reads.get, bounds });
    const first = new FakeClient();
    const watch = await hub.open(query({ values: true }), first);
    await hub.advance(100);
    watch.close();
    const value = "x".repeat(WATCH_CATCH_UP_VALUE_BYTES_MAX / 2);
    const keys = Array.from({ length: 20 }, (_, i) => `{t}/${i}`);
    for (const key of keys) hub.history.write({ key, value });
    hub.log.pieceMax = 100;
    hub.live.isSilent = true;
    // Through the feed nobody wants them now.
    await hub.advance(2_000);
    const client = new FakeClient();
    await hub.open(query({ values: true }), client, first.lastToken());
    await hub.advance(200);
    expect(reads.asked.length).toBeGreaterThan(0);
    expect(reads.asked.length).toBeLessThanOrEqual(2);
    for (let i = 0; i < 30; i++) {
      await reads.letAllGo();
      await hub.advance(50);
    }
    expect(client.names().slice(1)).toEqual(keys.map((key) => `put ${key}`));
    const values = client
      .events()
      .slice(1)
      .map(({ data }) => data.value);
    expect(values.every((one) => one === value)).toBe(true);
  });

  it("are not taken from the live events of one tenant by another who is behind", async () => {
    const reads = heldReads(() => hub.history);
    const hub = openTestHub({ get: reads.get });
    const first = new FakeClient();
    const watch = await hub.open(query({ values: true }), first);
    await hub.advance(100);
    watch.close();
    const count = 2 * WATCH_VALUE_READS_MAX;
    for (let i = 0; i < count; i++) hub.history.write({ key: `${i}` });
    hub.log.pieceMax = count;
    hub.live.isSilent = true;
    await hub.advance(2_000);
    // As many are behind as there may be: all that they miss is asked for.
    for (let i = 0; i < 300; i++) {
      await hub.open(query({ values: true }), new FakeClient(), first.lastToken());
    }
    await hub.advance(200);
    expect(reads.asked.length).toBeGreaterThan(0);
    const live = new FakeClient();
    await hub.open(query({ values: true, tenant: OTHER }), live);
    const { vshard, record } = hub.history.write({ key: "live", tenant: OTHER });
    const { batch } = { batch: hub.history.batch(vshard, record.revision - 1, record.revision) };
    hub.live.listener!.onBatch({ ...batch, changes: batch.changes.map(without) });
    await settle();
    expect(reads.asked.at(-1)).toBe("live");
  });
});

describe("events that wait for a value", () => {
  /** News of many vshards: each begins with a change whose value has to be read. */
  const heldUp = async (value: string) => {
    const reads = heldReads(() => hub.history);
    const hub = openTestHub({ get: reads.get });
    const client = new FakeClient();
    await hub.open(query({ values: true }), client);
    for (let i = 0; i < 5_000; i++) {
      const { vshard, record } = hub.history.write({ key: `${i}`, value });
      const batch = hub.history.batch(vshard, record.revision - 1, record.revision);
      const isFirst = record.revision === 1;
      hub.live.listener!.onBatch(
        isFirst ? { ...batch, changes: batch.changes.map(without) } : batch,
      );
    }
    return { hub, reads, client };
  };

  it("are held by their bytes, all together; the log has the others", async () => {
    const { hub, reads, client } = await heldUp("x".repeat(4_096));
    const { heldBytes, eventsHeld } = hub.hub.figures();
    expect(eventsHeld).toBeGreaterThan(1_000);
    // Each vshard may bring one batch more, and the value that it waits for.
    expect(heldBytes).toBeLessThan(WATCH_EVENTS_HELD_BYTES_MAX + VSHARD_COUNT * 10 * 1024);
    for (let i = 0; i < 200 && client.names().length < 5_001; i++) {
      await reads.letAllGo();
      await hub.advance(200);
    }
    expect(client.names()).toHaveLength(5_001);
    expect(hub.hub.figures()).toMatchObject({ heldBytes: 0, eventsHeld: 0 });
  });
});

describe("Slots", () => {
  it("are given to tenants in turn", async () => {
    const slots = new Slots(1);
    const order: number[] = [];
    expect(slots.take(DEFAULT_TENANT)).toBeUndefined();
    for (const tenant of [1, 1, 1, 2, 3, 2]) {
      void slots.take(tenant as TenantId)!.then(() => order.push(tenant));
    }
    for (let i = 0; i < 6; i++) {
      slots.give();
      await settle();
    }
    expect(order).toEqual([1, 2, 3, 1, 2, 1]);
    slots.give();
    expect(slots.take(DEFAULT_TENANT)).toBeUndefined();
  });
});
