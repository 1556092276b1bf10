import { describe, expect, it } from "vitest";
import { bearer, exchangeWith, plainHasher, ROOT_KEY, TestAuth } from "#gateway/testing/auth.ts";
import {
  AUTH_FAILURES_PER_ADDRESS_BURST,
  AUTH_FAILURES_PER_KEY_BURST,
  KEY_HASHES_AT_ONCE_MAX,
  KEY_HASHES_WAITING_MAX,
} from "#shared/limits.ts";
import { formatApiKey, makeApiKey } from "./api-key.ts";
import { keyRowName, keyUseRowName } from "./key-records.ts";
import { lastUsedAtMs } from "./key-use.ts";
import { checkOf } from "./secret-hash.ts";

const DAY_MS = 86_400_000;

/** The id of who is let in, else the code of the refusal. */
async function enter({ auth }: TestAuth, text: string, address?: string): Promise<string> {
  try {
    return (await auth.gate.enter(exchangeWith(bearer(text), address))).principal.id;
  } catch (error) {
    return (error as { code: string }).code;
  }
}

/** Argon2 that ends when told to, and counts. */
function heldHasher() {
  const waiting: (() => void)[] = [];
  const counts = { runs: 0, atOnce: 0, atOnceMost: 0 };
  const verify = async (hash: string, secret: string): Promise<boolean> => {
    counts.runs++;
    counts.atOnceMost = Math.max(counts.atOnceMost, ++counts.atOnce);
    await new Promise<void>((resolve) => waiting.push(resolve));
    counts.atOnce--;
    return plainHasher.verify(hash, secret);
  };
  const releaseAll = async (): Promise<void> => {
    for (let i = 0; i < 1_000 && (waiting.length > 0 || counts.atOnce > 0); i++) {
      waiting.shift()?.();
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { hasher: { ...plainHasher, verify }, counts, releaseAll };
}

describe("verify()", () => {
  it("runs Argon2 once per key, however many requests come at once", async () => {
    const { hasher, counts, releaseAll } = heldHasher();
    const test = new TestAuth({ hasher });
    const key = await test.addKey("ReadOnly");
    const entered = Promise.all(Array.from({ length: 50 }, () => enter(test, key.text)));
    await releaseAll();
    expect(new Set(await entered)).toEqual(new Set([key.id]));
    await enter(test, key.text);
    expect(counts.runs).toBe(1);
  });

  it("refuses a wrong secret and an unknown id without Argon2", async () => {
    const { hasher, counts } = heldHasher();
    const test = new TestAuth({ hasher });
    const key = await test.addKey("ReadOnly");
    expect(await enter(test, test.withSecretOf(key, makeApiKey(test.random)))).toBe(
      "UNAUTHENTICATED",
    );
    expect(await enter(test, formatApiKey(makeApiKey(test.random)))).toBe("UNAUTHENTICATED");
    expect(counts.runs).toBe(0);
  });

  it.each([
    [
      "revoked",
      (test: TestAuth, id: string) => test.changeKey(id, (record) => (record.revokedAtMs = 1n)),
    ],
    [
      "deleted",
      (test: TestAuth, id: string) =>
        test.directory.change([{ name: keyRowName(id), value: undefined }]),
    ],
    [
      "rotated",
      (test: TestAuth, id: string) =>
        test.changeKey(id, (record) => (record.secrets[0]!.hash = "plain:other")),
    ],
    ["expired", async (test: TestAuth) => test.clock.advance(DAY_MS)],
    [
      "damaged",
      (test: TestAuth, id: string) =>
        test.directory.change([{ name: keyRowName(id), value: Uint8Array.of(0xff) }]),
    ],
  ])("lets nobody in with a key that was %s, verified before or meanwhile", async (_, change) => {
    const { hasher, releaseAll } = heldHasher();
    const test = new TestAuth({ hasher });
    const expiresAtMs = test.clock.nowMs() + DAY_MS;
    const known = await test.addKey("Admin", { expiresAtMs });
    const first = enter(test, known.text);
    await releaseAll();
    expect(await first).toBe(known.id);
    await change(test, known.id);
    const again = enter(test, known.text);
    await releaseAll();
    expect(await again).toBe("UNAUTHENTICATED");

    const later = { expiresAtMs: test.clock.nowMs() + DAY_MS };
    const meanwhile = await test.addKey("Admin", later);
    const under = [enter(test, meanwhile.text), enter(test, meanwhile.text)];
    await change(test, meanwhile.id);
    await releaseAll();
    expect(await Promise.all(under)).toEqual(["UNAUTHENTICATED", "UNAUTHENTICATED"]);
  });

  it("takes what a change of the key leaves, such as another role", async () => {
    const test = new TestAuth();
    const key = await test.addKey("Admin");
    await enter(test, key.text);
    await test.changeKey(key.id, (record) => (record.role = 1));
    const caller = await test.auth.gate.enter(exchangeWith(bearer(key)));
    expect(caller.principal.role).toBe("ReadOnly");
    // A role that only a later version knows lets nobody in.
    await test.changeKey(key.id, (record) => (record.role = 9 as typeof record.role));
    expect(await enter(test, key.text)).toBe("UNAUTHENTICATED");
  });

  it("takes two secrets, the older one until it ends", async () => {
    const test = new TestAuth();
    const key = await test.addKey("Admin");
    const next = { id: key.id, secret: makeApiKey(test.random).secret };
    await test.changeKey(key.id, (record) => {
      const [old] = record.secrets;
      const made = { ...old!, hash: `plain:${next.secret}`, check: checkOf(key.id, next.secret) };
      old!.expiresAtMs = BigInt(test.clock.nowMs() + DAY_MS);
      record.secrets.push(made);
    });
    const text = formatApiKey(next);
    expect([await enter(test, key.text), await enter(test, text)]).toEqual([key.id, key.id]);
    test.clock.advance(DAY_MS);
    expect([await enter(test, key.text), await enter(test, text)]).toEqual([
      "UNAUTHENTICATED",
      key.id,
    ]);
  });

  it("holds a key to its networks, also once it is known", async () => {
    const test = new TestAuth();
    const networks = ["192.0.2.0/24", "2001:db8::/32"];
    const key = await test.addKey("Admin", { networks });
    for (const address of ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1"]) {
      expect(await enter(test, key.text, address)).toBe(key.id);
    }
    for (const address of ["192.0.3.7", "2001:db9::1", "", "here"]) {
      expect(await enter(test, key.text, address)).toBe("UNAUTHENTICATED");
    }
  });

  it("refuses every key when the directory is silent for too long, but not the root key", async () => {
    const test = new TestAuth();
    const key = await test.addKey("Admin");
    expect(await enter(test, key.text)).toBe(key.id);
    test.directory.silence = 60_000;
    expect(await enter(test, key.text)).toBe(key.id);
    test.directory.silence = 60_001;
    expect(await enter(test, key.text)).toBe("UNAVAILABLE");
    expect(await enter(test, ROOT_KEY)).toBe("root");
    test.directory.silence = 0;
    test.directory.isKnown = false;
    expect(await enter(test, key.text)).toBe("UNAVAILABLE");
  });

  it("refuses a key whose verification ended in silence", async () => {
    const { hasher, releaseAll } = heldHasher();
    const test = new TestAuth({ hasher });
    const key = await test.addKey("Admin");
    const entered = enter(test, key.text);
    test.directory.silence = Number.POSITIVE_INFINITY;
    await releaseAll();
    expect(await entered).toBe("UNAVAILABLE");
  });
});

describe("the bounds of verification", () => {
  it("run little Argon2 at once, and let few wait", async () => {
    const { hasher, counts, releaseAll } = heldHasher();
    const test = new TestAuth({ hasher });
    const known = await test.addKey("Admin");
    const first = enter(test, known.text);
    await releaseAll();
    await first;
    const keys = await Promise.all(
      Array.from({ length: KEY_HASHES_AT_ONCE_MAX + KEY_HASHES_WAITING_MAX + 3 }, () =>
        test.addKey("ReadOnly"),
      ),
    );
    const entered = keys.map(({ text }) => enter(test, text));
    // Nothing of it concerns who is known already.
    expect(test.auth.gate.enter(exchangeWith(bearer(known)))).not.toBeInstanceOf(Promise);
    await releaseAll();
    const results = await Promise.all(entered);
    expect(results.filter((result) => result === "OVERLOADED")).toHaveLength(3);
    expect(new Set(results).size).toBe(keys.length - 3 + 1);
    expect(counts.atOnceMost).toBe(KEY_HASHES_AT_ONCE_MAX);
    // It was the moment's refusal.
    const again = enter(test, keys.at(-1)!.text);
    await releaseAll();
    expect(await again).toBe(keys.at(-1)!.id);
  });

  it("throttle wrong credentials by address, and nothing else from there", async () => {
    const test = new TestAuth();
    const known = await test.addKey("Admin");
    const fresh = await test.addKey("Admin");
    await enter(test, known.text);
    const wrong = formatApiKey(makeApiKey(test.random));
    for (let i = 0; i < AUTH_FAILURES_PER_ADDRESS_BURST; i++) {
      expect(await enter(test, wrong)).toBe("UNAUTHENTICATED");
    }
    const refused = await Promise.resolve()
      .then(() => test.auth.gate.enter(exchangeWith(bearer(wrong))))
      .catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "RATE_LIMITED", headers: ["Retry-After", "1"] });
    expect(test.failures).toHaveLength(AUTH_FAILURES_PER_ADDRESS_BURST);
    expect(await enter(test, wrong, "192.0.2.2")).toBe("UNAUTHENTICATED");
    expect(await enter(test, known.text)).toBe(known.id);
    expect(await enter(test, fresh.text)).toBe(fresh.id);
    test.clock.advance(1_000);
    expect(await enter(test, wrong)).toBe("UNAUTHENTICATED");
    expect(await enter(test, wrong)).toBe("RATE_LIMITED");
  });

  it("throttle, by key, the secrets that are wrong only for Argon2", async () => {
    const { hasher, counts, releaseAll } = heldHasher();
    const test = new TestAuth({ hasher });
    const key = await test.addKey("Admin");
    const guesses = Array.from({ length: AUTH_FAILURES_PER_KEY_BURST + 1 }, () => ({
      id: key.id,
      secret: makeApiKey(test.random).secret,
    }));
    // Each of them passes the check, as one of 65,536 does.
    const results: string[] = [];
    for (const guess of guesses) {
      await test.changeKey(key.id, ({ secrets }) => {
        secrets[0]!.check = checkOf(key.id, guess.secret);
      });
      const entered = enter(test, formatApiKey(guess), `192.0.2.${results.length}`);
      await releaseAll();
      results.push(await entered);
    }
    expect(results.pop()).toBe("RATE_LIMITED");
    expect(new Set(results)).toEqual(new Set(["UNAUTHENTICATED"]));
    expect(counts.runs).toBe(AUTH_FAILURES_PER_KEY_BURST);
  });
});

describe("the last use of a key", () => {
  it("is written in the background, and seldom", async () => {
    const test = new TestAuth();
    const key = await test.addKey("Admin");
    const used = () => lastUsedAtMs(test.directory, key.id);
    await enter(test, key.text);
    expect(used()).toBe(0);
    test.clock.advance(2_000);
    const firstMs = test.clock.nowMs() - 2_000;
    await expect.poll(used).toBe(firstMs);
    const row = test.directory.get(keyUseRowName(key.id));
    test.clock.advance(599_000 - 2_000);
    await enter(test, key.text);
    test.clock.advance(2_000);
    await new Promise((resolve) => setImmediate(resolve));
    expect(test.directory.get(keyUseRowName(key.id))).toBe(row);
    await enter(test, key.text);
    test.clock.advance(2_000);
    await expect.poll(used).toBe(firstMs + 599_000 + 2_000);
  });

  it("is of no interest when it cannot be written, or the key is gone", async () => {
    const test = new TestAuth();
    const key = await test.addKey("Admin");
    await enter(test, key.text);
    test.directory.failure = new Error("no leader");
    test.clock.advance(2_000);
    expect(await enter(test, key.text)).toBe(key.id);
    test.directory.failure = undefined;
    test.clock.advance(600_000);
    await enter(test, key.text);
    await test.directory.change([{ name: keyRowName(key.id), value: undefined }]);
    test.clock.advance(2_000);
    await new Promise((resolve) => setImmediate(resolve));
    expect(test.directory.list("key-use/")).toEqual([]);
  });
});
