/** What judges a round, on what a round could have left. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { SeededRandom } from "#shared/random.ts";
import type { KeyOperation } from "#test/linearizability/operation.ts";
import { makeValue } from "#test/torture/load/value.ts";
import { judge } from "./histories.ts";
import { SettledKeys } from "./settled-keys.ts";

const operation = (
  action: KeyOperation["action"],
  outcome: KeyOperation["outcome"],
  calledAt: number,
): KeyOperation => ({ action, outcome, calledAt, returnedAt: calledAt + 1 });

const GOOD = [
  operation({ kind: "put", value: "a.10" }, { kind: "stored", revision: 1, created: true }, 1),
  operation({ kind: "get" }, { kind: "found", revision: 1, value: "a.10" }, 3),
];
const LOST = [GOOD[0]!, operation({ kind: "get" }, { kind: "absent" }, 3)];

describe("judge()", () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "minikv-judge-"));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it("accepts good histories", () => {
    const verdict = judge(new Map([["k/1", GOOD]]), directory);
    expect(verdict).toMatchObject({ violations: [], operations: 2 });
  });

  it("tells of a bad one, and keeps it", () => {
    const histories = new Map([
      ["k/1", GOOD],
      ["k/2", LOST],
    ]);
    const { violations } = judge(histories, directory);
    expect(violations).toHaveLength(1);
    expect(violations[0]).toContain("broken: linearizable");
    const lines = readFileSync(join(directory, "k_2.ndjson"), "utf8").trim().split("\n");
    expect(lines.map((line) => JSON.parse(line))).toEqual(LOST);
  });
});

describe("SettledKeys", () => {
  let server: Server;
  let url: string;
  let answer: { readonly status: number; readonly etag: string; readonly body: string };

  beforeEach(async () => {
    answer = { status: 200, etag: '"1"', body: makeValue("a.10") };
    server = createServer((_, response) => {
      const { status, etag, body } = answer;
      response.writeHead(status, status === 200 ? { ETag: etag } : {}).end(body);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    url = `http://127.0.0.1:${address.port}`;
  });
  afterEach(() => server.close());

  const verify = (): Promise<readonly string[]> => {
    const settled = new SettledKeys();
    settled.add(new Map([["k", GOOD]]));
    return settled.verify([url], new SeededRandom(1), 10, performance.now() + 200);
  };

  it("finds a key as it was left", async () => {
    expect(await verify()).toEqual([]);
  });

  it("finds one that changed, went away, or cannot be read", async () => {
    answer = { ...answer, etag: '"2"' };
    expect(await verify()).toEqual(["k: held a.10 at 1, now a.10 at 2"]);
    answer = { status: 404, etag: "", body: JSON.stringify({ code: "KEY_NOT_FOUND" }) };
    expect(await verify()).toEqual(["k: held a.10 at 1, now  at 0"]);
    answer = { status: 503, etag: "", body: JSON.stringify({ code: "UNAVAILABLE" }) };
    expect(await verify()).toEqual(["k: cannot be read any more"]);
  });
});
