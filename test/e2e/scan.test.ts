/** `GET /v1/kv?…` over real processes, against a sorted model of what was stored. */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { compareBytes } from "#shared/bytes.ts";
import { SCAN_LIMIT_MAX, VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { type Deployment, describeEachDeployment, WITH_CLUSTER } from "./harness.ts";
import { expectProblem, HttpClient, jsonOf, type ProblemBody } from "./http-client.ts";
import { allPages, batch, count, keyOf, lines, page, removeAll, valueIn } from "./many-client.ts";

const base64url = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64url");

async function store(client: HttpClient, entries: readonly (readonly [Buffer, Buffer])[]) {
  for (let from = 0; from < entries.length; from += 500) {
    const ops = entries.slice(from, from + 500).map(([key, value]) => ({
      ...{ op: "put", key64: base64url(key), value_base64: value.toString("base64") },
    }));
    expect((await batch(client, ops)).every(({ status }) => status < 300)).toBe(true);
  }
}

const numbered = (count: number, prefix: string): Buffer[] =>
  Array.from({ length: count }, (_, i) => Buffer.from(`${prefix}${String(i).padStart(5, "0")}`));

describeEachDeployment("scans", (start) => {
  let server: Deployment;
  let client: HttpClient;

  beforeAll(async () => {
    server = await start();
    client = new HttpClient(server.url);
  });
  beforeEach(() => removeAll(client));
  afterAll(() => client.close());

  it("give what a sorted model gives, whatever is asked, while other keys change", async () => {
    const seed = Number(process.env.SEED ?? randomBytes(4).readUInt32LE());
    const random = new SeededRandom(seed);
    // Few different bytes, so that prefixes match and keys are prefixes of one another.
    const anyKey = (sizeMax: number): Buffer =>
      Buffer.from(
        Array.from(
          { length: 1 + random.below(sizeMax) },
          () => [0, 0x61, 0x7b, 0x7d, 0xff][random.below(5)]!,
        ),
      );
    const model = new Map<string, Buffer>();
    for (let i = 0; i < 700; i++)
      model.set(anyKey(7).toString("hex"), randomBytes(random.below(40)));
    const entries = [...model]
      .map(([hex, value]) => [Buffer.from(hex, "hex"), value] as const)
      .sort(([a], [b]) => compareBytes(a, b));
    await store(client, entries);
    // Keys with a byte of 1 are no part of the model and lie everywhere between its keys.
    const isOther = (key: Uint8Array): boolean => key.includes(1);
    let stopped = false;
    const writer = (async () => {
      while (!stopped) {
        const others = Array.from({ length: 20 }, () => Buffer.concat([anyKey(5), Buffer.of(1)]));
        const ops = others.map((key, i) =>
          i % 2 === 0
            ? { op: "put", key64: base64url(key), value: "other" }
            : { op: "delete", key64: base64url(key) },
        );
        await batch(client, ops);
      }
    })();
    try {
      for (let round = 0; round < 12; round++) {
        const bound = (name: string) =>
          random.below(2) === 0 ? { name, key: anyKey(3) } : { name, key: Buffer.alloc(0) };
        const [prefix, from, to] = ["prefix", "start", "end"].map(bound);
        const reverse = random.below(2) === 0;
        const limit = 30 + random.below(200);
        const query = [prefix!, from!, to!]
          .map(({ name, key }) => `${name}64=${base64url(key)}`)
          .concat(`reverse=${reverse}`)
          .join("&");
        const expected = entries.filter(
          ([key]) =>
            key.subarray(0, prefix!.key.length).equals(prefix!.key) &&
            compareBytes(key, from!.key) >= 0 &&
            (to!.key.length === 0 || compareBytes(key, to!.key) < 0),
        );
        if (reverse) expected.reverse();
        const hex = expected.map(([key, value]) => [key.toString("hex"), value.toString("hex")]);
        for (const found of [
          await allPages(client, `${query}&limit=${limit}`),
          await lines(client, query),
        ]) {
          const own = found.filter((item) => !isOther(keyOf(item)));
          const plain = own.map((item) => [
            keyOf(item).toString("hex"),
            valueIn(item).toString("hex"),
          ]);
          expect(plain, `seed ${seed}, ${query}, limit ${limit}`).toEqual(hex);
        }
      }
    } finally {
      stopped = true;
      await writer;
    }
  });

  it("list, count and stream many keys", async () => {
    const keys = numbered(4_000, "many/");
    await store(
      client,
      keys.map((key) => [key, key] as const),
    );
    expect(await count(client, "prefix=many/")).toBe(4_000);
    const streamed = await lines(client, "prefix=many/&keys_only");
    expect(streamed.map(({ key }) => key)).toEqual(keys.map(String));
    expect(streamed.every((item) => item.value === undefined && item.size === 10)).toBe(true);
    const most = await page(client, `prefix=many/&limit=${SCAN_LIMIT_MAX}`);
    expect(most.items.map(({ value }) => value)).toEqual(keys.slice(0, SCAN_LIMIT_MAX).map(String));
    expect(most.has_more).toBe(true);
    expect(await allPages(client, "prefix=many/&limit=999&reverse&keys_only")).toEqual(
      streamed.toReversed(),
    );
    const alias = await client.get("/range?prefix=many/&limit=2&consistency=stale");
    expect(JSON.parse(alias.body.toString())).toMatchObject({
      items: [{ key: "many/00000" }, { key: "many/00001" }],
    });
  });

  it("see what was written before them, and no more what was deleted", async () => {
    for (let round = 0; round < 20; round++) {
      await client.put("/v1/kv/fresh", `${round}`);
      expect((await page(client, "prefix=fresh")).items).toMatchObject([{ value: `${round}` }]);
      await client.delete("/v1/kv/fresh");
      expect(await count(client, "prefix=fresh")).toBe(0);
    }
  });

  it("of a prefix with a tag list the keys of one vshard", async () => {
    const keys = numbered(300, "{tagged}/");
    await store(
      client,
      keys.map((key) => [key, key] as const),
    );
    const found = await allPages(client, `prefix=${encodeURIComponent("{tagged}")}&limit=70`);
    expect(found.map(({ key }) => key)).toEqual(keys.map(String));
  });

  it("give values of the largest size, a few at a time", async () => {
    const keys = numbered(9, "large/");
    const values = keys.map(() => randomBytes(VALUE_SIZE_BYTES_MAX));
    for (const [i, key] of keys.entries()) await client.put(`/v1/kv/${key}`, values[i]!);
    const first = await page(client, "prefix=large/");
    expect(first.items.length).toBeLessThan(keys.length);
    for (const found of [
      await allPages(client, "prefix=large/"),
      await lines(client, "prefix=large/"),
    ]) {
      expect(found.map(({ key }) => key)).toEqual(keys.map(String));
      for (const [i, item] of found.entries()) expect(valueIn(item).equals(values[i]!)).toBe(true);
    }
  });

  it("never give an expired key", async () => {
    const keys = numbered(50, "short/");
    await batch(
      client,
      keys.map((key) => ({ op: "put", key: `${key}`, value: "v", ttl: 1 })),
    );
    const until = Date.now() + 1_000;
    let found = await page(client, "prefix=short/");
    for (const { expires_at } of found.items as readonly { expires_at?: string }[]) {
      expect(Date.parse(expires_at!)).toBeLessThanOrEqual(until + 1_000);
    }
    while (Date.now() < until + 1_000) {
      const askedMs = Date.now();
      found = await page(client, "prefix=short/");
      for (const { expires_at } of found.items as readonly { expires_at?: string }[]) {
        expect(Date.parse(expires_at!)).toBeGreaterThan(askedMs);
      }
    }
    expect((await page(client, "prefix=short/")).items).toEqual([]);
    expect(await count(client, "prefix=short/")).toBe(0);
    expect(await lines(client, "prefix=short/")).toEqual([]);
  });

  it("refuse a cursor of another query", async () => {
    const keys = numbered(2, "many/");
    await store(
      client,
      keys.map((key) => [key, key] as const),
    );
    const { cursor } = await page(client, "prefix=many/&limit=1");
    for (const query of ["prefix=man", "prefix=many/&reverse", ""]) {
      expectProblem(await client.get(`/v1/kv?${query}&cursor=${cursor}`), "INVALID_ARGUMENT");
    }
    expectProblem(await client.get("/v1/kv?limit=1001"), "INVALID_ARGUMENT");
    expectProblem(await client.get("/v1/kv?cursor=////"), "INVALID_ARGUMENT");
  });
});

describeEachDeployment(
  "scans over a restart",
  (start) => {
    it("go on with their cursor, or say that they broke off", async () => {
      const server = await start();
      const client = new HttpClient(server.url);
      const keys = numbered(3_000, "k");
      await store(
        client,
        keys.map((key) => [key, randomBytes(2_000)] as const),
      );
      const first = await page(client, "prefix=k&limit=500&keys_only");
      // Streams run while the storage goes away: what they give is a whole beginning.
      const streams = Array.from({ length: 4 }, () =>
        client.get("/v1/kv?prefix=k", { Accept: "application/x-ndjson" }).catch(() => undefined),
      );
      await server.storageProcess.kill9();
      await server.restart();
      for (const answer of await Promise.all(streams)) {
        if (answer === undefined) continue;
        if (answer.status !== 200) {
          // It had not begun, and on a busy machine waited for longer than it may.
          const { code } = jsonOf(answer) as ProblemBody;
          expect(["UNAVAILABLE", "DEADLINE_EXCEEDED"]).toContain(code);
          continue;
        }
        const found = answer.body
          .toString()
          .trimEnd()
          .split("\n")
          .map((line) => JSON.parse(line) as { key?: string });
        const given = found.filter(({ key }) => key !== undefined).map(({ key }) => key);
        expect(given).toEqual(keys.slice(0, given.length).map(String));
        if (given.length < keys.length) expect(found.at(-1)).toHaveProperty("error");
      }
      const again = new HttpClient(server.url);
      const rest = await allPages(again, `prefix=k&limit=500&keys_only`);
      expect(rest.map(({ key }) => key)).toEqual(keys.map(String));
      const second = await page(again, `prefix=k&limit=500&keys_only&cursor=${first.cursor}`);
      expect(second.items.map(({ key }) => key)).toEqual(keys.slice(500, 1_000).map(String));
      client.close();
      again.close();
    });
  },
  WITH_CLUSTER,
);
