import { describe, expect, it } from "vitest";
import {
  FEATURE_VERSION,
  FEATURES,
  missingFeature,
  toldFeatureVersion,
  tooOldFor,
} from "./features.ts";

describe("feature versions", () => {
  it("know every feature at the version of this build, and none of a later one", () => {
    expect(Math.max(...Object.values(FEATURES))).toBe(FEATURE_VERSION);
  });

  it("say what is missing, and what to update", () => {
    expect(missingFeature({ featureVersion: 2 }, "single-use tickets")).toBeUndefined();
    expect(missingFeature({ featureVersion: 3 }, "single-use tickets")).toBeUndefined();
    const why = missingFeature({ featureVersion: 1 }, "single-use tickets");
    expect(why).toMatch(
      /^single-use tickets need feature version 2, and the cluster has 1: update/,
    );
  });

  it("refuse a build that knows less than its cluster, and no other", () => {
    expect(tooOldFor({ featureVersion: 2 }, 2, "node 4")).toBeUndefined();
    expect(tooOldFor({ featureVersion: 1 }, 2, "node 4")).toBeUndefined();
    expect(tooOldFor({ featureVersion: 3 }, 2, "node 4")).toMatch(/^node 4 is of an older build/);
  });

  it("take who tells none for the first version", () => {
    expect([0, 1, 2].map(toldFeatureVersion)).toEqual([1, 1, 2]);
  });
});
