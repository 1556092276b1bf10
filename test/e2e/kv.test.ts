/**
 * The key-value contract over real processes: bytes in, the same bytes out, whatever the key, and
 * every condition decided where the data is.
 */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { KEY_SIZE_BYTES_MAX, VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { type Deployment, describeEachDeployment, WITH_CLUSTER } from "./harness.ts";
import { expectProblem, HttpClient, jsonOf, revisionOf } from "./http-client.ts";
import { removeAll } from "./many-client.ts";

/** Path below `/v1/kv/`, and the key that it names, one character per byte. */
const KEYS: readonly (readonly [path: string, key: string])[] = [
  ["plain", "plain"],
  ["a/b/c", "a/b/c"],
  ["a//b", "a//b"],
  ["/leading", "/leading"],
  ["trailing/", "trailing/"],
  ["x%2Fy", "x/y"],
  ["%00", "\0"],
  ["a%00b", "a\0b"],
  [".", "."],
  ["..", ".."],
  ["../../etc/passwd", "../../etc/passwd"],
  ["%2e%2e/%2E%2E", "../.."],
  ["a\\b", "a\\b"],
  ["%FF%fe%C3", "\xff\xfe\xc3"],
  ["{tag}rest", "{tag}rest"],
  ["%7Btag%7Dother", "{tag}other"],
  ["a+b%20c", "a+b c"],
  ["q%3Fx%3D1%23h%25", "q?x=1#h%"],
  ["gr%C3%BC%C3%9Fe", "gr\xc3\xbc\xc3\x9fe"],
  ["k".repeat(KEY_SIZE_BYTES_MAX), "k".repeat(KEY_SIZE_BYTES_MAX)],
  ["%FF".repeat(KEY_SIZE_BYTES_MAX), "\xff".repeat(KEY_SIZE_BYTES_MAX)],
];

const key64Path = (key: Uint8Array): string =>
  `/v1/kv?key64=${Buffer.from(key).toString("base64url")}`;

describeEachDeployment(
  "the key-value contract",
  (start) => {
    let server: Deployment;
    let client: HttpClient;
    let keyCount = 0;
    /** A path that no other test uses. */
    const freshPath = (): string => `/v1/kv/fresh-${++keyCount}`;

    beforeAll(async () => {
      server = await start();
      client = new HttpClient(server.url);
    });
    beforeEach(() => removeAll(client));
    afterAll(() => client.close());

    describe("values", () => {
      it.each([
        ["empty", Buffer.alloc(0)],
        ["every byte", Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))],
        ["64 KiB of noise", randomBytes(64 * 1024)],
        ["the largest", randomBytes(VALUE_SIZE_BYTES_MAX)],
      ])("come back as they were: %s", async (_, value) => {
        const path = freshPath();
        const put = await client.put(path, value);
        expect(put.status).toBe(201);
        const got = await client.get(path);
        expect(got.status).toBe(200);
        expect(got.body.equals(value)).toBe(true);
        expect(got.headers["content-length"]).toBe(String(value.length));
      });

      it("sent in chunks of unknown number are stored whole", async () => {
        const path = freshPath();
        const value = randomBytes(100_000);
        const headers = { "Transfer-Encoding": "chunked" };
        expect((await client.put(path, value, headers)).status).toBe(201);
        expect((await client.get(path)).body.equals(value)).toBe(true);
      });

      it.each([{}, { "Transfer-Encoding": "chunked" }])(
        "of one byte too many are refused and leave the old one (%j)",
        async (headers) => {
          const path = freshPath();
          await client.put(path, "old");
          const tooLarge = Buffer.alloc(VALUE_SIZE_BYTES_MAX + 1);
          const refused = await client.put(path, tooLarge, headers);
          const problem = expectProblem(refused, "PAYLOAD_TOO_LARGE", "not_applied");
          expect(problem.limit).toBe(VALUE_SIZE_BYTES_MAX);
          expect((await client.get(path)).body.toString()).toBe("old");
        },
      );

      it("keep their content type; without one they are bytes", async () => {
        const path = freshPath();
        const type = 'text/plain; charset="utf-8"; x=1';
        await client.put(path, "v", { "Content-Type": type });
        expect((await client.get(path)).headers["content-type"]).toBe(type);
        await client.put(path, "v");
        expect((await client.get(path)).headers["content-type"]).toBe("application/octet-stream");
      });
    });

    describe("keys", () => {
      it("are byte strings: each is its own, by path and by key64", async () => {
        for (const [path, key] of KEYS) {
          const put = await client.put(`/v1/kv/${path}`, `value of ${key}`);
          expect([path, put.status]).toEqual([path, 201]);
        }
        for (const [path, key] of KEYS) {
          const value = Buffer.from(`value of ${key}`);
          const byPath = await client.get(`/v1/kv/${path}`);
          expect([path, byPath.body.equals(value)]).toEqual([path, true]);
          const byKey64 = await client.get(key64Path(Buffer.from(key, "latin1")));
          expect([path, byKey64.body.equals(value)]).toEqual([path, true]);
        }
      });

      it("are the same key however their bytes are spelt", async () => {
        await client.put("/v1/kv/same/key", "1");
        for (const spelling of ["same%2Fkey", "same%2fkey", "%73ame/key", "s%61me%2Fk%65y"]) {
          const put = await client.put(`/v1/kv/${spelling}`, "2");
          expect([spelling, put.status]).toEqual([spelling, 200]);
        }
        expect((await client.get("/v1/kv/same%252Fkey")).status).toBe(404);
      });

      it("of any bytes round-trip", async () => {
        for (let round = 0; round < 40; round++) {
          const key = randomBytes(1 + ((round * 7) % 60));
          const escaped = [...key].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
          const put = await client.put(`/v1/kv/${escaped}`, key);
          expect([key.toString("hex"), put.status]).toEqual([key.toString("hex"), 201]);
          expect((await client.get(key64Path(key))).body.equals(key)).toBe(true);
        }
      });

      it("are shown as text when they are UTF-8, else in base64url", async () => {
        const text = await client.put("/v1/kv/sch%C3%B6n%22", "v");
        expect(jsonOf(text)).toMatchObject({ key: 'schön"', created: true });
        const bytes = await client.put("/v1/kv/%FF%00", "v");
        expect(jsonOf(bytes)).toMatchObject({ key64: "_wA", created: true });
      });

      it("of 0 and of 1,025 bytes are refused", async () => {
        for (const path of [
          `/v1/kv/${"k".repeat(KEY_SIZE_BYTES_MAX + 1)}`,
          key64Path(Buffer.alloc(KEY_SIZE_BYTES_MAX + 1)),
        ]) {
          const problem = expectProblem(await client.put(path, "v"), "KEY_TOO_LONG", "not_applied");
          expect(problem).toMatchObject({
            limit: KEY_SIZE_BYTES_MAX,
            actual: KEY_SIZE_BYTES_MAX + 1,
          });
          expectProblem(await client.get(path), "KEY_TOO_LONG");
        }
        for (const path of ["/v1/kv/", "/v1/kv", "/v1/kv?key64="]) {
          expectProblem(await client.put(path, "v"), "INVALID_ARGUMENT", "not_applied");
        }
      });
    });

    describe("revisions", () => {
      it("count the changes of a vshard one by one, deletions too", async () => {
        // Keys with the same tag share a vshard, which has no other keys.
        const [a, b] = ["/v1/kv/a{revisions}", "/v1/kv/b{revisions}"];
        const before = revisionOf(await client.put(a, "1"));
        expect(jsonOf(await client.put(a, "1"))).toMatchObject({
          revision: before + 1,
          created: false,
        });
        const created = await client.put(b, "1");
        expect([created.status, revisionOf(created)]).toEqual([201, before + 2]);
        expect((await client.delete(a)).status).toBe(204);
        const again = await client.put(a, "2");
        expect([again.status, revisionOf(again)]).toEqual([201, before + 4]);
        const got = await client.get(b);
        expect(got.headers["minikv-revision"]).toBe(String(before + 2));
        expect(revisionOf(got)).toBe(before + 2);
      });

      it("do not move for a write that was refused", async () => {
        const path = "/v1/kv/x{unmoved}";
        const first = revisionOf(await client.put(path, "1"));
        await client.put(path, "2", { "If-None-Match": "*" });
        await client.put(path, "2", { "If-Match": `"${first + 9}"` });
        await client.delete("/v1/kv/absent{unmoved}");
        expect(revisionOf(await client.put(path, "2"))).toBe(first + 1);
      });
    });

    describe("conditions", () => {
      it("If-None-Match: * creates once, also when eight clients try", async () => {
        const path = freshPath();
        const tries = Array.from({ length: 8 }, (_, number) =>
          client.put(path, `by ${number}`, { "If-None-Match": "*" }),
        );
        const answers = await Promise.all(tries);
        const winners = answers.filter(({ status }) => status === 201);
        expect(winners).toHaveLength(1);
        for (const answer of answers.filter(({ status }) => status !== 201)) {
          expectProblem(answer, "CONDITION_FAILED", "not_applied");
          expect(answer.headers.etag).toBe(winners[0]!.headers.etag);
        }
        const winner = answers.indexOf(winners[0]!);
        expect((await client.get(path)).body.toString()).toBe(`by ${winner}`);
      });

      it("If-Match compares and swaps; a lost race names the current ETag", async () => {
        const path = freshPath();
        const { etag } = (await client.put(path, "1")).headers;
        const won = await client.put(path, "2", { "If-Match": etag! });
        expect(won.status).toBe(200);
        const lost = await client.put(path, "3", { "If-Match": etag! });
        expectProblem(lost, "CONDITION_FAILED", "not_applied");
        expect(lost.headers.etag).toBe(won.headers.etag);
        expect((await client.get(path)).body.toString()).toBe("2");
        const list = await client.put(path, "4", { "If-Match": `${etag!}, ${won.headers.etag}` });
        expect(list.status).toBe(200);
      });

      it("If-Match: * updates only what exists", async () => {
        const path = freshPath();
        const absent = await client.put(path, "1", { "If-Match": "*" });
        expectProblem(absent, "CONDITION_FAILED", "not_applied");
        expect(absent.headers.etag).toBeUndefined();
        expect((await client.get(path)).status).toBe(404);
        await client.put(path, "1");
        expect((await client.put(path, "2", { "If-Match": "*" })).status).toBe(200);
      });

      it("hold for DELETE too", async () => {
        const path = freshPath();
        const { etag } = (await client.put(path, "1")).headers;
        const refused = await client.delete(path, { "If-Match": '"999999"' });
        expectProblem(refused, "CONDITION_FAILED", "not_applied");
        expect(refused.headers.etag).toBe(etag);
        expect((await client.delete(path, { "If-Match": etag! })).status).toBe(204);
        expectProblem(await client.delete(path), "KEY_NOT_FOUND", "not_applied");
        expectProblem(await client.get(path), "KEY_NOT_FOUND");
      });
    });

    describe("reads", () => {
      it("If-None-Match with the current ETag gives 304 without a body", async () => {
        const path = freshPath();
        const { etag } = (await client.put(path, "value")).headers;
        for (const tags of [etag!, `"999", W/${etag}`, "*"]) {
          const same = await client.get(path, { "If-None-Match": tags });
          expect([same.status, same.body.length, same.headers.etag]).toEqual([304, 0, etag]);
        }
        expect((await client.get(path, { "If-None-Match": '"999"' })).status).toBe(200);
        await client.put(path, "other");
        expect((await client.get(path, { "If-None-Match": etag! })).status).toBe(200);
      });

      it("HEAD gives what GET gives, without the body", async () => {
        const path = freshPath();
        await client.put(path, "twelve bytes", { "Content-Type": "text/x", "Minikv-TTL": "100" });
        const got = await client.get(path);
        const head = await client.send("HEAD", path);
        expect([head.status, head.body.length]).toEqual([200, 0]);
        const names = [
          "etag",
          "content-length",
          "content-type",
          "minikv-revision",
          "minikv-expires-at",
        ];
        for (const name of [...names, "last-modified", "accept-ranges"]) {
          expect([name, head.headers[name]]).toEqual([name, got.headers[name]]);
          expect(head.headers[name]).toBeDefined();
        }
        expect((await client.send("HEAD", freshPath())).status).toBe(404);
      });

      it.each([
        ["bytes=0-0", 206, "a", "bytes 0-0/10"],
        ["bytes=3-5", 206, "def", "bytes 3-5/10"],
        ["bytes=7-", 206, "hij", "bytes 7-9/10"],
        ["bytes=-4", 206, "ghij", "bytes 6-9/10"],
        ["bytes=0-99", 206, "abcdefghij", "bytes 0-9/10"],
        ["bytes=1-2,4-5", 200, "abcdefghij", undefined],
        ["lines=1-2", 200, "abcdefghij", undefined],
      ])("Range: %s is answered with %i", async (range, status, body, contentRange) => {
        const path = freshPath();
        await client.put(path, "abcdefghij");
        const got = await client.get(path, { Range: range });
        expect([got.status, got.body.toString(), got.headers["content-range"]]).toEqual([
          status,
          body,
          contentRange,
        ]);
      });

      it("Range outside the value gives 416 with the size", async () => {
        const path = freshPath();
        await client.put(path, "abcdefghij");
        const outside = await client.get(path, { Range: "bytes=10-" });
        expectProblem(outside, "RANGE_NOT_SATISFIABLE");
        expect(outside.headers["content-range"]).toBe("bytes */10");
      });

      it("stale ones are served too, and their bound is checked", async () => {
        const path = freshPath();
        await client.put(path, "v");
        const stale = await client.get(`${path}?consistency=stale&max_staleness=5s`);
        expect([stale.status, stale.body.toString()]).toEqual([200, "v"]);
        expectProblem(
          await client.get(`${path}?consistency=stale&max_staleness=5`),
          "INVALID_ARGUMENT",
        );
      });
    });
  },
  WITH_CLUSTER,
);
