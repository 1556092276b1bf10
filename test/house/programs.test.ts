/** Programs that tests use: found where they are, and fetched from Debian where they are not. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { fetchPrograms, findProgram } from "#test/processes/programs.ts";

let root = "";
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "minikv-programs-"));
  mkdirSync(join(root, "bin"));
});
afterEach(() => rmSync(root, { recursive: true }));

const WANTED = [
  { program: "server", package: "the-server" },
  { program: "tool", package: "the-tools" },
];

function program(name: string, script: string): void {
  const path = join(root, "bin", name);
  writeFileSync(path, `#!/bin/sh\necho ${name} "$@" >> ${join(root, "calls")}\n${script}\n`);
  chmodSync(path, 0o755);
}

/** Makes the packages that are asked for; only with lists of its own, if it is told so. */
function fakeDebian(needsUpdate: boolean): void {
  const refuses = needsUpdate
    ? 'case "$*" in *Lists*) ;; *) echo "E: no list" >&2; exit 100;; esac'
    : ":";
  program(
    "apt-get",
    `case "$*" in *update) exit 0;; esac
${refuses}
while [ "$1" != download ]; do shift; done; shift
for name in "$@"; do echo > "$name"_1.0_all.deb; done`,
  );
  program(
    "dpkg-deb",
    `/bin/mkdir -p "$3/usr/sbin"
case "$3" in *the-server) echo > "$3/usr/sbin/server";; *) echo > "$3/usr/sbin/tool";; esac`,
  );
}

function fetched() {
  const lines: string[] = [];
  const options = {
    directory: join(root, "cache"),
    path: join(root, "bin"),
    wanted: WANTED,
    report: (line: string) => lines.push(line),
  };
  fetchPrograms(options);
  const found = WANTED.map((entry) => findProgram(entry.program, options));
  const calls = existsSync(join(root, "calls")) ? readFileSync(join(root, "calls"), "utf8") : "";
  return { lines, found, calls };
}

describe("fetchPrograms()", () => {
  it("does nothing when everything is there", () => {
    program("server", "");
    program("tool", "");
    expect(fetched()).toEqual({
      lines: [],
      found: [join(root, "bin", "server"), join(root, "bin", "tool")],
      calls: "",
    });
  });

  it.each([false, true])(
    "unpacks what is missing, and only once (own lists: %s)",
    (needsUpdate) => {
      fakeDebian(needsUpdate);
      program("tool", "");
      const { lines, found, calls } = fetched();
      expect(lines).toEqual([expect.stringContaining("fetching the-server from Debian")]);
      expect(found[0]).toBe(join(root, "cache", "the-server", "usr", "sbin", "server"));
      expect(calls.includes("update")).toBe(needsUpdate);
      expect(calls).not.toContain("install");
      expect(calls).not.toContain("the-tools");
      expect(fetched()).toEqual({ lines: [], found, calls });
    },
  );

  it("fetches all that is missing at once", () => {
    fakeDebian(false);
    const { found, calls } = fetched();
    expect(found).not.toContain(undefined);
    expect(calls).toContain("download the-server the-tools");
  });

  it.each([
    ["no apt-get", () => {}, "ENOENT"],
    [
      "no such package",
      () => program("apt-get", 'echo "E: not found" >&2; exit 100'),
      "E: not found",
    ],
    [
      "another package",
      () => {
        fakeDebian(false);
        program("dpkg-deb", '/bin/mkdir -p "$3"');
      },
      "not in its package",
    ],
  ])("says what is missing, and why: %s", (_, prepare, reason) => {
    prepare();
    const { lines, found } = fetched();
    expect(found).toEqual([undefined, undefined]);
    expect(lines.slice(1)).toEqual([
      expect.stringMatching(/^server is not installed .*: tests that need it are skipped$/),
      expect.stringMatching(/^tool is not installed .*: tests that need it are skipped$/),
    ]);
    expect(lines[1]).toContain(reason);
  });
});
