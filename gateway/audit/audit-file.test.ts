import {
  appendFileSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { ConfigError } from "#shared/runtime/config.ts";
import { type AuditFileOptions, filesOf, openAuditFile } from "./audit-file.ts";
import { CHAIN_START, type ChainEnd, chained, hashOf } from "./entry.ts";
import { auditDirectory } from "./testing/fixture.ts";

const { directory, remove } = auditDirectory();
let logs = 0;
const pathOfNew = (): string => join(directory, `${logs++}-audit.log`);
afterAll(remove);

/** Lines that go on from `end`. */
function linesFrom(
  end: ChainEnd,
  count: number,
): { readonly lines: string[]; readonly end: ChainEnd } {
  const lines: string[] = [];
  let last = end;
  for (let n = 0; n < count; n++) {
    const next = chained({ time: "t", gateway: "g", event: "admin", count: n }, last);
    lines.push(next.line);
    last = next.end;
  }
  return { lines, end: last };
}

const textOf = (lines: readonly string[]): string => lines.map((line) => `${line}\n`).join("");

async function open(path: string, more: Partial<AuditFileOptions> = {}) {
  const opened = await openAuditFile({ path, sizeBytesMax: 1_000_000, filesMax: 3, ...more });
  return opened;
}

describe("openAuditFile()", () => {
  it("says when a chain begins where there was one before", async () => {
    const path = pathOfNew();
    const first = await open(path);
    expect(first.isAnew).toBe(false);
    await first.file.append(textOf(linesFrom(first.end, 3).lines), 1);
    await first.file.close();
    const again = await open(path);
    expect(again.isAnew).toBe(false);
    await again.file.close();
    renameSync(path, `${path}.1`);
    const anew = await open(path);
    expect([anew.isAnew, anew.end]).toEqual([true, CHAIN_START]);
    await anew.file.close();
  });

  it("begins a chain, for its owner alone, and takes it up again", async () => {
    const path = pathOfNew();
    const first = await open(path);
    expect(first.end).toEqual(CHAIN_START);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const { lines, end } = linesFrom(first.end, 3);
    await first.file.append(textOf(lines), 1);
    await first.file.close();
    const again = await open(path);
    expect(again.end).toEqual(end);
    expect(again.torn).toBeUndefined();
    await again.file.append(textOf(linesFrom(end, 1).lines), 4);
    await again.file.close();
    expect(readFileSync(path, "utf8").split("\n")).toHaveLength(5);
  });

  it("puts aside what a crash has torn, whatever it is, and goes on behind the last whole line", async () => {
    for (const rest of ['{"seq":4,"time":"2', "\0".repeat(5_000), "é".repeat(20_000)]) {
      const path = pathOfNew();
      const { lines, end } = linesFrom(CHAIN_START, 3);
      writeFileSync(path, textOf(lines) + rest);
      const { end: found, torn, file } = await open(path);
      expect(found).toEqual(end);
      expect(torn).toEqual({ bytes: Buffer.byteLength(rest), sha256: hashOf(rest) });
      expect(readFileSync(path, "utf8")).toBe(textOf(lines));
      const aside = readFileSync(`${path}.torn-${torn!.sha256.slice(0, 16)}`, "utf8");
      expect(aside).toBe(rest);
      await file.close();
    }
  });

  it("begins anew behind nothing but a torn line", async () => {
    const path = pathOfNew();
    writeFileSync(path, '{"seq":1');
    const { end, torn, file } = await open(path);
    expect(end).toEqual(CHAIN_START);
    expect(torn?.bytes).toBe(8);
    await file.close();
  });

  it("refuses a file whose end is no audit log, and leaves it alone", async () => {
    const path = pathOfNew();
    for (const text of ["hello\n", '{"seq":0,"prev":""}\n', `${"x".repeat(3_000_000)}\n`]) {
      writeFileSync(path, text);
      await expect(open(path)).rejects.toThrow(ConfigError);
      expect(readFileSync(path, "utf8")).toBe(text);
    }
    await expect(open(join(directory, "none", "audit.log"))).rejects.toThrow(ConfigError);
  });

  it("refuses a file that somebody else writes", async () => {
    const path = pathOfNew();
    const { file } = await open(path);
    await expect(open(path)).rejects.toThrow("another gateway");
    await file.close();
    await (await open(path)).file.close();
  });
});

describe("AuditFile", () => {
  it("rotates by size, names files by their last line, and keeps so many", async () => {
    const path = pathOfNew();
    const { file } = await open(path, { sizeBytesMax: 1_000, filesMax: 2 });
    let end = CHAIN_START;
    for (let batch = 0; batch < 20; batch++) {
      const next = linesFrom(end, 2);
      await file.append(textOf(next.lines), end.seq + 1);
      end = next.end;
    }
    await file.close();
    const files = await filesOf(path);
    expect(files).toHaveLength(3);
    for (const { path: one, lastSeq } of files.slice(0, -1)) {
      const lines = readFileSync(one, "utf8").trimEnd().split("\n");
      expect(JSON.parse(lines.at(-1)!)).toMatchObject({ seq: lastSeq });
      expect(statSync(one).size).toBeLessThanOrEqual(1_000);
    }
    // The names sort as the numbers do.
    const names = files.map((one) => one.path);
    expect([...names.slice(0, -1)].sort()).toEqual(names.slice(0, -1));
    const again = await open(path);
    expect(again.end).toEqual(end);
    await again.file.close();
  });

  it("goes on from the newest rotated file when a crash has left no other", async () => {
    const path = pathOfNew();
    const { lines, end } = linesFrom(CHAIN_START, 12);
    writeFileSync(`${path}.000000000009`, textOf(lines.slice(0, 9)));
    writeFileSync(`${path}.000000000012`, textOf(lines.slice(9)));
    const { file, end: found } = await open(path);
    expect(found).toEqual(end);
    await file.close();
    expect(readdirSync(directory).filter((name) => name.endsWith("000000000012"))).toHaveLength(1);
  });

  it("overwrites what a failed write has left, when it tries again", async () => {
    const path = pathOfNew();
    const { file } = await open(path);
    const { lines } = linesFrom(CHAIN_START, 2);
    await file.append(textOf(lines.slice(0, 1)), 1);
    // As a write does that fails in the middle.
    appendFileSync(path, textOf(lines.slice(1)).slice(0, 20));
    await file.append(textOf(lines.slice(1)), 2);
    await file.close();
    expect(readFileSync(path, "utf8")).toBe(textOf(lines));
  });

  it.each([
    ["nothing in its place", ""],
    ["a file in its place", textOf(["somebody's line"])],
  ])("goes on in a new file when somebody has moved it away, with %s", async (_, instead) => {
    const path = pathOfNew();
    const { file } = await open(path);
    const { lines } = linesFrom(CHAIN_START, 3);
    await file.append(textOf(lines.slice(0, 1)), 1);
    // As a write does that fails in the middle.
    appendFileSync(path, "half a li");
    renameSync(path, `${path}-moved`);
    if (instead !== "") writeFileSync(path, instead);
    await file.append(textOf(lines.slice(1, 2)), 2);
    await file.append(textOf(lines.slice(2)), 3);
    await file.close();
    expect(readFileSync(`${path}-moved`, "utf8")).toBe(textOf(lines.slice(0, 1)));
    expect(readFileSync(path, "utf8")).toBe(instead + textOf(lines.slice(1)));
  });

  it("goes on at the end of a file that somebody has cut short", async () => {
    const path = pathOfNew();
    const { file } = await open(path);
    const { lines } = linesFrom(CHAIN_START, 3);
    await file.append(textOf(lines.slice(0, 2)), 1);
    truncateSync(path, 0);
    await file.append(textOf(lines.slice(2)), 3);
    await file.close();
    expect(readFileSync(path, "utf8")).toBe(textOf(lines.slice(2)));
  });
});
