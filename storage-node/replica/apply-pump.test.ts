import { describe, expect, it } from "vitest";
import { utf8Decode } from "#shared/bytes.ts";
import type { MaybePromise } from "#shared/maybe-promise.ts";
import type { Engine, EngineBatch } from "#storage-node/engine/engine.ts";
import { openMemory } from "#storage-node/engine/memory.ts";
import { ForwardingEngine } from "#storage-node/engine/testing.ts";
import { SlowEngine } from "#storage-node/snapshot/testing/slow-engine.ts";
import { TestGroup } from "./testing.ts";

/** A leader without followers; its engine writes while the gate is open. */
async function leader(open: (gate: { isOpen: boolean }) => Engine) {
  const gate = { isOpen: true };
  const group = await TestGroup.create(1, undefined, () => open(gate));
  await group.elect(1);
  for (let turn = 0; turn < 5; turn++) await group.settle();
  return { group, gate, ...group.member(1) };
}

const slow = (gate: { isOpen: boolean }): Engine => new SlowEngine(openMemory(), gate);

type Write = (engine: Engine, batch: EngineBatch) => MaybePromise<void>;

/** An engine with an eye on its writes; by default the one in memory, which writes at once. */
class WatchedEngine extends ForwardingEngine {
  readonly #write: Write;

  constructor(write: Write, inner = openMemory()) {
    super(inner);
    this.#write = write;
  }

  override write(batch: EngineBatch): MaybePromise<void> {
    return this.#write(this.inner, batch);
  }
}

describe("ApplyPump", () => {
  it("answers a write before the engine has it, and applies none behind it meanwhile", async () => {
    const { group, gate, replica } = await leader(slow);
    const before = replica.applied.index;
    gate.isOpen = false;
    const first = group.put(1, "a", 1);
    await group.stabilize();
    expect(first).toMatchObject([{ kind: "write", applied: true }]);
    expect(replica.applied.index).toBe(before);
    const second = group.put(1, "b", 2);
    await group.stabilize();
    expect(second).toEqual([]);
    gate.isOpen = true;
    for (let turn = 0; turn < 10; turn++) await group.settle();
    expect(second).toMatchObject([{ kind: "write", applied: true }]);
    expect(replica.applied.index).toBe(before + 2);
    expect(group.fatal).toEqual([]);
  });

  it("lets a read that comes behind the answer wait for the engine", async () => {
    const { group, gate } = await leader(slow);
    gate.isOpen = false;
    const written = group.put(1, "a", 1);
    await group.stabilize();
    expect(written).toHaveLength(1);
    const [read, scanned] = [group.get(1, "a"), group.scan(1)];
    await group.stabilize();
    expect([read, scanned]).toEqual([[], []]);
    gate.isOpen = true;
    for (let turn = 0; turn < 10; turn++) await group.settle();
    expect(read.map((body) => body.kind === "get" && utf8Decode(body.value))).toEqual([
      "value of a",
    ]);
    expect(scanned).toMatchObject([{ kind: "scan", rows: [{ revision: 1 }] }]);
  });

  it("sends what is answered in this turn on its way before an engine that writes at once", async () => {
    const order: string[] = [];
    const { group, replica, loop } = await leader(
      () =>
        new WatchedEngine((engine, batch) => {
          order.push("written");
          return engine.write(batch);
        }),
    );
    order.length = 0;
    replica.write(group.putOf("a", 1), () => {
      order.push("answered");
      process.nextTick(() => order.push("sent"));
    });
    loop.markDirty(replica);
    await group.stabilize();
    expect(order).toEqual(["answered", "sent", "written"]);
  });

  it("starts no work between rounds for who asks while being answered", async () => {
    const { group, replica, loop, engine } = await leader(() => openMemory());
    const seen: number[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    replica.write(group.putOf("a", 1), () => {
      const revision = replica.machine.revision;
      void loop.pump
        .between(async () => {
          const rows = engine.iterate({ keysOnly: true });
          seen.push(revision, (await rows.next(10)).length);
          await rows.close();
        })
        .then(resolve);
    });
    loop.markDirty(replica);
    await group.stabilize();
    await promise;
    // The data row, its journal row, and the one of the counters.
    expect(seen).toEqual([1, 3]);
  });

  it("ends when the engine fails: nothing more is applied, and no moment between rounds comes", async () => {
    const state = { fails: false };
    const { group, replica, loop } = await leader(
      () =>
        new WatchedEngine((engine, batch) => {
          if (state.fails) throw new Error("the disk is gone");
          return engine.write(batch);
        }),
    );
    const before = replica.applied;
    state.fails = true;
    const first = group.put(1, "a", 1);
    // It is in the log of a quorum.
    await group.stabilize();
    expect(first).toMatchObject([{ applied: true }]);
    expect(group.fatal).toMatchObject([{ message: "the disk is gone" }]);
    state.fails = false;
    const second = group.put(1, "b", 2);
    await group.stabilize();
    expect(second).toEqual([]);
    expect(replica.applied).toEqual(before);
    await expect(loop.pump.between(() => 1)).rejects.toThrow("a round of apply has failed");
    await loop.pump.stop();
    expect(group.fatal).toHaveLength(1);
  });

  it("tells those who wait for a moment between rounds that none comes", async () => {
    const state = { fails: false };
    const { group, gate, loop } = await leader((gate) => {
      const write: Write = (engine, batch) => (state.fails ? failing(gate) : engine.write(batch));
      return new WatchedEngine(write, slow(gate));
    });
    async function failing(gate: { readonly isOpen: boolean }): Promise<void> {
      while (!gate.isOpen) await group.settle();
      throw new Error("the disk is gone");
    }
    state.fails = true;
    gate.isOpen = false;
    group.put(1, "a", 1);
    await group.stabilize();
    const waiting = loop.pump.between(() => 1);
    const stopping = loop.pump.stop();
    gate.isOpen = true;
    await expect(waiting).rejects.toThrow("a round of apply has failed");
    await stopping;
    expect(group.fatal).toMatchObject([{ message: "the disk is gone" }]);
  });
});
