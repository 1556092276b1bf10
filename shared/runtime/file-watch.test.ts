import { mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { FileWatch } from "./file-watch.ts";
import { createLogger } from "./log.ts";

const directory = mkdtempSync(join(tmpdir(), "minikv-watch-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
let files = 0;

function fixture(...texts: readonly string[]) {
  const lines: string[] = [];
  const paths = texts.map((text) => {
    const path = join(directory, `${files++}`);
    writeFileSync(path, text);
    return path;
  });
  const applied: string[] = [];
  const watch = new FileWatch(
    createLogger({ level: "info", program: "test", write: (line) => lines.push(line) }),
  );
  watch.add({
    name: "test files",
    paths,
    current: texts.map((text) => Buffer.from(text)),
    apply: (contents) => {
      const text = contents.join("+");
      if (text.includes("bad")) throw new Error("no good");
      applied.push(text);
    },
  });
  return { watch, paths, applied, lines };
}

describe("FileWatch", () => {
  it("takes over what has changed, once, and all of it together", async () => {
    const { watch, paths, applied, lines } = fixture("a", "b");
    await watch.look();
    expect(applied).toEqual([]);
    writeFileSync(paths[1]!, "bb");
    await watch.look();
    await watch.look();
    expect(applied).toEqual(["a+bb"]);
    expect(lines.join("")).toContain("test files: changed");
  });

  it("keeps what is in use when the new cannot be used or read, says so, and tries the next", async () => {
    const { watch, paths, applied, lines } = fixture("a");
    writeFileSync(paths[0]!, "bad");
    await watch.look();
    await watch.look();
    expect(lines.filter((line) => line.includes("no good"))).toHaveLength(1);
    unlinkSync(paths[0]!);
    await watch.look();
    expect(lines.join("")).toContain("ENOENT");
    writeFileSync(paths[0]!, "good again");
    await watch.look();
    expect(applied).toEqual(["good again"]);
  });

  it("follows links that are turned to another file", async () => {
    const { watch, paths, applied } = fixture("a");
    const other = join(directory, "other");
    writeFileSync(other, "c");
    unlinkSync(paths[0]!);
    symlinkSync(other, paths[0]!);
    await watch.look();
    expect(applied).toEqual(["c"]);
  });

  it("reads again when it is told to, and looks by itself", async () => {
    const { watch, paths, applied } = fixture("a");
    await watch.look();
    writeFileSync(paths[0]!, "b");
    void watch.reload();
    await expect.poll(() => applied).toEqual(["b"]);
    watch.start(5);
    writeFileSync(paths[0]!, "cc");
    await expect.poll(() => applied).toEqual(["b", "cc"]);
    watch.close();
  });
});
