/** A change log of which the engine has less than what has been applied and answered. */
import { expect, it } from "vitest";
import type { Revision, VshardId } from "#shared/ids.ts";
import { openMemory } from "#storage-node/engine/memory.ts";
import { HostedReplicas } from "#storage-node/replica/hosted-replicas.ts";
import { TestGroup } from "#storage-node/replica/testing.ts";
import { SlowEngine } from "#storage-node/snapshot/testing/slow-engine.ts";
import { ChangeTail } from "./change-tail.ts";
import { LogReader } from "./log-reader.ts";

const VSHARD = 7 as VshardId;

it("begins where the engine will have it, while the first changes are on their way there", async () => {
  const gate = { isOpen: false };
  const group = await TestGroup.create(1, undefined, () => new SlowEngine(openMemory(), gate));
  const { replica, engine, loop, wal } = group.member(1);
  replica.raft.campaign();
  loop.markDirty(replica);
  await group.settle();
  // Its vote is durable, and it leads: what comes now is one round of apply with the entry that opens the term.
  wal.sync();
  const first = group.put(1, "a", 1);
  await group.stabilize();
  expect(first).toMatchObject([{ applied: true }]);
  expect(replica.machine.revision).toBe(1);
  const hosted = new HostedReplicas();
  hosted.add(replica);
  const tail = new ChangeTail(hosted);
  const log = new LogReader({ engine, clock: group.clock, tail });
  const none = { kind: "seen", headRevision: 0, oldestRevision: 1 };
  expect(await log.head(VSHARD)).toMatchObject(none);
  expect(await log.read(VSHARD, 0 as Revision, 1000)).toMatchObject({ ...none, changes: [] });
  gate.isOpen = true;
  for (let turn = 0; turn < 10; turn++) await group.settle();
  const all = { kind: "seen", headRevision: 1, oldestRevision: 1 };
  expect(await log.head(VSHARD)).toMatchObject(all);
  expect(await log.read(VSHARD, 0 as Revision, 1000)).toMatchObject({
    ...all,
    changes: [{ revision: 1 }],
  });
});
