/** `POST /v1/batch` over real processes: each operation for itself, all of them durable. */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  BATCH_BODY_SIZE_BYTES_MAX,
  BATCH_OPERATIONS_MAX,
  VALUE_SIZE_BYTES_MAX,
} from "#shared/limits.ts";
import { type Deployment, describeEachDeployment, WITH_CLUSTER } from "./harness.ts";
import { expectProblem, HttpClient } from "./http-client.ts";
import { batch, count, keyOf, type Op, removeAll, sendBatch, valueIn } from "./many-client.ts";

const put = (key: string, value: string): Op => ({ op: "put", key, value });
const get = (key: string): Op => ({ op: "get", key });

describeEachDeployment(
  "batches",
  (start) => {
    let server: Deployment;
    let client: HttpClient;

    beforeAll(async () => {
      server = await start();
      client = new HttpClient(server.url);
    });
    beforeEach(() => removeAll(client));
    afterAll(() => client.close());

    it("store, read and delete, each operation with the result it has alone", async () => {
      const results = await batch(client, [
        { ...put("a", "1"), content_type: "text/plain" },
        ...[put("a", "2"), get("a"), { op: "delete", key: "a" }, get("a")],
        { op: "delete", key: "never" },
        { ...put("b", "1"), if_match: "*" },
        { ...put("b", "1"), if_none_match: "*" },
      ]);
      expect(results.map(({ status }) => status)).toEqual([201, 200, 200, 204, 404, 404, 412, 201]);
      expect(results[2]).toMatchObject({ value: "2", content_type: "application/octet-stream" });
      const alone = await client.get("/v1/kv/b");
      expect([alone.status, alone.headers.etag]).toEqual([200, `"${results.at(-1)!.revision}"`]);
    });

    it("hold any bytes", async () => {
      const keys = Array.from({ length: 200 }, (_, i) => randomBytes(1 + (i % 40)));
      const values = keys.map((_, i) => randomBytes((i * 37) % 3_000));
      const puts = keys.map((key, i) => ({
        ...{ op: "put", key64: key.toString("base64url") },
        value_base64: values[i]!.toString("base64"),
      }));
      await batch(client, puts);
      const last = new Map(keys.map((key, i) => [key.toString("hex"), values[i]!]));
      const gets = keys.map((key) => ({ op: "get", key64: key.toString("base64url") }));
      for (const [i, result] of (await batch(client, gets)).entries()) {
        expect(keyOf(result).equals(keys[i]!)).toBe(true);
        expect(valueIn(result).equals(last.get(keys[i]!.toString("hex"))!)).toBe(true);
      }
    });

    it("may be as large as they may", async () => {
      const puts = Array.from({ length: BATCH_OPERATIONS_MAX }, (_, i) =>
        put(`large-${i}`, `${i}`),
      );
      expect((await batch(client, puts)).every(({ status }) => status === 201)).toBe(true);
      expect(await count(client, "prefix=large-")).toBe(BATCH_OPERATIONS_MAX);
      const gets = puts.map(({ key }) => get(key as string));
      expect((await batch(client, gets)).map(({ value }) => Number(value))).toEqual(
        puts.map((_, i) => i),
      );
      // Values that do not fit one command of their vshard, and more than one stream message.
      const value = "v".repeat(VALUE_SIZE_BYTES_MAX);
      const seven = Array.from({ length: 7 }, (_, i) => put(`huge-${i}{t}`, value));
      expect((await batch(client, seven)).map(({ status }) => status)).toEqual(
        new Array(7).fill(201),
      );
      const read = await batch(
        client,
        seven.map(({ key }) => get(key as string)),
      );
      expect(read.every((result) => result.value === value)).toBe(true);
    });

    it("of many clients on the same keys take effect one write after the other", async () => {
      const clients = Array.from({ length: 8 }, () => new HttpClient(server.url));
      const keys = Array.from({ length: 10 }, (_, i) => `shared-${i}{one}`);
      let writes = 0;
      const seen = new Set<number>();
      await Promise.all(
        clients.map(async (each, number) => {
          for (let round = 0; round < 10; round++) {
            const ops = keys.flatMap((key) => [put(key, `${number}-${round}`), get(key)]);
            for (const { op, revision } of await batch(each, ops)) {
              if (op === "get") continue;
              writes++;
              expect(seen.has(revision!)).toBe(false);
              seen.add(revision!);
            }
          }
          each.close();
        }),
      );
      // Nothing else is written meanwhile: the vshard's revisions are without holes.
      const least = Math.min(...seen);
      const expected = Array.from({ length: writes }, (_, i) => least + i);
      expect([...seen].sort((a, b) => a - b)).toEqual(expected);
    });

    it("give values a time to live", async () => {
      const [stored] = await batch(client, [{ ...put("short", "v"), ttl: 1 }]);
      expect(stored!.status).toBe(201);
      await expect
        .poll(async () => (await batch(client, [get("short")]))[0]!.status, { timeout: 20_000 })
        .toBe(404);
      expect(await count(client, "prefix=short")).toBe(0);
    });

    describe("that are refused", () => {
      it.each<[string, string | Buffer, Parameters<typeof expectProblem>[1]]>([
        ["are no JSON", "{", "INVALID_ARGUMENT"],
        ["are JSON of another form", "[]", "INVALID_ARGUMENT"],
        ["have a bad operation", '{"ops":[{"op":"put","key":"x","value":1}]}', "INVALID_ARGUMENT"],
        ["are nested without end", "[".repeat(BATCH_BODY_SIZE_BYTES_MAX), "INVALID_ARGUMENT"],
        ["are a heap of lists", `[${"[],".repeat(2_000_000)}[]]`, "PAYLOAD_TOO_LARGE"],
        ["are too large", Buffer.alloc(BATCH_BODY_SIZE_BYTES_MAX + 1, 32), "PAYLOAD_TOO_LARGE"],
      ])("%s: as a whole, and the server goes on", async (_, body, code) => {
        const headers = { "Content-Type": "application/json" };
        const answer = await client.send("POST", "/v1/batch", { headers, body });
        expectProblem(answer, code, "not_applied");
        expect((await client.get("/health/live")).status).toBe(200);
      });

      it("change nothing, although some of it was good", async () => {
        const good = Array.from({ length: 50 }, (_, i) => put(`refused-${i}`, "v"));
        const bad = await sendBatch(client, [...good, { op: "put", key: "", value: "" }]);
        expectProblem(bad, "INVALID_ARGUMENT", "not_applied");
        expect(await count(client, "prefix=refused-")).toBe(0);
        const tooMany = Array.from({ length: BATCH_OPERATIONS_MAX + 1 }, () => put("refused-", ""));
        expectProblem(await sendBatch(client, tooMany), "PAYLOAD_TOO_LARGE", "not_applied");
        expect(await count(client, "prefix=refused-")).toBe(0);
      });
    });
  },
  WITH_CLUSTER,
);

describeEachDeployment(
  "batches and kill -9",
  (start) => {
    it("what was answered is there, and what was not is there or not, key by key", async () => {
      const server = await start();
      const client = new HttpClient(server.url);
      const stored = new Set<string>();
      const doubtful = new Set<string>();
      let stopped = false;
      const lane = async (number: number): Promise<void> => {
        for (let round = 0; !stopped; round++) {
          const keys = Array.from({ length: 20 }, (_, i) => `k-${number}-${round}-${i}`);
          const answer = await sendBatch(
            client,
            keys.map((key) => put(key, key)),
          ).catch(() => undefined);
          const results =
            answer?.status === 200
              ? (JSON.parse(answer.body.toString()) as { results: { status: number }[] }).results
              : [];
          for (const [i, key] of keys.entries()) {
            if (results[i]?.status === 201) stored.add(key);
            else doubtful.add(key);
          }
        }
      };
      const lanes = Array.from({ length: 4 }, (_, number) => lane(number));
      for (let round = 0; round < 2; round++) {
        await expect
          .poll(() => stored.size, { timeout: 60_000 })
          .toBeGreaterThan(200 * (round + 1));
        await server.storageProcess.kill9();
        await server.restart();
      }
      stopped = true;
      await Promise.all(lanes);
      const reader = new HttpClient(server.url);
      const keys = [...stored, ...doubtful];
      for (let from = 0; from < keys.length; from += 500) {
        const part = keys.slice(from, from + 500);
        for (const [i, { status, value }] of (await batch(reader, part.map(get))).entries()) {
          const key = part[i]!;
          if (stored.has(key)) expect([key, status]).toEqual([key, 200]);
          if (status === 200) expect(value).toBe(key);
        }
      }
      client.close();
      reader.close();
    });
  },
  WITH_CLUSTER,
);
