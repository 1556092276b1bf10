/**
 * What the load generators are given and what is read from their output. No load is made here: that
 * both generators and both servers work is seen by running the benchmark.
 */
import { describe, expect, it } from "vitest";
import { requestDrawer, toLoadResult } from "./autocannon.ts";
import { keyAt, makeDataset } from "./dataset.ts";
import { batchKeys, KEYS_PER_REQUEST, type LoadOrder } from "./load.ts";
import { etcdProtocol, minikvProtocol, renderRaw } from "./protocol.ts";
import { cutAtKey, cutAtKeys, parseWrkOutput, parseWrkVersion } from "./wrk.ts";

const OUTPUT = `Running 1s test @ http://127.0.0.1:18999
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   186.91us  658.84us   8.56ms   95.61%
    Req/Sec    58.14k     9.86k   71.81k    81.82%
  63493 requests in 1.10s, 7.45MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec:  57733.77
Transfer/sec:      6.77MB
RESULT {"requests":63493,"duration":1100000,"p50":60,"p90":90,"p99":1500,"p999":2500,"max":8560,"status":5,"connect":1,"read":2,"write":3,"timeout":4}
`;

describe("parseWrkOutput()", () => {
  it("reads figures and errors from the line of the script", () => {
    expect(parseWrkOutput(OUTPUT)).toEqual({
      requests: 63_493,
      durationMs: 1100,
      p50Ms: 0.06,
      p90Ms: 0.09,
      p99Ms: 1.5,
      p999Ms: 2.5,
      maxMs: 8.56,
      errors: { status: 5, socket: 6, timeout: 4 },
    });
  });

  it("throws without the line, or when a figure is missing from it", () => {
    expect(() => parseWrkOutput("unable to connect to 127.0.0.1:1\n")).toThrow("no result");
    expect(() => parseWrkOutput(OUTPUT.replace('"p99":1500,', ""))).toThrow("lacks p99");
  });
});

describe("parseWrkVersion()", () => {
  it("reads versions of Debian and of upstream", () => {
    expect(parseWrkVersion("wrk debian/4.1.0-3+b2 [epoll] Copyright")).toBe("4.1.0-3+b2");
    expect(parseWrkVersion("wrk 4.2.0 [kqueue] Copyright")).toBe("4.2.0");
    expect(parseWrkVersion("")).toBe("of unknown version");
  });
});

describe("cutAtKey()", () => {
  it.each([minikvProtocol, etcdProtocol])("gives pieces that fit any other key", (protocol) => {
    const value = Buffer.from("some value");
    const render = (key: string): Buffer => renderRaw(protocol.put({ key, value }), "host:1");
    const text = protocol.keyText(keyAt(1));
    const { head, tail } = cutAtKey(render(keyAt(1)), text);
    const joined = Buffer.concat([head, Buffer.from(protocol.keyText(keyAt(99_999))), tail]);
    expect(joined.toString()).toBe(render(keyAt(99_999)).toString());
  });

  it("refuses a request without the key", () => {
    expect(() => cutAtKey(Buffer.from("GET / HTTP/1.1"), "key")).toThrow("contains its key");
  });
});

describe("cutAtKeys()", () => {
  it.each([minikvProtocol, etcdProtocol])("gives pieces that fit any other keys", (protocol) => {
    const values = [Buffer.from("some"), Buffer.from("value")];
    const render = (keys: readonly string[]): string => {
      const entries = keys.map((key, i) => ({ key, value: values[i]! }));
      return renderRaw(protocol.batch(entries), "host:1").toString();
    };
    const text = (key: string): string => protocol.keyText(key);
    const pieces = cutAtKeys(render([keyAt(1), keyAt(2)]), [keyAt(1), keyAt(2)].map(text));
    const [head, middle, tail] = pieces;
    const joined = head + text(keyAt(7)) + middle + text(keyAt(99_999)) + tail;
    expect(pieces).toHaveLength(3);
    expect(joined).toBe(render([keyAt(7), keyAt(99_999)]));
  });
});

describe("batchKeys()", () => {
  it.each([1, 5, 100, 101, 4096, 100_000])("gives different keys of a dataset of %d", (count) => {
    for (const start of [0, count - 1, Math.floor(count / 2)]) {
      const keys = batchKeys(start, count);
      expect(new Set(keys).size).toBe(Math.min(count, KEYS_PER_REQUEST));
      expect(keys.every((key) => key >= 0 && key < count)).toBe(true);
    }
  });
});

describe("renderRaw()", () => {
  it("writes the length of a body and none without one", () => {
    const put = renderRaw(minikvProtocol.put({ key: "k", value: Buffer.from("abc") }), "h:1");
    expect(put.toString()).toBe(
      "PUT /v1/kv/k HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/octet-stream\r\n" +
        "Content-Length: 3\r\n\r\nabc",
    );
    const get = renderRaw(minikvProtocol.get("k"), "h:1");
    expect(get.toString()).toBe("GET /v1/kv/k HTTP/1.1\r\nHost: h:1\r\n\r\n");
  });
});

describe("makeDataset()", () => {
  it("gives the same values for the same seed and others for another", () => {
    const make = (seed: number): readonly Buffer[] =>
      makeDataset({ valueSizeBytes: 64, keysMax: 10, seed }).values;
    expect(make(1)).toEqual(make(1));
    expect(make(1)[0]).not.toEqual(make(2)[0]);
    expect(make(1)[0]).not.toEqual(make(1)[1]);
    expect(make(1).every((value) => value.length === 64)).toBe(true);
  });

  it("has fewer keys when values are large", () => {
    const count = (valueSizeBytes: number): number =>
      makeDataset({ valueSizeBytes, keysMax: 100_000, seed: 1 }).keyCount;
    expect(count(256)).toBe(100_000);
    expect(count(65_536)).toBe(4096);
  });
});

describe("etcdProtocol", () => {
  it("fills with transactions below etcd's limits on operations and bytes", () => {
    expect(etcdProtocol.fillEntriesMax(16)).toBe(128);
    const perRequest = etcdProtocol.fillEntriesMax(65_536);
    const value = Buffer.alloc(65_536, 0xff);
    const entries = Array.from({ length: perRequest }, (_, at) => ({ key: keyAt(at), value }));
    expect(etcdProtocol.fill(entries).body!.length).toBeLessThan(1.5 * 1024 * 1024);
    expect(etcdProtocol.fillEntriesMax(1024 * 1024)).toBe(1);
  });

  it("reads a value, an empty value and an absent key from an answer", () => {
    const read = (text: string): string | undefined =>
      etcdProtocol.valueOf(Buffer.from(text))?.toString();
    expect(read('{"header":{},"kvs":[{"key":"aw==","value":"YWJj"}],"count":"1"}')).toBe("abc");
    expect(read('{"header":{},"kvs":[{"key":"aw=="}],"count":"1"}')).toBe("");
    expect(read('{"header":{}}')).toBeUndefined();
  });
});

describe("requestDrawer()", () => {
  const draw = (work: LoadOrder["work"], seed: number): readonly string[] => {
    const next = requestDrawer({
      target: { protocol: minikvProtocol, hostname: "127.0.0.1", port: 1 },
      dataset: makeDataset({ valueSizeBytes: 8, keysMax: 100, seed: 1 }),
      work,
      connections: 1,
      durationS: 1,
      seed,
    });
    const given = { method: "GET", path: "/", headers: {}, body: Buffer.from("left over") };
    return Array.from({ length: 200 }, () => {
      const { method, path, body } = next(given);
      return `${method} ${path} ${body?.length ?? "none"}`;
    });
  };

  it("draws the same requests for the same seed", () => {
    expect(draw("mixed", 3)).toEqual(draw("mixed", 3));
    expect(draw("mixed", 3)).not.toEqual(draw("mixed", 4));
  });

  it("writes with a body, reads without one, and mixes both", () => {
    expect(draw("put", 3).every((text) => /^PUT \/v1\/kv\/bench-\d{10} 8$/.test(text))).toBe(true);
    expect(draw("get", 3).every((text) => /^GET \/v1\/kv\/bench-\d{10} none$/.test(text))).toBe(
      true,
    );
    const writes = draw("mixed", 3).filter((text) => text.startsWith("PUT")).length;
    expect(writes).toBeGreaterThan(60);
    expect(writes).toBeLessThan(140);
  });
});

describe("requests about many keys", () => {
  it.each([
    ["batch", /^POST \/v1\/batch /],
    ["scan", /^GET \/v1\/kv\?start=bench-\d{10}&limit=100 /],
  ] as const)("are drawn for %s", (work, form) => {
    const next = requestDrawer({
      target: { protocol: minikvProtocol, hostname: "127.0.0.1", port: 1 },
      dataset: makeDataset({ valueSizeBytes: 8, keysMax: 1_000, seed: 1 }),
      ...{ work, connections: 1, durationS: 1, seed: 3 },
    });
    const { method, path, body } = next({ method: "GET", path: "/", headers: {} });
    expect(`${method} ${path} `).toMatch(form);
    if (work === "scan") return;
    const { ops } = JSON.parse(String(body)) as { ops: readonly object[] };
    expect(ops).toHaveLength(KEYS_PER_REQUEST);
    expect(ops[0]).toMatchObject({ op: "put", value_base64: expect.stringMatching(/^.{12}$/) });
  });
});

describe("toLoadResult()", () => {
  it("counts each failure of autocannon once", () => {
    const result = toLoadResult({
      duration: 2.5,
      latency: { p50: 1, p90: 2, p99: 3, p99_9: 4, max: 5 },
      requests: { total: 1000 },
      non2xx: 7,
      errors: 5,
      timeouts: 2,
    });
    expect(result.errors).toEqual({ status: 7, socket: 3, timeout: 2 });
    expect(result.durationMs).toBe(2500);
    expect(result.p999Ms).toBe(4);
  });
});
