import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { makeDirectory, pathTrouble } from "./directories.ts";
import { lockFile } from "./file-lock.ts";

function temporary(): string {
  const path = mkdtempSync(join(tmpdir(), "minikv-directories-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const failed = (code: string) => Object.assign(new Error(`${code}: …`), { code });

function troubleOf(run: () => unknown, directory = ""): string {
  try {
    run();
  } catch (error) {
    return pathTrouble(error, directory);
  }
  throw new Error("this was to fail");
}

describe("makeDirectory()", () => {
  it("makes what is missing, with the mode, and leaves what is there", () => {
    const path = join(temporary(), "a", "b");
    makeDirectory(path, 0o700);
    expect(statSync(path).mode & 0o777).toBe(0o700);
    makeDirectory(path, 0o755);
    expect(statSync(path).mode & 0o777).toBe(0o700);
  });

  it("says that a file is in the way", () => {
    const file = join(temporary(), "file");
    writeFileSync(file, "");
    for (const path of [file, join(file, "under")]) {
      expect(troubleOf(() => makeDirectory(path, 0o700))).toContain("there is a file");
    }
  });

  it("fails at a link that leads nowhere only when something is made under it", () => {
    const link = join(temporary(), "link");
    symlinkSync(join(temporary(), "gone"), link);
    expect(troubleOf(() => makeDirectory(join(link, "x"), 0o700))).toContain("no such");
  });

  // `mkdir` with `recursive` does not end there.
  it.runIf(process.platform === "linux")("ends where nothing can be made", () => {
    const trouble = troubleOf(() => makeDirectory("/proc/minikv/data", 0o700));
    expect(trouble).toMatch(/no such directory|permission denied|read-only/);
  });
});

describe("pathTrouble()", () => {
  it("says why, and what to do", () => {
    expect(pathTrouble(failed("EROFS"), "")).toContain("read-only. Mount it writable");
    expect(pathTrouble(failed("ENOSPC"), "")).toContain("the disk is full. Free some space");
    for (const code of ["EACCES", "EPERM"]) {
      expect(pathTrouble(failed(code), "")).toMatch(/permission denied to .*user.*another place/);
    }
    expect(pathTrouble(failed("EIO"), "")).toBe("EIO: …");
    expect(pathTrouble("?", "")).toBe("?");
  });

  it("asks the system where SQLite could not lock", () => {
    const gone = join(temporary(), "gone");
    expect(troubleOf(() => lockFile(join(gone, "LOCK")), gone)).toContain("no such directory");
    const here = temporary();
    mkdirSync(join(here, "LOCK"));
    expect(troubleOf(() => lockFile(join(here, "LOCK")), here)).toContain("unable to open");
  });
});
