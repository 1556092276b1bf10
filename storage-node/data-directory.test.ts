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
import { soloMembership } from "./meta/founding.ts";

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

/** As node 1 of cluster "test", unless told otherwise. */
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

/** Makes the directory and gives it to a node. */
async function adopted(nodeId = toNodeId(1), clusterId = "test-0123"): Promise<DataDirectory> {
  const directory = await openIt({ nodeId });
  const self = {
    address: "",
    zone: "",
    host: "",
    capacityBytes: 0,
    joinToken: directory.joinToken,
    seeds: [],
    bootstrapExpect: 0,
  };
  await directory.adopt(soloMembership(nodeId, clusterId, self));
  return directory;
}

describe("openDataDirectory()", () => {
  it("makes the directory, and knows it again", async () => {
    const first = await openIt();
    expect(first.identity).toBeUndefined();
    await first.close();
    const again = await adopted();
    expect(again.joinToken).toEqual(first.joinToken);
    expect(again.identity).toMatchObject({
      format: 2,
      clusterId: "test-0123",
      nodeId: 1,
      engine: "memory",
      initialized: false,
    });
    expect(again.walPath).toBe(join(path, "wal"));
    expect(again.enginePath).toBe(join(path, "engine"));
    await again.markInitialized();
    await again.close();
    await again.close();
    for (const clusterId of ["test", "test-0123", undefined]) {
      const later = await openIt({ clusterId });
      expect(later.identity).toEqual({ ...again.identity, initialized: true });
      expect(later.map).toEqual(again.map);
      expect(later.founding).toEqual(again.founding);
      await later.close();
    }
    const names = ["LOCK", "cluster-map", "founding", "identity.json", "join-token"];
    expect((await readdir(path)).sort()).toEqual(names);
  });

  it("keeps the newest map, and refuses damaged ones", async () => {
    const first = await adopted();
    const map = { ...first.map!, version: 7 };
    await first.saveMap(map);
    await first.close();
    const second = await openIt();
    expect(second.map).toEqual(map);
    expect(second.founding?.map.version).toBe(0);
    await second.close();
    for (const name of ["cluster-map", "founding", "join-token"]) {
      const file = join(path, name);
      const good = await readFile(file);
      const bad = Buffer.from(good);
      bad[bad.length - 1]! ^= 1;
      await writeFile(file, name === "join-token" ? bad.subarray(1) : bad);
      await expect(openIt()).rejects.toMatchObject({ code: "DATA_CORRUPT" });
      await writeFile(file, good);
    }
    expect((await openIt()).map).toEqual(map);
  });

  it("keeps nothing of a membership that did not get its identity", async () => {
    const first = await adopted();
    await first.close();
    await rm(join(path, "identity.json"));
    const second = await openIt();
    expect([second.identity, second.map, second.founding]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect(second.joinToken).toEqual(first.joinToken);
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
    expect((await openIt()).identity).toBeUndefined();
  });

  it("refuses a directory of another node, cluster, or engine", async () => {
    const first = await adopted(toNodeId(4), "north");
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
    expect((await openIt(same)).identity?.nodeId).toBe(4);
  });

  it("refuses a newer format", async () => {
    const first = await adopted();
    await first.close();
    const file = join(path, "identity.json");
    const identity = JSON.parse(await readFile(file, "utf8"));
    await writeFile(file, JSON.stringify({ ...identity, format: 3 }));
    await expect(openIt()).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(openIt()).rejects.toThrow(/has format 3/);
  });

  it("refuses a damaged identity", async () => {
    const first = await adopted();
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
    expect((await openIt()).identity).toBeUndefined();
  });
});
