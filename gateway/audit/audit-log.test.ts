import { describe, expect, it } from "vitest";
import type { NumberedLine } from "./audit-log.ts";
import { hashOf, NO_HASH, placeOf } from "./entry.ts";
import { auditFixture, linesIn } from "./testing/fixture.ts";

/** A file in memory that can fail. */
class FakeFile {
  text = "";
  writes = 0;
  fails = false;
  closed = false;

  async append(text: string): Promise<void> {
    if (this.fails) throw Object.assign(new Error("no space"), { code: "ENOSPC" });
    this.writes++;
    this.text += text;
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

const eventsOf = (text: string) =>
  linesIn(text).map((line) => JSON.parse(line) as Record<string, unknown>);

function expectChain(lines: readonly string[]): void {
  let previous = NO_HASH;
  lines.forEach((line, at) => {
    expect(placeOf(line)).toEqual({ seq: at + 1, prev: previous });
    previous = hashOf(line);
  });
}

describe("AuditLog", () => {
  it("chains lines in the order of their records, many in one write", async () => {
    const file = new FakeFile();
    const { log, clock } = auditFixture({ file });
    for (let status = 0; status < 300; status++) log.record({ event: "admin", status });
    await log.flush();
    const lines = linesIn(file.text);
    expect(lines).toHaveLength(300);
    expectChain(lines);
    expect(file.writes).toBe(2);
    expect(eventsOf(file.text)[7]).toMatchObject({
      ...{ seq: 8, event: "admin", status: 7, gateway: "gw" },
      time: new Date(clock.nowMs()).toISOString(),
    });
  });

  it("keeps what it cannot write, says once that it cannot, and writes it when it can", async () => {
    const file = new FakeFile();
    const { log, clock, logged } = auditFixture({ file });
    file.fails = true;
    log.record({ event: "admin", status: 1 });
    await log.flush();
    log.record({ event: "admin", status: 2 });
    clock.advance(1_000);
    await log.flush();
    expect(log.trouble).toContain("cannot be written");
    expect(logged.filter((line) => line.includes("cannot be written"))).toHaveLength(1);
    expect(log.keptAfter(0, 10)).toEqual([]);
    file.fails = false;
    clock.advance(1_000);
    await log.flush();
    expect(eventsOf(file.text).map(({ status }) => status)).toEqual([1, 2]);
    expectChain(linesIn(file.text));
    expect(log.trouble).toBeUndefined();
    expect(logged.at(-1)).toContain("can be written again");
  });

  it("counts what its queue has no room for, and a line says so; data never takes all of it", async () => {
    const file = new FakeFile();
    const { log, clock } = auditFixture({ file, queueRecordsMax: 4 });
    file.fails = true;
    for (let n = 0; n < 10; n++) log.record({ event: "data" });
    log.record({ event: "admin" });
    log.record({ event: "admin" });
    expect(log.trouble).toContain("waits");
    log.record({ event: "admin" });
    await log.flush();
    file.fails = false;
    clock.advance(1_000);
    await log.flush();
    const events = eventsOf(file.text);
    expect(events.map(({ event }) => event)).toEqual(["data", "data", "admin", "admin", "lost"]);
    expect(events.at(-1)).toMatchObject({ count: 9 });
    expectChain(linesIn(file.text));
  });

  it("prints what is written, unless nobody takes it", async () => {
    const file = new FakeFile();
    const printed: string[] = [];
    const stdout = { writableLength: 0, write: (text: string) => printed.push(text) };
    const { log } = auditFixture({ file, stdout });
    log.record({ event: "admin" });
    await log.flush();
    stdout.writableLength = 2 * 1024 * 1024;
    log.record({ event: "admin" });
    await log.flush();
    expect(printed.join("")).toBe(`${linesIn(file.text)[0]}\n`);
  });

  it("goes on with a chain", async () => {
    const { log } = auditFixture({ end: { seq: 41, hash: "a".repeat(64) } });
    log.record({ event: "open" });
    await log.flush();
    const [{ line, seq }] = log.keptAfter(41, 10) as [NumberedLine];
    expect(seq).toBe(42);
    expect(placeOf(line)).toEqual({ seq: 42, prev: "a".repeat(64) });
    expect(log.keptAfter(40, 10)).toBeUndefined();
  });

  it("keeps the newest lines only, and tells those who wait of news", async () => {
    const { log } = auditFixture();
    let news = 0;
    void log.news.then(() => news++);
    for (let round = 0; round < 10; round++) {
      for (let n = 0; n < 1_000; n++) log.record({ event: "admin" });
      await log.flush();
    }
    expect(news).toBe(1);
    expect(log.lastSeq).toBe(10_000);
    expect(log.firstKeptSeq).toBeGreaterThan(1_000);
    expect(log.keptAfter(9_990, 5)!.map(({ seq }) => seq)).toEqual([9991, 9992, 9993, 9994, 9995]);
    expect(log.keptAfter(20_000, 5)).toEqual([]);
  });

  it("writes what waits when it closes, also after a failure, and takes nothing more", async () => {
    const file = new FakeFile();
    const { log } = auditFixture({ file });
    file.fails = true;
    log.record({ event: "admin" });
    await log.flush();
    file.fails = false;
    await log.close(1_000);
    log.record({ event: "admin" });
    expect(eventsOf(file.text).map(({ event }) => event)).toEqual(["admin", "close"]);
    expect(file.closed).toBe(true);
    expect(log.trouble).toBeDefined();
  });

  it("says what is lost when it cannot be written to the end", async () => {
    const file = new FakeFile();
    const { log, logged } = auditFixture({ file });
    file.fails = true;
    log.record({ event: "admin" });
    await log.close(1_000);
    expect(logged.at(-1)).toContain('"count":2');
    expect(file.closed).toBe(true);
  });
});
