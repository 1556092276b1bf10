import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import { toNodeId } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import {
  type DataDirectory,
  type DataDirectoryOptions,
  openDataDirectory,
} from "./data-directory.ts";

let parent: string;
let path: string;
const opened: DataDirectory[] = [];

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "minikv-data-"));
  path = join(parent, "data");
});

afterEach(async () => {
  for (const directory of opened.splice(0)) await directory.close();
  await rm(parent, { recursive: true });
});

async function openIt(changes: Partial<DataDirectoryOptions> = {}): Promise<DataDirectory> {
  const directory = await openDataDirectory({
    path,
    nodeId: toNodeId(1),
    engine: "memory",
    clock: new ManualClock(),
    random: new SeededRandom(1),
    ...changes,
  });
  opened.push(directory);
  return directory;
}

describe("openDataDirectory()", () => {
  it("makes the directory, and knows it again", async () => {
    const first = await openIt();
    expect(first.created).toBe(true);
    expect(first.identity).toMatchObject({ format: 1, nodeId: 1, engine: "memory" });
    expect(first.identity.clusterId).toMatch(/^[0-9a-f]{32}$/);
    expect(first.walPath).toBe(join(path, "wal"));
    expect(first.enginePath).toBe(join(path, "engine"));
    await first.close();
    await first.close();
    const second = await openIt({ clusterId: first.identity.clusterId });
    expect(second.created).toBe(false);
    expect(second.identity).toEqual(first.identity);
    expect((await readdir(path)).sort()).toEqual(["LOCK", "identity.json"]);
  });

  it("refuses a second opening in the same process", async () => {
    await openIt();
    await expect(openIt()).rejects.toMatchObject({ code: "UNAVAILABLE" });
    await expect(openIt()).rejects.toThrow(/another process is using the data directory/);
  });

  it("refuses while another process holds it, and not once that was killed", async () => {
    const module = join(import.meta.dirname, "data-directory.ts");
    const program = `
      import { openDataDirectory } from ${JSON.stringify(module)};
      await openDataDirectory({
        path: ${JSON.stringify(path)}, nodeId: 1, engine: "memory",
        clock: { nowMs: () => 0 }, random: { fill: (target) => target },
      });
      process.stdout.write("locked");
      setInterval(() => {}, 1000);
    `;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const exited = once(child, "exit");
    try {
      const [output] = await Promise.race([once(child.stdout, "data"), exited]);
      expect(String(output)).toBe("locked");
      await expect(openIt()).rejects.toThrow(/another process is using the data directory/);
    } finally {
      child.kill("SIGKILL");
      await exited;
    }
    expect((await openIt()).created).toBe(false);
  });

  it("refuses a directory of another node, cluster, or engine", async () => {
    const first = await openIt({ nodeId: toNodeId(4), clusterId: "north" });
    await first.close();
    const same = { nodeId: toNodeId(4), clusterId: "north" };
    await expect(openIt({ ...same, nodeId: toNodeId(5) })).rejects.toThrow(
      /belongs to node 4, and this is node 5/,
    );
    await expect(openIt({ ...same, clusterId: "south" })).rejects.toThrow(
      /belongs to cluster north/,
    );
    await expect(openIt({ ...same, engine: "rocksdb" })).rejects.toThrow(
      /made with the storage engine "memory"/,
    );
    expect((await openIt(same)).created).toBe(false);
  });

  it("refuses a newer format", async () => {
    const first = await openIt();
    await first.close();
    const file = join(path, "identity.json");
    const identity = JSON.parse(await readFile(file, "utf8"));
    await writeFile(file, JSON.stringify({ ...identity, format: 2 }));
    await expect(openIt()).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(openIt()).rejects.toThrow(/has format 2/);
  });

  it("refuses a damaged identity", async () => {
    const first = await openIt();
    await first.close();
    const good = await readFile(join(path, "identity.json"), "utf8");
    for (const bad of ["", good.slice(0, 40), "[]", "null", '{"format":1}']) {
      await writeFile(join(path, "identity.json"), bad);
      await expect(openIt()).rejects.toMatchObject({ code: "DATA_CORRUPT" });
    }
  });

  it("refuses somebody else's directory, and leaves nothing in it", async () => {
    await mkdir(path);
    await writeFile(join(path, "thesis.txt"), "do not touch");
    await expect(openIt()).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(openIt()).rejects.toThrow(/not a minikv data directory/);
    expect(await readdir(path)).toEqual(["thesis.txt"]);
  });

  it("refuses a file in place of the directory", async () => {
    await writeFile(path, "");
    await expect(openIt()).rejects.toMatchObject({ code: "UNAVAILABLE" });
  });

  it("starts over what a first start left that was killed before it had an identity", async () => {
    await mkdir(path);
    await writeFile(join(path, "identity.json.tmp"), '{"form');
    expect((await openIt()).created).toBe(true);
  });
});
