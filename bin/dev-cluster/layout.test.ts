import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { layoutOf, openClusterDirectory, socketPath } from "./layout.ts";
import { temporaryDirectory } from "./testing/temporary.ts";

describe("openClusterDirectory()", () => {
  it("makes the directory, and lets in one supervisor at a time", () => {
    const layout = layoutOf(join(temporaryDirectory(), "a", "b"));
    const lock = openClusterDirectory(layout);
    expect(() => openClusterDirectory(layout)).toThrow(/is running in .* already.*--dir/);
    lock.release();
    lock.release();
    openClusterDirectory(layout).release();
  });

  it("refuses what is somebody else's, and touches none of it", () => {
    const directory = temporaryDirectory();
    writeFileSync(join(directory, "thesis.tex"), "");
    expect(() => openClusterDirectory(layoutOf(directory))).toThrow('holds "thesis.tex"');
  });

  it("takes what a first start left that did not get far", () => {
    const directory = temporaryDirectory();
    writeFileSync(join(directory, "dev.json.tmp"), "{");
    mkdirSync(join(directory, "lost+found"));
    openClusterDirectory(layoutOf(directory)).release();
  });

  it("says what keeps it from using a directory", () => {
    const file = join(temporaryDirectory(), "file");
    writeFileSync(file, "");
    expect(() => openClusterDirectory(layoutOf(file))).toThrow(`cannot use the directory ${file}`);
  });
});

describe("socketPath()", () => {
  const deep = `/${"d".repeat(120)}`;

  it("takes the shorter of the absolute and the relative path", () => {
    expect(socketPath("/tmp/c/control.sock", "/var/www/site")).toBe("/tmp/c/control.sock");
    expect(socketPath(`${deep}/c/control.sock`, deep)).toBe("c/control.sock");
  });

  it("refuses what no system takes", () => {
    expect(() => socketPath(`${deep}/control.sock`, "/tmp")).toThrow(/too long.*shorter --dir/);
  });
});
