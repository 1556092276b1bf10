/** A gateway in front of storage nodes of an older build, which would take in silence what they do not know. */
import { describe, expect, it } from "vitest";
import { FEATURE_VERSION } from "#shared/features.ts";
import type { Revision } from "#shared/ids.ts";
import { errorOf, input, key, mapOf, openTestClient, stored } from "./testing.ts";

const old = (version: number) => ({ ...mapOf({ version }), featureVersion: 1 });

function setUp() {
  const test = openTestClient(old(1));
  for (const node of [1, 2, 3]) test.to(node).auto = () => stored;
  const options = { deadlineMs: test.clock.nowMs() + 5_000 };
  const { client } = test;
  const encoded = { ...input, encoding: 1, logicalSizeBytes: 5 };
  const calls = {
    "an encoded value": () => client.put(key, encoded, options),
    "a reseal": () =>
      client.reseal(key, { ...encoded, revision: 5 as Revision, modifiedAtMs: 0 }, options),
    "the use of a ticket": () => client.claim(key, 1_000, options),
  };
  const plain = () => client.put(key, input, options);
  return { ...test, calls, plain };
}

describe("StorageClient, while a storage node is still of an older build,", () => {
  it.each(["an encoded value", "a reseal", "the use of a ticket"] as const)(
    "refuses %s until the map says that all know it",
    async (name) => {
      const { client, calls, counts } = setUp();
      const error = await errorOf(calls[name]());
      expect(error).toMatchObject({ code: "UNAVAILABLE", outcome: "not_applied" });
      expect(error.message).toMatch(/need feature version 2, and the cluster has 1: update all/);
      expect(counts()).toEqual([0, 0, 0]);
      client.setMap({ ...mapOf({ version: 2 }), featureVersion: FEATURE_VERSION });
      await calls[name]();
      expect(counts()).toEqual([1, 0, 0]);
      // An older map that comes late takes nothing back.
      client.setMap(old(1));
      await calls[name]();
      expect(counts()).toEqual([2, 0, 0]);
    },
  );

  it("stores what every build knows", async () => {
    const { plain, counts } = setUp();
    expect(await plain()).toMatchObject({ kind: "stored" });
    expect(counts()).toEqual([1, 0, 0]);
  });

  it("refuses items of batches that need more", async () => {
    const { client, clock, to } = setUp();
    const operations = [
      { kind: "put" as const, key: key.key, ...input, encoding: 1, logicalSizeBytes: 5 },
    ];
    const options = { deadlineMs: clock.nowMs() + 5_000, admitValue: () => undefined };
    const outcomes = await client.batch(key.tenant, operations, options);
    expect(outcomes).toMatchObject([{ kind: "failed", error: { code: "UNAVAILABLE" } }]);
    expect(to(1).sent).toEqual([]);
  });
});
