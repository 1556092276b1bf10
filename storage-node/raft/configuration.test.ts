import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { ReplicaId } from "#shared/ids.ts";
import { GROUP_MEMBERS_MAX } from "#shared/limits.ts";
import {
  checkConfiguration,
  configurationSizeBytes,
  decodeConfiguration,
  encodeConfiguration,
  isJoint,
  leaveJoint,
  planChange,
  simpleConfiguration,
} from "./configuration.ts";
import { configurationOf } from "./testing/core.ts";
import type { Configuration, MemberChange } from "./types.ts";

const change = (to: MemberChange["to"], replica: number): MemberChange => ({
  to,
  replica: replica as ReplicaId,
});
const config = (parts: Partial<Record<keyof Configuration, unknown>>): Configuration =>
  configurationOf({ highestId: 9, ...parts });
const planned = (current: Configuration, ...changes: MemberChange[]): Configuration => {
  const plan = planChange(current, changes);
  if (plan.kind === "refused") throw new Error(plan.reason);
  return plan.configuration;
};
const reasonOf = (current: Configuration, ...changes: MemberChange[]): string => {
  const plan = planChange(current, changes);
  return plan.kind === "refused" ? plan.reason : "";
};

describe("planChange()", () => {
  const three = config({ voters: [1, 2, 3], learners: [4] });

  it("takes one voter more or fewer in one step", () => {
    expect(planned(three, change("voter", 4))).toEqual(config({ voters: [1, 2, 3, 4] }));
    expect(planned(three, change("removed", 3))).toEqual(config({ voters: [1, 2], learners: [4] }));
    expect(planned(three, change("learner", 3))).toEqual(
      config({ voters: [1, 2], learners: [4, 3] }),
    );
    expect(planned(three, change("learner", 12), change("removed", 4))).toEqual(
      config({ voters: [1, 2, 3], learners: [12], highestId: 12 }),
    );
  });

  it("takes more through a joint configuration, and learners of the old half wait", () => {
    const joint = planned(three, change("voter", 4), change("learner", 2), change("removed", 3));
    expect(joint).toEqual(
      config({ voters: [1, 4], outgoing: [1, 2, 3], learners: [], learnersNext: [2] }),
    );
    expect(leaveJoint(joint)).toEqual(config({ voters: [1, 4], learners: [2] }));
  });

  it("refuses what makes no sense, with the reason", () => {
    expect(reasonOf(three, change("removed", 7))).toMatch("not a member");
    expect(reasonOf(three, change("voter", 7))).toMatch("used before");
    expect(reasonOf(three, change("voter", 1))).toMatch("nothing would change");
    expect(reasonOf(three)).toMatch("nothing would change");
    expect(reasonOf(three, change("voter", 4), change("removed", 4))).toMatch("twice");
    expect(reasonOf(config({ voters: [1] }), change("removed", 1))).toMatch("no voter");
    const joint = config({ voters: [1, 4, 5], outgoing: [1, 2, 3] });
    expect(reasonOf(joint, change("removed", 1))).toMatch("joint");
    const many = Array.from({ length: GROUP_MEMBERS_MAX }, (_, i) => change("learner", 10 + i));
    expect(reasonOf(three, ...many)).toMatch("at most");
  });
});

/** All subsets of `ids` that are a majority of them. */
function majorities(ids: readonly number[]): number[][] {
  if (ids.length === 0) return [[]];
  const found: number[][] = [];
  for (let bits = 0; bits < 1 << ids.length; bits++) {
    const subset = ids.filter((_, i) => (bits & (1 << i)) !== 0);
    if (2 * subset.length > ids.length) found.push(subset);
  }
  return found;
}

/** Every set of voters that can decide, naively: a majority of each half. */
const quorumsOf = ({ voters, outgoing }: Configuration): Set<number>[] =>
  majorities(voters).flatMap((a) => majorities(outgoing).map((b) => new Set([...a, ...b])));

describe("configurations that follow one another", () => {
  const someChange = fc.record({
    to: fc.constantFrom("voter" as const, "learner" as const, "removed" as const),
    replica: fc.integer({ min: 1, max: 9 }).map((id) => id as ReplicaId),
  });

  it("have quorums that all intersect, and the members a naive model says (property)", () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(someChange, { minLength: 1, maxLength: 4 }), { maxLength: 6 }),
        (steps) => {
          let current = simpleConfiguration([1, 2, 3] as ReplicaId[]);
          let model = new Map<number, string>([1, 2, 3].map((id) => [id, "voter"]));
          for (const changes of steps) {
            const plan = planChange(current, changes);
            if (plan.kind === "refused") continue;
            for (const { replica, to } of changes) model.set(replica, to);
            model = new Map([...model].filter(([, to]) => to !== "removed"));
            const path = [current, plan.configuration];
            if (isJoint(plan.configuration)) path.push(leaveJoint(plan.configuration));
            for (let i = 1; i < path.length; i++) {
              checkConfiguration(path[i]!);
              for (const a of quorumsOf(path[i - 1]!)) {
                for (const b of quorumsOf(path[i]!)) expect(a.intersection(b).size).not.toBe(0);
              }
            }
            current = path.at(-1)!;
            const members = (to: string) =>
              [...model].flatMap(([id, as]) => (as === to ? [id] : [])).sort();
            expect([...current.voters].sort()).toEqual(members("voter"));
            expect([...current.learners].sort()).toEqual(members("learner"));
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe("checkConfiguration()", () => {
  it.each([
    [{ voters: [1, 1] }, "named once"],
    [{ voters: [0] }, "at least 1"],
    [{ voters: [1], learners: [1] }, "no voter"],
    [{ voters: [1], outgoing: [2], learners: [2] }, "no voter"],
    [{ voters: [1], outgoing: [1, 2], learnersNext: [3] }, "leaves the voters"],
    [{ voters: [1, 2], outgoing: [1, 2], learnersNext: [2] }, "new half"],
    [{ voters: [1, 10] }, "highest"],
  ])("refuses %j", (parts, message) => {
    expect(() => checkConfiguration(config(parts))).toThrow(message);
  });
});

describe("encodeConfiguration()", () => {
  const ids = fc.array(
    fc.maxSafeNat().map((id) => id as ReplicaId),
    { maxLength: 5 },
  );
  const any = fc.record({
    voters: ids,
    outgoing: ids,
    learners: ids,
    learnersNext: ids,
    highestId: fc.maxSafeNat().map((id) => id as ReplicaId),
  });

  it("is read back as it was, and cut anywhere it is refused (property)", () => {
    fc.assert(
      fc.property(any, fc.nat(), (configuration, cut) => {
        const bytes = encodeConfiguration(configuration);
        expect(bytes.length).toBe(configurationSizeBytes(configuration));
        expect(decodeConfiguration(bytes)).toEqual(configuration);
        expect(() => decodeConfiguration(bytes.subarray(0, cut % bytes.length))).toThrow(
          RangeError,
        );
        expect(() => decodeConfiguration(new Uint8Array([...bytes, 0]))).toThrow(RangeError);
      }),
    );
  });

  it("has these bytes", () => {
    const bytes = encodeConfiguration(
      config({ voters: [1, 4], outgoing: [1, 2], learners: [], learnersNext: [2] }),
    );
    expect(bytes.toHex()).toBe(
      "0000000000000009" +
        "000200000000000000010000000000000004" +
        "000200000000000000010000000000000002" +
        "0000" +
        "00010000000000000002",
    );
  });
});
