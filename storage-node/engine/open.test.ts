import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { utf8 } from "#shared/bytes.ts";
import { ENGINE_KINDS, openEngine } from "./open.ts";

let root = "";
let directory = "";
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), "minikv-open-"));
  directory = path.join(root, "not", "there", "yet");
});
afterEach(async () => {
  await rm(root, { recursive: true });
});

describe("openEngine()", () => {
  it.each(ENGINE_KINDS)("opens %s", async (kind) => {
    const engine = await openEngine({ kind, directory, cacheSizeBytes: 8 * 1024 * 1024 });
    expect(engine.name).toContain(kind);
    const batch = engine.batch();
    batch.put(utf8("key"), utf8("value"));
    await engine.write(batch);
    const value = await engine.get(utf8("key"));
    expect(value && Buffer.from(value).toString()).toBe("value");
    await engine.close();
  });

  it("opens the same kind again, also after a crash before the kind was recorded", async () => {
    await (await openEngine({ kind: "rocksdb", directory })).close();
    await writeFile(path.join(directory, "ENGINE"), "");
    await (await openEngine({ kind: "rocksdb", directory })).close();
    await (await openEngine({ kind: "rocksdb", directory })).close();
  });

  it("refuses a directory of another kind", async () => {
    await (await openEngine({ kind: "rocksdb", directory })).close();
    await expect(openEngine({ kind: "classic-level", directory })).rejects.toMatchObject({
      code: "UNAVAILABLE",
      message: expect.stringContaining('made by the engine "rocksdb", not "classic-level"'),
    });
    await (await openEngine({ kind: "rocksdb", directory })).close();
  });

  it("refuses a directory below a file", async () => {
    await writeFile(path.join(root, "file"), "");
    const below = path.join(root, "file", "engine");
    await expect(openEngine({ kind: "rocksdb", directory: below })).rejects.toMatchObject({
      name: "KvError",
      code: "UNAVAILABLE",
      message: expect.stringContaining(below),
    });
  });
});
