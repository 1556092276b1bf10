/** Other bytes for a stored value, and values whose bytes are not what the client stored. */
import { describe, expect, it } from "vitest";
import { MemoryNodes } from "#gateway/testing/memory-nodes.ts";
import { EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
import { DEFAULT_TENANT, type Revision } from "#shared/ids.ts";

const ref = { tenant: DEFAULT_TENANT, key: utf8("key") };

async function setUp() {
  const nodes = new MemoryNodes();
  const options = { deadlineMs: nodes.clock.nowMs() + 30_000 };
  const put = { value: utf8("sealed"), contentType: "text/plain", ttlMs: 0 };
  await nodes.client.put(ref, { ...put, encoding: 1, logicalSizeBytes: 300 }, options);
  return { client: nodes.client, options };
}

const input = {
  ...{ revision: 1 as Revision, value: utf8("other"), encoding: 1, logicalSizeBytes: 300 },
  ...{ contentType: "text/plain", modifiedAtMs: 5 },
};

describe("StorageClient.reseal()", () => {
  it("replaces the bytes of the revision it names, and of no other", async () => {
    const { client, options } = await setUp();
    expect(await client.reseal(ref, input, options)).toEqual({ kind: "resealed" });
    const found = await client.get(ref, options);
    expect(found).toMatchObject({ revision: 1, valueSizeBytes: 300, encoding: 1 });
    expect(found?.value).toEqual(utf8("other"));
    const late = { ...input, revision: 7 as Revision };
    expect(await client.reseal(ref, late, options)).toEqual({ kind: "superseded" });
    const absent = { ...ref, key: utf8("none") };
    expect(await client.reseal(absent, input, options)).toEqual({ kind: "superseded" });
  });
});

describe("StorageClient", () => {
  it("counts the sizes that clients get, in batches and pages", async () => {
    const { client, options } = await setUp();
    const sizes: number[] = [];
    const admitValue = (size: number) => {
      sizes.push(size);
      return undefined;
    };
    const get = { kind: "get", key: ref.key } as const;
    await client.batch(DEFAULT_TENANT, [get], { ...options, admitValue });
    expect(sizes).toEqual([300]);
    const put = { value: utf8("plain"), contentType: "", ttlMs: 0 };
    await client.put({ ...ref, key: utf8("other") }, put, options);
    const all = { tenant: DEFAULT_TENANT, start: EMPTY_BYTES, end: EMPTY_BYTES, reverse: false };
    const scan = client.scan({ ...all, keysOnly: false, isStream: false });
    const page = await scan.nextPage({ rowsMax: 10, bytesMax: 300 }, options);
    expect(page.rows).toMatchObject([{ valueSizeBytes: 300, encoding: 1 }]);
    expect(page.hasMore).toBe(true);
  });
});
