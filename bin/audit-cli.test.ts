import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { CHAIN_START, chained, type Entry, hashOf } from "#gateway/audit/entry.ts";
import { runAuditCli } from "./audit-cli.ts";

const directory = mkdtempSync(join(tmpdir(), "minikv-audit-cli-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function chain(count: number, more: Partial<Entry> = {}): string[] {
  const lines: string[] = [];
  let end = CHAIN_START;
  for (let n = 0; n < count; n++) {
    // A line separator of Unicode, which is no newline.
    const entry = { time: "t", gateway: "g", event: "admin", principal: "a\u2028b" } as const;
    const next = chained({ ...entry, ...more }, end);
    lines.push(next.line);
    end = next.end;
  }
  return lines;
}

const LINES = chain(9);

function file(name: string, lines: readonly string[], ending = "\n"): string {
  const path = join(directory, name);
  writeFileSync(path, lines.join("\n") + ending);
  return path;
}

async function run(...argv: readonly string[]) {
  let out = "";
  let error = "";
  const code = await runAuditCli(argv, {
    out: (text) => void (out += text),
    error: (text) => void (error += text),
  });
  return { code, out, error };
}

describe("minikv audit verify", () => {
  const whole = file("whole.log", LINES);
  const anchor = hashOf(LINES[8]!);

  it("says that a chain is whole, and with which hash it ends", async () => {
    const { code, out, error } = await run("verify", whole);
    expect({ code, error }).toEqual({ code: 0, error: "" });
    expect(out).toContain("9 lines, numbers 1 to 9");
    expect(out).toContain(`last hash: ${anchor}`);
    expect(out).toContain("without --anchor");
    expect(out).toContain("the chain is whole");
  });

  it("takes the files of a log in any order, and leaves out what lies beside them", async () => {
    const first = file("log.000000000004", LINES.slice(0, 4));
    const second = file("log", LINES.slice(4));
    const beside = [file("log.lock", ["x"]), file("log.torn-0123456789abcdef", ["x"])];
    expect((await run("verify", second, ...beside, first, "--anchor", anchor)).code).toBe(0);
    const later = await run("verify", second);
    expect(later.code).toBe(0);
    expect(later.out).toContain("what came before number 5 is not in these files");
  });

  it("says that a chain began anew, and that nothing ties it to the one before", async () => {
    const moved = file("moved.log.1", chain(3, { time: "2026-01-01T00:00:00.000Z" }));
    const anew = chain(2, { time: "2026-01-02T00:00:00.000Z", anew: true });
    const current = file("moved.log", anew);
    const alone = await run("verify", current);
    expect(alone.code).toBe(0);
    expect(alone.out).toContain("this chain began anew: there was a log before it");
    const both = await run("verify", current, moved);
    expect(both.code).toBe(1);
    expect(both.error).toContain(`${current}:1: begins a new chain behind number 3`);
    expect(both.error).not.toContain("moved, repeated or put in");
    expect((await run("verify", whole)).out).not.toContain("began anew");
  });

  it("finds a line that was removed, and says where", async () => {
    const path = file("removed.log", LINES.toSpliced(3, 1));
    const { code, out, error } = await run("verify", path);
    expect(code).toBe(1);
    expect(error).toContain(`${path}:4: is number 5, and line 4 is missing`);
    expect(out).toContain("BROKEN");
  });

  it("finds a rotated file that is missing in the middle", async () => {
    const first = file("gap.000000000003", LINES.slice(0, 3));
    const third = file("gap", LINES.slice(6));
    const { code, error } = await run("verify", first, third);
    expect(code).toBe(1);
    expect(error).toContain(`${third}:1: is number 7, and lines 4 to 6 are missing`);
  });

  it("sees that the end was cut off only with an anchor", async () => {
    const path = file("cut.log", LINES.slice(0, 7));
    expect((await run("verify", path)).code).toBe(0);
    const { code, error } = await run("verify", path, "--anchor", anchor);
    expect(code).toBe(1);
    expect(error).toContain("no line has the hash of the anchor");
    const early = await run("verify", path, `--anchor=${hashOf(LINES[2]!)}`);
    expect(early.out).toContain("the anchor is number 3");
  });

  it("finds half a line at the end", async () => {
    const path = file("half.log", LINES.slice(0, 3), '\n{"seq":4,');
    const { code, error } = await run("verify", path);
    expect(code).toBe(1);
    expect(error).toContain(`${path}:4: is cut off`);
  });

  it("says what it needs, and exits with 2 for wrong use and 1 for what it cannot read", async () => {
    expect((await run("--help")).out).toContain("Usage: minikv audit verify");
    for (const wrong of [[], ["check", whole], ["verify"], ["verify", whole, "--anchor", "12"]]) {
      expect((await run(...wrong)).code).toBe(2);
    }
    expect((await run("verify", whole, "--nope")).code).toBe(2);
    const missing = await run("verify", join(directory, "none"));
    expect(missing.code).toBe(1);
    expect(missing.error).toContain("ENOENT");
  });
});
