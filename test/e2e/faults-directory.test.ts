/**
 * Data directories that must not be served: in use by another process, another node's, of a newer
 * format, or with a part missing. Each is refused with exit code 1 and one line that says what is
 * wrong, and is left as it was.
 */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { Copy, fill, tryOpening, waitForSeal } from "./faults/damage.ts";
import { KvClient } from "./faults/kv-client.ts";
import { Ledger } from "./faults/ledger.ts";
import { segmentPaths } from "./faults/log-files.ts";
import { makePayload } from "./faults/payload.ts";
import { type Deployment, describeEachDeployment, spawnMinikv, startAllInOne } from "./harness.ts";

const KiB = 1024;
const WAIT_TIMEOUT_MS = 20_000;
const SMALL_SEGMENTS = ["--wal-segment-size", "1MiB", "--disk-reserve", "1MiB"];

const PROGRAMS = {
  "all-in-one": "dev",
  pair: "storage-node",
  cluster: "storage-node",
} as const;

/** Starts another process on `dataDir` and answers the line with which it refuses. */
async function refusal(
  dataDir: string,
  program: "dev" | "storage-node" = "dev",
  args: readonly string[] = [],
): Promise<string> {
  const own = [program, "--listen", "127.0.0.1:0", "--data-dir", dataDir];
  const refused = spawnMinikv([...own, ...args]);
  expect(await refused.waitForExit()).toEqual({ code: 1, signal: null });
  expect(refused.stdout).toBe("");
  expect(refused.stderr).toMatch(/^minikv: cannot start: [^\n]*\n$/);
  return refused.stderr;
}

function copyOf(dataDir: string): Copy {
  const copy = new Copy(dataDir);
  onTestFinished(() => copy.remove());
  return copy;
}

describeEachDeployment("two processes on one data directory", (start) => {
  it("are one too many: the second is refused, the first goes on", async () => {
    const server = await start();
    const client = new KvClient(server.url);
    const ledger = new Ledger(client);
    await ledger.put("a", 100);
    const program = PROGRAMS[server.kind];
    for (let attempt = 1; attempt <= 2; attempt++) {
      const line = await refusal(server.dataDir, program);
      expect(line).toContain("another process is using the data directory");
      expect(line).toContain(server.dataDir);
      expect((await ledger.put("a", 100)).fate).toBe("applied");
    }
    // The lock is the process's own: nothing is stale after a kill.
    await server.kill9();
    await server.restart();
    await ledger.verify();
    await ledger.audit();
    client.close();
  });
});

describe("identity.json", () => {
  const changes: readonly [string, (text: string) => string, RegExp][] = [
    ["another node's", (text) => text.replace('"nodeId": 1', '"nodeId": 2'), /belongs to node 2/],
    ["a newer format's", (text) => text.replace('"format": 2', '"format": 3'), /has format 3/],
    ["damaged", (text) => text.slice(0, 40), /identity\.json is damaged/],
    ["gone", () => "", /is not a minikv data directory/],
  ];

  it("that is another node's, newer, damaged or gone is refused", async () => {
    const server = await startAllInOne();
    await server.stop();
    const path = join(server.dataDir, "identity.json");
    const original = readFileSync(path, "utf8");
    for (const [name, change, message] of changes) {
      const changed = change(original);
      expect(changed, name).not.toBe(original);
      if (changed === "") rmSync(path);
      else writeFileSync(path, changed);
      expect(await refusal(server.dataDir), name).toMatch(message);
      if (changed === "") expect(existsSync(path)).toBe(false);
      else expect(readFileSync(path, "utf8")).toBe(changed);
    }
    writeFileSync(path, original);
    await server.restart();
  });
});

describe("a data directory", () => {
  /** Killed when its log was compacted, with one more write in the newest segment. */
  async function compactedLog(): Promise<Deployment> {
    const server = await startAllInOne({ args: SMALL_SEGMENTS });
    const client = new KvClient(server.url);
    const ledger = new Ledger(client);
    const first = segmentPaths(server.dataDir)[0]!;
    const untilMs = performance.now() + WAIT_TIMEOUT_MS;
    for (let i = 0; existsSync(first); i++) {
      if (performance.now() > untilMs) throw new Error("the log was not compacted");
      expect((await ledger.put(`key-${i % 20}`, 64 * KiB)).fate).toBe("applied");
    }
    await waitForSeal(server.dataDir);
    expect((await ledger.put("key-0", 100)).fate).toBe("applied");
    await server.kill9();
    client.close();
    return server;
  }

  it("without the engine that its log was cut behind, without its log, or its end, is refused", async () => {
    const { dataDir } = await compactedLog();
    const noEngine = copyOf(dataDir).dataDir;
    rmSync(join(noEngine, "engine"), { recursive: true });
    const noLog = copyOf(dataDir).dataDir;
    rmSync(join(noLog, "wal"), { recursive: true });
    const noEnd = copyOf(dataDir);
    rmSync(noEnd.newestSegment);
    for (const damaged of [noEngine, noLog, noEnd.dataDir]) {
      const line = await refusal(damaged, "dev", SMALL_SEGMENTS);
      // Which of the two finds it depends on where the last compaction was recorded.
      expect(line).toMatch(
        /the engine has applied entry \d+, but the log holds|a segment that was still needed is gone|the log in .* is gone/,
      );
      expect(line).toMatch(/restore (the whole data directory|this node) from a backup/);
      // The first refusal must not turn into a start at the second attempt.
      expect(await refusal(damaged, "dev", SMALL_SEGMENTS)).toBe(line);
    }
  });

  it("without the engine, but with its whole log, is rebuilt from it", async () => {
    const server = await startAllInOne({ args: ["--wal-segment-size", "8MiB"] });
    const contents = await fill(server, 20);
    await server.kill9();
    const copy = copyOf(server.dataDir);
    rmSync(join(copy.dataDir, "engine"), { recursive: true });
    const opening = await tryOpening(copy.dataDir, "rocksdb", contents.keys());
    expect(opening).toMatchObject({ kind: "opened", contents });
  });

  it("whose log misses a segment at its beginning or in its middle is refused", async () => {
    // The log of the memory engine is never cut, so that there are many segments.
    const engine = ["--engine", "memory", ...SMALL_SEGMENTS];
    const server = await startAllInOne({ args: engine });
    const client = new KvClient(server.url);
    for (let i = 1; i <= 40; i++) {
      const body = makePayload({ key: `key-${i}`, sequence: i }, 128 * KiB);
      expect((await client.answer("PUT", `key-${i}`, { body })).status).toBe(201);
    }
    await server.kill9();
    client.close();
    const count = segmentPaths(server.dataDir).length;
    expect(count).toBeGreaterThan(3);
    for (const missing of [0, 1, count - 2]) {
      const copy = copyOf(server.dataDir);
      rmSync(segmentPaths(copy.dataDir)[missing]!);
      const line = await refusal(copy.dataDir, "dev", engine);
      expect(line).toContain("write-ahead log damaged");
      expect(line).toContain("docs/operations.md");
      expect(line).toMatch(
        missing === 0
          ? /a segment that was still needed is gone/
          : /batch \d+ is damaged or missing/,
      );
      // Refused, and nothing thrown away.
      expect(readdirSync(join(copy.dataDir, "wal"))).toHaveLength(count - 1);
    }
  });
});
