import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { openGate } from "#gateway/auth/gate.ts";
import type { BodyStream } from "#gateway/http/exchange.ts";
import {
  AUDIT_FOLLOW_MS_MAX,
  AUDIT_HEARTBEAT_MS,
  AUDIT_STREAMS_MAX,
} from "#shared/audit-limits.ts";
import { openAuditFile } from "./audit-file.ts";
import { hashOf, placeOf } from "./entry.ts";
import { AuditRoute } from "./route.ts";
import { auditDirectory, auditFixture, fakeExchange, linesIn } from "./testing/fixture.ts";

const { directory, remove } = auditDirectory();
afterAll(remove);

async function fixture(options: { readonly inFile?: string; readonly records?: number } = {}) {
  const { inFile, records = 0 } = options;
  const path = inFile === undefined ? undefined : join(directory, inFile);
  const opened =
    path === undefined
      ? undefined
      : await openAuditFile({ path, sizeBytesMax: 200_000, filesMax: 100 });
  const { log, clock } = auditFixture({ file: opened?.file });
  // One at a time is slow on a disk; batches are what rotation is about.
  for (let n = 0; n < records; n++) log.record({ event: "admin", status: n });
  await log.flush();
  const route = new AuditRoute({ log, path, clock });
  const method = route.route.methods.get("GET")!;
  const ask = async (query = ""): Promise<BodyStream> => {
    const exchange = fakeExchange("GET", `/admin/audit${query}`);
    const caller = await openGate.enter(exchange);
    const answer = await method.run({ exchange, caller, parameter: () => "" });
    return answer.body as BodyStream;
  };
  return { log, clock, route, ask };
}

async function textOf(stream: BodyStream): Promise<string> {
  let text = "";
  for (;;) {
    const piece = await stream.next();
    if (piece === undefined) break;
    text += Buffer.from(piece).toString();
  }
  stream.close();
  return text;
}

const numbersIn = (text: string) => linesIn(text).map((line) => placeOf(line)?.seq);
const upTo = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, at) => first + at);

describe("GET /admin/audit", () => {
  it("gives the newest lines, or those behind a number", async () => {
    const { ask } = await fixture({ records: 1_200 });
    expect(numbersIn(await textOf(await ask()))).toEqual(upTo(201, 1_200));
    expect(numbersIn(await textOf(await ask("?limit=2")))).toEqual([1_199, 1_200]);
    expect(numbersIn(await textOf(await ask("?since=0&limit=3")))).toEqual([1, 2, 3]);
    expect(await textOf(await ask("?since=1200"))).toBe("");
    expect(await textOf(await ask("?since=99999"))).toBe("");
  });

  it("gives what memory has no more from the files, rotated ones too, without a hole", async () => {
    const { ask, log } = await fixture({ inFile: "many.log", records: 12_000 });
    expect(log.firstKeptSeq).toBeGreaterThan(3_000);
    const text = await textOf(await ask("?since=0&limit=12000"));
    expect(numbersIn(text)).toEqual(upTo(1, 12_000));
    const lines = linesIn(text);
    for (let at = 1; at < lines.length; at++) {
      expect(placeOf(lines[at]!)!.prev).toBe(hashOf(lines[at - 1]!));
    }
    expect(numbersIn(await textOf(await ask("?since=2500&limit=700")))).toEqual(upTo(2_501, 3_200));
    await log.close(1_000);
  });

  it("begins with the oldest line there is, when older ones are gone", async () => {
    const { ask, log } = await fixture({ records: 12_000 });
    const [first] = numbersIn(await textOf(await ask("?since=5&limit=1")));
    expect(first).toBe(log.firstKeptSeq);
  });

  it("waits for lines to come, sends a sign of life meanwhile, and ends after a time", async () => {
    const { ask, log, clock } = await fixture({ records: 3 });
    const stream = await ask("?follow=1");
    const next = stream.next();
    log.record({ event: "admin" });
    expect(numbersIn(Buffer.from((await next)!).toString())).toEqual([4]);
    const beat = stream.next();
    await settled();
    clock.advance(AUDIT_HEARTBEAT_MS);
    expect(Buffer.from((await beat)!).toString()).toBe("\n");
    clock.advance(AUDIT_FOLLOW_MS_MAX);
    expect(await stream.next()).toBeUndefined();
  });

  it("ends streams that wait when the server stops, and when their reader has gone", async () => {
    const { ask } = await fixture();
    const [stopped, left] = [await ask("?follow=1"), await ask("?follow=1")];
    const waiting = [stopped.next(), left.next()];
    await settled();
    left.close();
    stopped.stop();
    expect(await Promise.all(waiting)).toEqual([undefined, undefined]);
  });

  it("has so many streams at once, and refuses what it does not know", async () => {
    const { ask } = await fixture();
    const streams = [];
    for (let n = 0; n < AUDIT_STREAMS_MAX; n++) streams.push(await ask("?follow=1"));
    await expect(ask()).rejects.toThrow("run");
    streams[0]!.close();
    (await ask()).close();
    for (const query of ["?limit=0", "?limit=x", "?since=-1", "?follow=2", "?nope=1"]) {
      await expect(ask(query)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
  });

  it("is for the cluster's administrators", async () => {
    const { route } = await fixture();
    expect(route.route.methods.get("GET")!.access).toBe("cluster.audit");
  });
});

/** Lets promises that are ready run. */
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
