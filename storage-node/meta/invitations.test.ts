import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import {
  BootstrapResponseSchema,
  DiscoverResponseSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { Placement } from "#shared/cluster-map.ts";
import { ERRORS, KvError } from "#shared/errors.ts";
import { replicaIdOf, toNodeId } from "#shared/ids.ts";
import { INVITED_ANSWER_TIMEOUT_MS } from "#shared/limits.ts";
import { ADDRESS, leadingCoordinator } from "./testing/leading-coordinator.ts";

const refused = (detail: string) =>
  create(BootstrapResponseSchema, {
    failure: { code: ERRORS.INVALID_ARGUMENT.wire, detail, notApplied: true },
  });

describe("an invitation", () => {
  it("gives the node its row, and tells it", async () => {
    const { ask, nodes } = await leadingCoordinator();
    expect(await ask()).toEqual({ nodeId: 4, detail: "node 4 joins" });
    expect(await nodes()).toEqual([1, 2, 3, 4]);
  });

  it("meant for another cluster changes nothing", async () => {
    const { ask, nodes } = await leadingCoordinator();
    expect(await ask("c-2")).toEqual({
      code: "CLUSTER_CONFLICT",
      notApplied: true,
      why: 'this is cluster "c-1", not "c-2"',
    });
    expect(await ask("")).toMatchObject({ code: "INVALID_ARGUMENT", notApplied: true });
    expect(await nodes()).toEqual([1, 2, 3]);
  });

  it("of a node that does not answer names it, before whoever asked gives up", async () => {
    const { ask, nodes } = await leadingCoordinator({ discover: () => new Promise(() => {}) });
    expect(await ask()).toEqual({
      code: "UNAVAILABLE",
      notApplied: true,
      why: `${ADDRESS} does not answer within ${INVITED_ANSWER_TIMEOUT_MS} ms`,
    });
    expect(await nodes()).toEqual([1, 2, 3]);
  });

  it("whose answer is lost is not called undone: the row is there, and asking again ends it", async () => {
    let calls = 0;
    const { ask, nodes } = await leadingCoordinator({
      bootstrap: async () => {
        if (calls++ === 0) throw new KvError("UNAVAILABLE", "lost");
        return create(BootstrapResponseSchema, {});
      },
    });
    expect(await ask()).toMatchObject({ code: "UNAVAILABLE", notApplied: false });
    expect(await nodes()).toEqual([1, 2, 3, 4]);
    expect(await ask()).toEqual({ nodeId: 4, detail: "node 4 joins" });
    expect(await nodes()).toEqual([1, 2, 3, 4]);
  });

  it("that the node refuses is taken back", async () => {
    const { ask, nodes } = await leadingCoordinator({
      bootstrap: async () => refused("it has another cluster"),
    });
    expect(await ask()).toEqual({
      code: "CLUSTER_CONFLICT",
      notApplied: true,
      why: `${ADDRESS} does not take the invitation: it has another cluster`,
    });
    expect(await nodes()).toEqual([1, 2, 3]);
  });

  it("that the node refuses and that cannot be taken back says what is left", async () => {
    const { ask, nodes, store } = await leadingCoordinator({
      bootstrap: async () => {
        const state = (await store.read())!;
        const row = state.map.placements[0]!;
        const learner = { replica: replicaIdOf(toNodeId(4), 1), role: "learner" as const };
        const placement: Placement = { ...row, replicas: [...row.replicas, learner] };
        await store.change((now) => ({ state: now!, change: { placements: [placement] } }));
        return refused("no");
      },
    });
    expect(await ask()).toMatchObject({
      code: "CLUSTER_CONFLICT",
      notApplied: false,
      why: expect.stringMatching(/Its row is left in the map: minikv cluster remove 4/),
    });
    expect(await nodes()).toEqual([1, 2, 3, 4]);
  });

  it.each([
    ["is a member already", "c-1", 3, { nodeId: 3, detail: expect.stringMatching(/already/) }],
    ["belongs to another cluster", "d", 1, { code: "CLUSTER_CONFLICT", notApplied: true }],
    ["was removed", "c-1", 9, { code: "CLUSTER_CONFLICT", why: expect.stringMatching(/empty/) }],
  ])("of a node that %s", async (_, clusterId, nodeId, expected) => {
    const there = create(DiscoverResponseSchema, { address: ADDRESS, clusterId, nodeId });
    const { ask } = await leadingCoordinator({ discover: async () => there });
    expect(await ask()).toMatchObject(expected);
  });
});
