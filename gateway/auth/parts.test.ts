import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import { SeededRandom } from "#shared/random.ts";
import { FailureThrottle, throttledAddress } from "./failure-throttle.ts";
import { isInside, isNetwork, networkList } from "./networks.ts";
import { argon2Hasher, checkOf, passesCheck } from "./secret-hash.ts";
import { VerdictCache } from "./verdict-cache.ts";
import { WorkQueue } from "./work-queue.ts";

describe("FailureThrottle", () => {
  const throttle = (clock: ManualClock, trackedMax = 100) =>
    new FailureThrottle({ clock, burst: 3, perSecond: 2, trackedMax });

  it("lets a burst fail, and then as many as flow back", () => {
    const clock = new ManualClock();
    const failures = throttle(clock);
    for (let i = 0; i < 3; i++) {
      expect(failures.waitMs("a")).toBe(0);
      failures.fail("a");
    }
    expect(failures.waitMs("a")).toBe(500);
    expect(failures.waitMs("b")).toBe(0);
    clock.advance(250);
    expect(failures.waitMs("a")).toBe(250);
    clock.advance(250);
    expect(failures.waitMs("a")).toBe(0);
    failures.fail("a");
    failures.forgive("a");
    expect(failures.waitMs("a")).toBe(0);
    failures.forgive("nobody");
    expect(failures.size).toBe(1);
  });

  it("remembers so many, and forgets the one that failed longest ago", () => {
    const failures = throttle(new ManualClock(), 2);
    for (let i = 0; i < 3; i++) failures.fail("a");
    failures.fail("b");
    failures.fail("a");
    failures.fail("c");
    expect(failures.size).toBe(2);
    expect(failures.waitMs("a")).toBeGreaterThan(0);
  });
});

describe("throttledAddress()", () => {
  it.each([
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"],
    ["2001:db8:1:2::6", "2001:db8:1:2::"],
    ["2001:db8::6", "2001:db8:0:0::"],
    ["::1", "0:0:0:0::"],
    ["::ffff:192.0.2.1%1", "192.0.2.1"],
    ["2001:0DB8:1:2::6%eth0", "2001:db8:1:2::"],
    ["no address", ""],
    ["", ""],
  ])("of %s is %s", (address, name) => {
    expect(throttledAddress(address)).toBe(name);
  });

  it("never throws, and gives no long names", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(..."0af:.%"), maxLength: 60 }), (text) => {
        expect(throttledAddress(text).length).toBeLessThanOrEqual(text.length + 8);
      }),
    );
  });
});

describe("networkList()", () => {
  it("holds what lies in one of the networks", () => {
    const list = networkList(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])!;
    for (const address of ["10.255.0.1", "192.0.2.7", "::ffff:10.0.0.1", "2001:db8:1::"]) {
      expect([address, isInside(list, address)]).toEqual([address, true]);
    }
    for (const address of ["11.0.0.1", "192.0.2.8", "2001:db9::", "", "x", "::ffff:11.0.0.1"]) {
      expect([address, isInside(list, address)]).toEqual([address, false]);
    }
    expect(networkList([])).toBeUndefined();
  });

  it("admits nobody by a network that cannot be read", () => {
    for (const text of ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "a", "1.2.3.4/8/8"]) {
      expect([text, isNetwork(text)]).toEqual([text, false]);
    }
    expect(isInside(networkList(["nonsense"])!, "10.0.0.1")).toBe(false);
    fc.assert(fc.property(fc.string(), (text) => void isNetwork(text)));
  });
});

describe("VerdictCache", () => {
  it("keeps what is asked for, and is bounded", () => {
    const cache = new VerdictCache<number>({ random: new SeededRandom(1), entriesMax: 10 });
    for (let i = 0; i < 1_000; i++) {
      cache.set(`n${i}`, i);
      expect(cache.get("n0")).toBe(0);
      expect(cache.size).toBeLessThanOrEqual(10);
    }
    expect(cache.get("n999")).toBe(999);
    expect(cache.get("n500")).toBeUndefined();
    cache.delete("n0");
    expect(cache.get("n0")).toBeUndefined();
  });

  it("names credentials by a key of its own", () => {
    const [one, other] = [1, 2].map(
      (seed) => new VerdictCache<number>({ random: new SeededRandom(seed), entriesMax: 10 }),
    );
    expect(one!.nameOf("a")).toBe(one!.nameOf("a"));
    expect(one!.nameOf("a")).not.toBe(one!.nameOf("b"));
    expect(one!.nameOf("a")).not.toBe(other!.nameOf("a"));
  });
});

describe("WorkQueue", () => {
  it("runs in order, never more at once, and goes on after a failure", async () => {
    const queue = new WorkQueue({ atOnceMax: 2, waitingMax: 3 });
    const ends: PromiseWithResolvers<number>[] = [];
    let running = 0;
    let most = 0;
    const work = async () => {
      most = Math.max(most, ++running);
      const end = Promise.withResolvers<number>();
      ends.push(end);
      try {
        return await end.promise;
      } finally {
        running--;
      }
    };
    const results = Array.from({ length: 6 }, () => queue.run(work));
    expect(results[5]).toBeUndefined();
    expect(queue.hasRoom).toBe(false);
    const settled = Promise.allSettled(results);
    for (let i = 0; i < 5; i++) {
      await expect.poll(() => ends.length).toBeGreaterThan(i);
      if (i === 1) ends[i]!.reject(new Error("failed"));
      else ends[i]!.resolve(i);
    }
    expect((await settled).map((result) => result.status)).toEqual([
      ...["fulfilled", "rejected", "fulfilled", "fulfilled", "fulfilled", "fulfilled"],
    ]);
    expect(most).toBe(2);
    expect(queue.hasRoom).toBe(true);
  });
});

describe("the hash of a secret", () => {
  it("is Argon2id, and verifies the secret alone", async () => {
    const { hash, check } = await argon2Hasher.hash("id", "secret");
    expect(hash).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$[\w+/]{22}\$[\w+/]{43}$/);
    expect((await argon2Hasher.hash("id", "secret")).hash).not.toBe(hash);
    expect(await argon2Hasher.verify(hash, "secret")).toBe(true);
    expect(await argon2Hasher.verify(hash, "secres")).toBe(false);
    expect(await argon2Hasher.verify("nonsense", "secret")).toBe(false);
    expect(passesCheck(check, "id", "secret")).toBe(true);
    expect(passesCheck(new Uint8Array(0), "id", "secret")).toBe(false);
  });

  it("verifies what the package argon2 has made, and nothing that cannot be read", async () => {
    const { verify } = argon2Hasher;
    const [salt, tag] = ["o+wCu7ttbIDqXNsqW5B0Yw", "GUS+/bnZgim2L+yrkgz6/FVbJQcnBUa6WyFt0PbBOJg"];
    const made = `$argon2id$v=19$m=19456,p=1,t=2$${salt}$${tag}`;
    expect(await verify(made, "secret")).toBe(true);
    expect(await verify(made, "secres")).toBe(false);
    expect(await verify(made.replace("p=1,t=2", "t=2,p=1"), "secret")).toBe(true);
    for (const [part, other] of [
      ["t=2", "t=3"],
      ["t=2", "t=0"],
      ["p=1", "p=0"],
      ["m=19456", "m=1"],
      ["m=19456", "m=99999999999999999999"],
      ["argon2id", "argon2i"],
      ["v=19", "v=16"],
      [salt, ""],
      [tag, "AA"],
      [tag, `${tag}\n`],
    ] as const) {
      expect(await verify(made.replace(part, other), "secret")).toBe(false);
    }
  });

  it("has a check that few wrong secrets pass, and that is bound to the id", () => {
    const check = checkOf("id", "secret");
    expect(check).toHaveLength(2);
    expect(checkOf("other", "secret")).not.toEqual(check);
    const passed = Array.from({ length: 2_000 }, (_, i) => passesCheck(check, "id", `wrong ${i}`));
    expect(passed.filter(Boolean).length).toBeLessThan(3);
  });
});
