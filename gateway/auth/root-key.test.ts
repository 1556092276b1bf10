import { describe, expect, it } from "vitest";
import { AUTH_CONFIG, bearer, exchangeWith, plainHasher, TestAuth } from "#gateway/testing/auth.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { SeededRandom } from "#shared/random.ts";
import { formatApiKey, makeApiKey } from "./api-key.ts";
import { ROOT_ROW } from "./key-records.ts";
import { configuredRootKey } from "./root-key.ts";
import type { SecretHasher } from "./secret-hash.ts";
import { isAuthRequired, refuseAuthConfig } from "./settings.ts";

const KEY = formatApiKey(makeApiKey(new SeededRandom(3)));
const keyIn = (shown: readonly string[]) => /mkv_\S+/.exec(shown.join(""))?.[0];
const settle = () => new Promise((resolve) => setImmediate(resolve));

describe("the first root key", () => {
  it("is made when there is none, shown once, and lets its holder do everything", async () => {
    const first = new TestAuth({ config: AUTH_CONFIG });
    await expect.poll(() => first.shown.length).toBe(1);
    const key = keyIn(first.shown)!;
    const caller = await first.auth.gate.enter(exchangeWith(bearer(key)));
    expect(caller.principal).toMatchObject({ kind: "root", role: "ClusterAdmin", tenant: 1 });
    const { directory } = first;
    const again = new TestAuth({ config: AUTH_CONFIG, directory });
    await settle();
    again.clock.advance(10_000);
    await settle();
    expect(again.shown).toEqual([]);
    expect((await again.auth.gate.enter(exchangeWith(bearer(key)))).principal.kind).toBe("root");
  });

  it("is one, when two gateways start at once", async () => {
    const directory = new MemoryDirectory();
    const both = [7, 8].map(
      (seed) => new TestAuth({ config: AUTH_CONFIG, directory, random: new SeededRandom(seed) }),
    );
    await expect.poll(() => both.flatMap(({ shown }) => shown).length).toBe(1);
    for (const { clock } of both) clock.advance(10_000);
    await settle();
    expect(both.flatMap(({ shown }) => shown)).toHaveLength(1);
    const key = keyIn(both.flatMap(({ shown }) => shown))!;
    for (const { auth } of both) await auth.gate.enter(exchangeWith(bearer(key)));
  });

  it("waits until the directory is known, and tries again after a failure", async () => {
    const directory = new MemoryDirectory();
    directory.isKnown = false;
    const test = new TestAuth({ config: AUTH_CONFIG, directory });
    await settle();
    expect(directory.get(ROOT_ROW)).toBeUndefined();
    directory.isKnown = true;
    directory.failure = new Error("no leader");
    test.clock.advance(100);
    await settle();
    expect(test.shown).toEqual([]);
    directory.failure = undefined;
    test.clock.advance(100);
    await expect.poll(() => test.shown.length).toBe(1);
  });

  it("is shown also when the process is stopped while it is made: the stop waits", async () => {
    const { promise: mayHash, resolve: letHash } = Promise.withResolvers<void>();
    const hash: SecretHasher["hash"] = async (...args) => {
      await mayHash;
      return plainHasher.hash(...args);
    };
    const test = new TestAuth({ config: AUTH_CONFIG, hasher: { ...plainHasher, hash } });
    let isStopped = false;
    const stopping = Promise.resolve(test.auth.stopSteps[0]!.run(1_000)).then(() => {
      isStopped = true;
    });
    await settle();
    expect([isStopped, test.shown.length]).toEqual([false, 0]);
    letHash();
    await stopping;
    expect(test.shown).toHaveLength(1);
  });

  it("keeps no process from stopping for long", async () => {
    const { promise: never } = Promise.withResolvers<never>();
    const hasher = { ...plainHasher, hash: () => never };
    const test = new TestAuth({ config: AUTH_CONFIG, hasher });
    const stopping = Promise.resolve(test.auth.stopSteps[0]!.run(1_000));
    await settle();
    test.clock.advance(400);
    await stopping;
    expect(test.shown).toEqual([]);
  });

  it("is shown also when the answer to its making was lost", async () => {
    const directory = new MemoryDirectory();
    const change = directory.change.bind(directory);
    directory.change = async (mutations) => {
      await change(mutations);
      directory.change = change;
      throw new Error("the answer was lost");
    };
    const test = new TestAuth({ config: AUTH_CONFIG, directory });
    await settle();
    test.clock.advance(100);
    await expect.poll(() => test.shown.length).toBe(1);
    await test.auth.gate.enter(exchangeWith(bearer(keyIn(test.shown)!)));
  });

  it("is not made where the settings have one, or authentication is off", async () => {
    for (const config of [
      { ...AUTH_CONFIG, rootKey: KEY },
      { ...AUTH_CONFIG, auth: "off" },
    ] as const) {
      const test = new TestAuth({ config });
      await settle();
      test.clock.advance(1_000);
      await settle();
      expect(test.directory.get(ROOT_ROW)).toBeUndefined();
      expect(keyIn(test.shown)).toBeUndefined();
    }
  });

  it("is never stored as it is", async () => {
    let hashed = "";
    const hash = async (id: string, secret: string) => {
      hashed = secret;
      return { ...(await plainHasher.hash(id, secret)), hash: "hash" };
    };
    const test = new TestAuth({ config: AUTH_CONFIG, hasher: { ...plainHasher, hash } });
    await expect.poll(() => test.shown.length).toBe(1);
    const row = Buffer.from(test.directory.get(ROOT_ROW)!.value).toString("latin1");
    expect(hashed).toHaveLength(43);
    expect(keyIn(test.shown)).toContain(hashed);
    expect(row).not.toContain(hashed);
  });
});

describe("configuredRootKey()", () => {
  const of = (rootKey: string, rootKeyFile: string, contents?: string) =>
    configuredRootKey({ rootKey, rootKeyFile }, () => {
      if (contents === undefined) throw new Error("ENOENT");
      return contents;
    });

  it("takes it from the settings or a file, with the line's end", () => {
    expect(of("", "")).toBeUndefined();
    expect(of(KEY, "")).toBe(KEY);
    expect(of("", "f", `${KEY}\n`)).toBe(KEY);
  });

  it("refuses what is none, and does not repeat it", () => {
    const wrong = KEY.slice(0, -1) + (KEY.endsWith("x") ? "y" : "x");
    expect(() => of("", "f")).toThrow("root-key-file (f) cannot be read: ENOENT");
    for (const make of [
      () => of(wrong, ""),
      () => of("", "f", wrong),
      () => of("", "f", ""),
      () => of("", "f", `${" ".repeat(300)}${KEY}`),
    ]) {
      expect(make).toThrow("is no API key, or has a typing error");
      expect(make).not.toThrow(wrong);
    }
  });
});

describe("the setting auth", () => {
  const here = { host: "127.0.0.1", port: 1 };
  const anywhere = { host: "0.0.0.0", port: 1 };

  it("is on beyond this machine, and with a root key, unless it is said otherwise", () => {
    const auto = { ...AUTH_CONFIG, auth: "auto" } as const;
    expect(isAuthRequired(auto, here)).toBe(false);
    expect(isAuthRequired(auto, anywhere)).toBe(true);
    expect(isAuthRequired({ ...auto, rootKey: KEY }, here)).toBe(true);
    expect(isAuthRequired({ ...auto, rootKeyFile: "f" }, here)).toBe(true);
    expect(isAuthRequired({ ...auto, auth: "off", rootKey: KEY }, anywhere)).toBe(false);
    expect(isAuthRequired({ ...auto, auth: "required" }, here)).toBe(true);
  });

  it("goes with one root key", () => {
    expect(refuseAuthConfig({ ...AUTH_CONFIG, rootKey: KEY })).toBeUndefined();
    expect(refuseAuthConfig({ ...AUTH_CONFIG, rootKey: KEY, rootKeyFile: "f" })).toContain(
      "exclude",
    );
  });
});
