/** The feature version of a cluster whose nodes run different builds: pure, and as a coordinator carries it out. */
import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import {
  DiscoverResponseSchema,
  JoinRequestSchema,
  ReportRequestSchema,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import { errorCodeFromWire } from "#shared/errors.ts";
import { FEATURE_VERSION } from "#shared/features.ts";
import { type NodeId, toNodeId } from "#shared/ids.ts";
import { NODE_SILENT_MS } from "#shared/limits.ts";
import { higherFeatureVersion } from "./feature-version.ts";
import { makeNodes } from "./testing/fixtures.ts";
import { ADDRESS, leadingCoordinator } from "./testing/leading-coordinator.ts";

const NOW_MS = 1_000_000;

/** What nodes 1, 2, … told, and how long ago. */
const told = (...versions: readonly (number | readonly [version: number, agoMs: number])[]) =>
  new Map(
    versions.map((one, i): [NodeId, { report: { featureVersion: number }; atMs: number }] => {
      const [featureVersion, agoMs] = typeof one === "number" ? [one, 0] : one;
      return [toNodeId(i + 1), { report: { featureVersion }, atMs: NOW_MS - agoMs }];
    }),
  );

describe("higherFeatureVersion()", () => {
  const of = (featureVersion: number, reports: ReturnType<typeof told>) =>
    higherFeatureVersion({ nodes: makeNodes(3), featureVersion }, reports, NOW_MS);

  it("is the least of what all nodes know", () => {
    expect(of(1, told(3, 2, 4))).toBe(2);
    expect(of(1, told(3, 3, 3))).toBe(3);
  });

  it("is none while a node is older, tells none, or has not been heard of", () => {
    expect(of(1, told(3, 1, 3))).toBeUndefined();
    expect(of(1, told(3, 0, 3))).toBeUndefined();
    expect(of(1, told(3, 3))).toBeUndefined();
    expect(of(1, told())).toBeUndefined();
  });

  // It may be on its way back to the build that it had.
  it("is none while a node is silent", () => {
    expect(of(1, told(2, 2, [2, NODE_SILENT_MS]))).toBeUndefined();
    expect(of(1, told(2, 2, [2, NODE_SILENT_MS - 1]))).toBe(2);
  });

  it("never falls", () => {
    expect(of(3, told(2, 2, 2))).toBeUndefined();
    expect(of(3, told(3, 3, 3))).toBeUndefined();
  });
});

describe("a coordinator", () => {
  async function setUp(featureVersion: number) {
    const led = await leadingCoordinator({ featureVersion });
    /** All nodes report, again and again; those of old builds tell no version. */
    const pass = async (...versions: readonly number[]): Promise<void> => {
      for (let second = 0; second < 6; second++) {
        for (const [i, version] of versions.entries()) {
          const report = { clusterId: "c-1", nodeId: i + 1, featureVersion: version };
          await led.coordinator.report(create(ReportRequestSchema, report));
        }
        await led.pass(1_000);
      }
    };
    const version = async () => (await led.store.read())!.map.featureVersion;
    return { ...led, pass, version };
  }

  it("raises the version when the last node has been updated, and tells of it once", async () => {
    const { pass, version, plans } = await setUp(1);
    await pass(0, 0, 0);
    await pass(FEATURE_VERSION, 0, 0);
    await pass(FEATURE_VERSION, FEATURE_VERSION, 0);
    expect(await version()).toBe(1);
    await pass(FEATURE_VERSION, FEATURE_VERSION, FEATURE_VERSION);
    expect(await version()).toBe(FEATURE_VERSION);
    await pass(FEATURE_VERSION, FEATURE_VERSION, 0);
    expect(await version()).toBe(FEATURE_VERSION);
    const raised = plans.filter((reason) => reason.startsWith("feature version"));
    expect(raised).toEqual([`feature version ${FEATURE_VERSION}: all nodes know it`]);
  });

  const joining = (featureVersion: number, member: { clusterId?: string; nodeId?: number } = {}) =>
    create(JoinRequestSchema, {
      ...{ address: ADDRESS, joinToken: utf8("token"), featureVersion },
      ...member,
    });

  it("takes in no node that knows less than the cluster uses", async () => {
    const { coordinator, nodes } = await setUp(FEATURE_VERSION);
    for (const known of [0, FEATURE_VERSION - 1]) {
      const { failure, nodeId } = await coordinator.join(joining(known));
      expect(errorCodeFromWire(failure!.code)).toBe("CLUSTER_CONFLICT");
      expect(failure!.detail).toMatch(/^the storage node at 10\.0\.0\.4:7400 is of an older build/);
      expect(nodeId).toBe(0);
    }
    expect(await nodes()).toEqual([1, 2, 3]);
    for (const known of [FEATURE_VERSION, FEATURE_VERSION + 1]) {
      expect((await coordinator.join(joining(known))).nodeId).toBe(4);
    }
  });

  it("takes no news of a member that was put back to an older build", async () => {
    const { coordinator, store } = await setUp(FEATURE_VERSION);
    const member = { clusterId: "c-1", nodeId: 2 };
    const moved = create(JoinRequestSchema, {
      ...{ address: "10.0.0.9:1", joinToken: Uint8Array.of(2), featureVersion: 1 },
      ...member,
    });
    expect((await coordinator.join(moved)).failure?.detail).toMatch(/is of an older build/);
    expect((await store.read())!.map.nodes[1]!.address).not.toBe("10.0.0.9:1");
  });

  it("invites no node of an older build", async () => {
    const discover = async () =>
      create(DiscoverResponseSchema, { address: ADDRESS, joinToken: utf8("token") });
    const { ask, nodes } = await leadingCoordinator({ discover });
    expect(await ask()).toMatchObject({ code: "CLUSTER_CONFLICT", notApplied: true });
    expect(await nodes()).toEqual([1, 2, 3]);
  });
});
