/** What only engines on a disk promise: after a kill, with damaged files, from another binding. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import { loadRocksDbBinding } from "#storage-node/engine/rocksdb-binding.ts";
import { openRocksDbNative } from "#storage-node/engine/rocksdb-native.ts";
import { openRocksDbNxtedition } from "#storage-node/engine/rocksdb-nxtedition.ts";
import {
  type Change,
  EngineModel,
  failureOf,
  put,
  readAll,
  text,
  writeChanges,
} from "./engine-model.ts";
import { COUNTER_KEY, DISK_ENGINES, ROWS_PER_BATCH, rowKey } from "./engine-writer.ts";

const WRITER = path.join(import.meta.dirname, "engine-writer.ts");

let directory = "";
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "minikv-engine-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

/** Lets a writer run until it has told of `batches`, and gives the last number heard of. */
async function runWriter(child: ChildProcess, batches: number): Promise<number> {
  let told = "";
  const ended = once(child, "close");
  child.stdout!.setEncoding("latin1").on("data", (chunk: string) => {
    told += chunk;
    if (lastNumber(told) >= batches) child.kill("SIGKILL");
  });
  const [, signal] = await ended;
  expect(signal).toBe("SIGKILL");
  return lastNumber(told);
}

/** The last number that stands on a whole line. */
function lastNumber(told: string): number {
  const lines = told.slice(0, told.lastIndexOf("\n") + 1).trimEnd();
  return Number(lines.slice(lines.lastIndexOf("\n") + 1));
}

describe.each(Object.entries(DISK_ENGINES))("engine %s on a disk", (name, open) => {
  it("keeps what write() took when the process is killed, and no half batch", async () => {
    for (const batches of [1, 150]) {
      const child = spawn(process.execPath, [WRITER, name, directory], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const told = await runWriter(child, batches);
      expect(told).toBeGreaterThanOrEqual(batches);
      const engine = await open({ directory });
      const counter = Number(text(await engine.get(COUNTER_KEY)));
      expect(counter).toBeGreaterThanOrEqual(told);
      const keys = Array.from({ length: counter * ROWS_PER_BATCH }, (_, i) =>
        rowKey(1 + Math.floor(i / ROWS_PER_BATCH), i % ROWS_PER_BATCH),
      );
      const found = await engine.getMany(keys);
      expect(found.every((value) => value?.length === 300)).toBe(true);
      await engine.close();
    }
  });

  it("refuses a directory that another process has open", async () => {
    const child = spawn(process.execPath, [WRITER, name, directory], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      await once(child.stdout!, "data");
      const error = await failureOf(() => open({ directory }));
      expect(error).toMatchObject({ name: "KvError", code: "UNAVAILABLE" });
      expect(error).toMatchObject({ message: expect.stringContaining("has it open") });
      expect(error).toMatchObject({ message: expect.stringContaining(directory) });
    } finally {
      child.stdout!.resume();
      const ended = once(child, "close");
      child.kill("SIGKILL");
      await ended;
    }
  });

  it("refuses a directory that this process has open", async () => {
    const engine = await open({ directory });
    expect(await failureOf(() => open({ directory }))).toMatchObject({ code: "UNAVAILABLE" });
    await writeChanges(engine, [put(utf8("a"), utf8("1"))]);
    await engine.close();
  });

  it("refuses damaged files with DATA_CORRUPT and the cause", async () => {
    const engine = await open({ directory });
    await writeChanges(engine, [put(utf8("a"), utf8("1"))]);
    await engine.close();
    for (const file of await readdir(directory)) {
      if (file.startsWith("MANIFEST")) await flipByte(path.join(directory, file), 0.5);
    }
    const error = await failureOf(() => open({ directory }));
    expect(error).toMatchObject({ name: "KvError", code: "DATA_CORRUPT" });
    expect(error).toMatchObject({ message: expect.stringContaining(directory) });
    expect(error).toHaveProperty("cause");
  });

  it("refuses a directory that is a file", async () => {
    const file = path.join(directory, "file");
    await writeFile(file, "");
    expect(await failureOf(() => open({ directory: file }))).toMatchObject({ code: "UNAVAILABLE" });
  });
});

const rocksDbs: [string, (options: { directory: string }) => Promise<Engine>][] = [
  ["rocksdb-native", openRocksDbNative],
];
const loaded = loadRocksDbBinding();
if (loaded.kind === "loaded") {
  rocksDbs.push([
    "@nxtedition/rocksdb",
    (options) => openRocksDbNxtedition(loaded.binding, options),
  ]);
}

describe.each(rocksDbs)("RocksDB through %s", (_, open) => {
  it("never answers from a damaged table file, and still closes", async () => {
    let engine = await open({ directory });
    const keys = Array.from({ length: 2000 }, (_, i) => utf8(`key ${i}`));
    await writeChanges(
      engine,
      keys.map((key) => put(key, new Uint8Array(100))),
    );
    await engine.close();
    // Opening writes what is in the log to a table file.
    await (await open({ directory })).close();
    for (const file of await readdir(directory)) {
      if (file.endsWith(".sst")) await flipByte(path.join(directory, file), 0.4);
    }
    engine = await open({ directory });
    const failures = await Promise.all(keys.map((key) => failureOf(() => engine.get(key))));
    const failed = failures.filter((failure) => failure !== undefined);
    expect(failed.length).toBeGreaterThan(0);
    for (const failure of failed) expect(failure).toMatchObject({ code: "DATA_CORRUPT" });
    expect(await failureOf(() => engine.getMany(keys))).toMatchObject({ code: "DATA_CORRUPT" });
    const iterator = engine.iterate({});
    const failure = await failureOf(() => readAll(iterator));
    expect(failure).toMatchObject({ code: "DATA_CORRUPT" });
    await engine.close();
  });

  it.each(rocksDbs)("opens what %s has written", async (_, other) => {
    const model = new EngineModel();
    const openers = [other, open, other, open];
    for (const [round, opener] of openers.entries()) {
      const engine = await opener({ directory });
      expect(await readAll(engine.iterate({}))).toEqual(model.rows());
      const changes: Change[] = Array.from({ length: 300 }, (_, i) => ({
        key: utf8(`key ${(i * (round + 1)) % 400}`),
        value: i % 5 === 4 ? undefined : utf8(`round ${round}`.repeat(20)),
      }));
      await writeChanges(engine, changes);
      model.apply(changes);
      if (round % 2 === 0) await engine.flush();
      await engine.close();
    }
  });
});

async function flipByte(file: string, where: number): Promise<void> {
  const bytes = await readFile(file);
  const position = Math.floor(bytes.length * where);
  bytes[position] = bytes[position]! ^ 0xff;
  await writeFile(file, bytes);
}
