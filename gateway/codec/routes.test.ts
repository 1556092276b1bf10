/** The routes about keys, and what they do to the rows of the directory. */
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { beforeEach, describe, expect, it } from "vitest";
import { JOB_ROWS } from "#gateway/jobs/job.ts";
import { problemOf, type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { JobRecordSchema, SigningKeyRecordSchema } from "#proto/gen/minikv/v1/directory_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import { REWRAP_ROWS_PER_CHANGE } from "#shared/limits-codec.ts";
import { SeededRandom } from "#shared/random.ts";
import { readDataKeyRow } from "./data-key-rows.ts";
import { keyWrapperOf } from "./master-keys.ts";
import { rewrapAll } from "./master-rotation.ts";
import { masterKeys, OTHER_TENANT, putOf, refOf, World } from "./testing.ts";

const KEY_ROW = "data-key/00000001/00000001";
let gateway: TestGateway;
beforeEach(() => {
  gateway = testGateway();
});

const encoded = (record: MessageInitShape<typeof JobRecordSchema>) =>
  toBinary(JobRecordSchema, create(JobRecordSchema, record));
const post = (target: string, init: RequestInit = {}) =>
  gateway.app.request(target, { method: "POST", ...init });
const status = async () =>
  (await (await gateway.app.request("/admin/encryption")).json()) as Record<string, unknown>;

describe("POST /admin/tenants/{name}/rotate-key", () => {
  it("makes a key and the job that brings all values under it, and only one at a time", async () => {
    const response = await post("/admin/tenants/default/rotate-key");
    expect(response.status).toBe(202);
    expect(await response.json()).toEqual({ tenant: "default", data_key: 1 });
    expect(gateway.directory.list("").map(({ name }) => name)).toEqual([
      ...["data-key/00000001/00000001", "job/reseal/00000001"],
    ]);
    const again = await post("/admin/tenants/default/rotate-key");
    expect(again.status).toBe(409);
    expect(await problemOf(again)).toMatchObject({ code: "ALREADY_EXISTS" });
    expect(gateway.directory.list("data-key/")).toHaveLength(1);
    await gateway.directory.change([{ name: `${JOB_ROWS}reseal/00000001`, value: undefined }]);
    expect(await (await post("/admin/tenants/default/rotate-key")).json()).toMatchObject({
      data_key: 2,
    });
  });

  it("does not call a race that it lost against a first write a rotation", async () => {
    const { directory } = gateway;
    const change = directory.change.bind(directory);
    directory.change = async (mutations) => {
      directory.change = change;
      // The tenant's first value made its first key meanwhile.
      await change(mutations.slice(0, 1));
      return await change(mutations);
    };
    const lost = await post("/admin/tenants/default/rotate-key");
    expect(await problemOf(lost)).toMatchObject({ code: "CONFLICT", outcome: "not_applied" });
    expect(await (await post("/admin/tenants/default/rotate-key")).json()).toMatchObject({
      data_key: 2,
    });
  });

  it("gives a rotation that is stuck at a damaged key the next one", async () => {
    const { directory } = gateway;
    await post("/admin/tenants/default/rotate-key");
    const job = directory.get(`${JOB_ROWS}reseal/00000001`);
    await directory.change([{ name: KEY_ROW, value: Uint8Array.of(0xff) }]);
    const again = await post("/admin/tenants/default/rotate-key");
    expect(await again.json()).toEqual({ tenant: "default", data_key: 2 });
    expect(directory.get(`${JOB_ROWS}reseal/00000001`)).toEqual(job);
    const third = await post("/admin/tenants/default/rotate-key");
    expect(await problemOf(third)).toMatchObject({ code: "ALREADY_EXISTS" });
  });

  it("refuses tenants that there are not, and requests of web pages", async () => {
    const none = await post("/admin/tenants/none/rotate-key");
    expect(await problemOf(none)).toMatchObject({ status: 404, code: "RESOURCE_NOT_FOUND" });
    const headers = { Origin: "https://elsewhere.example" };
    expect((await post("/admin/tenants/default/rotate-key", { headers })).status).toBe(400);
    expect(gateway.directory.list("")).toEqual([]);
  });
});

describe("GET /admin/encryption", () => {
  it("tells of keys by their names, and how far rotations are", async () => {
    expect(await status()).toMatchObject({ encrypts: true, data_keys: 0, rotations: [] });
    await post("/admin/tenants/default/rotate-key");
    const found = await status();
    const { master_key } = found;
    expect(found).toEqual({
      ...{ encrypts: true, compresses_above: 512, master_key, data_keys: 1 },
      ...{ data_keys_unreadable: 0, unreadable: [] },
      wrapped_with: [{ master_key, data_keys: 1, known_here: true }],
      rotations: [
        {
          ...{ tenant: "default", data_key: 1, phase: "resealing", examined: 0, resealed: 0 },
          ...{ unreadable: 0, wait_seconds: 900, started_at: "2023-11-14T22:13:20.000Z" },
        },
      ],
    });
  });

  it.each([
    ["row", "00000009", Uint8Array.of(0xff)],
    ["progress", "00000009", encoded({ progress: utf8("{}") })],
    ["name", "nonsense", encoded({ progress: utf8("{}") })],
  ])("shows a rotation whose %s cannot be read as such, and the others", async (_, id, value) => {
    await post("/admin/tenants/default/rotate-key");
    await gateway.directory.change([{ name: `${JOB_ROWS}reseal/${id}`, value }]);
    expect((await status()).rotations).toEqual([
      expect.objectContaining({ tenant: "default", phase: "resealing" }),
      {
        ...{ tenant: null, data_key: null, phase: "unreadable", examined: 0, resealed: 0 },
        ...{ unreadable: 0, started_at: null, wait_seconds: 0 },
      },
    ]);
  });

  it("names data keys whose rows are damaged, and shows the others", async () => {
    const { directory } = gateway;
    await post("/admin/tenants/default/rotate-key");
    const good = directory.get(KEY_ROW)!;
    const bent = Uint8Array.from(good.value);
    bent[12]! ^= 1;
    const rowOf = (place: string) => `data-key/${place}`;
    await directory.change([
      { name: rowOf("00000001/00000002"), value: Uint8Array.of(0xff) },
      { name: rowOf("00000007/00000001"), value: good.value },
      { name: rowOf("nonsense"), value: good.value },
    ]);
    const { data_keys, data_keys_unreadable, unreadable, wrapped_with } = await status();
    expect({ data_keys, data_keys_unreadable }).toEqual({ data_keys: 4, data_keys_unreadable: 3 });
    expect(wrapped_with).toEqual([expect.objectContaining({ data_keys: 1 })]);
    const what = (row: string, tenant: string | null, key: number | null, reason: string) => ({
      ...{ row: rowOf(row), tenant, data_key: key, reason: expect.stringContaining(reason) },
    });
    expect(unreadable).toEqual([
      what("00000001/00000002", "default", 2, "does not decode"),
      what("00000007/00000001", null, 1, "is of another key"),
      what("nonsense", null, null, "is of another key"),
    ]);
    await directory.change([{ name: KEY_ROW, value: bent }]);
    const wrapped = await status();
    expect(wrapped.data_keys_unreadable).toBe(4);
    expect((wrapped.unreadable as object[])[0]).toEqual(
      what("00000001/00000001", "default", 1, "the row is damaged"),
    );
    // It may yet be asked which master key it was.
    expect(wrapped.wrapped_with).toEqual(wrapped_with);
  });

  it("counts all damaged keys, and names so many of them", async () => {
    const names = Array.from({ length: 60 }, (_, i) => `data-key/000000${i + 10}/`);
    for (const number of ["00000001", "00000002"]) {
      const value = Uint8Array.of(0xff);
      await gateway.directory.change(names.map((name) => ({ name: name + number, value })));
    }
    const { data_keys_unreadable, unreadable } = await status();
    expect(data_keys_unreadable).toBe(120);
    expect(unreadable).toHaveLength(100);
  });

  it("says nothing before the directory is known", async () => {
    gateway.directory.isKnown = false;
    expect((await gateway.app.request("/admin/encryption")).status).toBe(503);
    expect((await post("/admin/encryption/rotate-master")).status).toBe(503);
  });
});

describe("rewrapAll()", () => {
  const random = new SeededRandom(9);

  it("wraps data keys anew, whose values then read without the old master key", async () => {
    const world = new World();
    const { directory } = world;
    const before = world.gateway(masterKeys(0)).storage;
    for (const tenant of [1, OTHER_TENANT] as (typeof OTHER_TENANT)[]) {
      await before.put(refOf("a", tenant), putOf("v"), world.options);
    }
    const parts = { directory, masterKeys: masterKeys(1, 0), random };
    expect(await rewrapAll(parts, 0)).toEqual({ rewrapped: 2, unreadable: [] });
    expect(await rewrapAll(parts, 0)).toEqual({ rewrapped: 0, unreadable: [] });
    for (const tenant of [1, OTHER_TENANT] as (typeof OTHER_TENANT)[]) {
      const { storage } = world.gateway(masterKeys(1));
      const found = await storage.get(refOf("a", tenant), world.options);
      expect(found?.value).toEqual(Buffer.from("v"));
    }
    // And a gateway that was there all the time goes on.
    await before.put(refOf("b"), putOf("v"), world.options);
  });

  it("wraps private keys of tokens, also such as lay open", async () => {
    const { directory } = new World();
    const wrapper = keyWrapperOf(masterKeys(0), random);
    const row = (kid: string, privateKey: Uint8Array, masterKeyId: string) => ({
      name: `signing-key/${kid}`,
      value: toBinary(
        SigningKeyRecordSchema,
        create(SigningKeyRecordSchema, { kid, privateKey, masterKeyId, publicJwk: "{}" }),
      ),
    });
    const secret = utf8("private");
    await directory.change([
      row("a", wrapper.wrap(secret, "signing-key/a"), wrapper.currentId),
      row("b", secret, ""),
      row("newest", new Uint8Array(0), ""),
    ]);
    const newest = directory.get("signing-key/newest");
    const keys = masterKeys(1, 0);
    const { rewrapped } = await rewrapAll({ directory, masterKeys: keys, random }, 0);
    expect(rewrapped).toBe(2);
    const now = keyWrapperOf(masterKeys(1), random);
    for (const kid of ["a", "b"]) {
      const { value } = directory.get(`signing-key/${kid}`)!;
      const record = fromBinary(SigningKeyRecordSchema, value);
      expect(record).toMatchObject({ kid, masterKeyId: now.currentId, publicJwk: "{}" });
      const unwrapped = now.unwrap(record.masterKeyId, record.privateKey, `signing-key/${kid}`);
      expect(unwrapped).toEqual(Buffer.from(secret));
    }
    expect(directory.get("signing-key/newest")).toEqual(newest);
  });

  it("changes nothing when a key cannot be unwrapped", async () => {
    const world = new World();
    await world.gateway(masterKeys(2)).storage.put(refOf("a"), putOf("v"), world.options);
    const before = world.directory.list("");
    const parts = { directory: world.directory, masterKeys: masterKeys(1, 0), random };
    const missing = { code: "ENCRYPTION_KEY_MISSING", outcome: "not_applied" };
    await expect(rewrapAll(parts, 0)).rejects.toMatchObject(missing);
    expect(world.directory.list("")).toEqual(before);
  });

  it("leaves damaged keys as they are, names them, and wraps the others anew", async () => {
    const world = new World();
    const { directory } = world;
    await world.gateway(masterKeys(0)).storage.put(refOf("a"), putOf("v"), world.options);
    const damaged = ["data-key/00000002/00000001", "signing-key/a"].map((name) => ({
      ...{ name, value: Uint8Array.of(0xff) },
    }));
    await directory.change(damaged);
    const parts = { directory, masterKeys: masterKeys(1, 0), random };
    const unreadable = damaged.map(({ name }) => name);
    expect(await rewrapAll(parts, 0)).toEqual({ rewrapped: 1, unreadable });
    for (const { name, value } of damaged) expect(directory.get(name)?.value).toEqual(value);
  });

  const noLeader = new KvError("NOT_LEADER", "no leader", { outcome: "not_applied" });
  it.each([
    ["loses a race at once", 0, undefined, "not_applied"],
    ["loses a race after some were wrapped", 50, undefined, "unknown"],
    ["fails at once", 0, noLeader, "not_applied"],
    ["fails after some were wrapped", 50, noLeader, "unknown"],
  ])("says what it has done when it %s", async (_, done, error, outcome) => {
    const world = new World();
    const { directory } = world;
    const { storage } = world.gateway(masterKeys(0));
    for (let tenant = 1; tenant <= 60; tenant++) {
      await storage.put(refOf("a", tenant as typeof OTHER_TENANT), putOf("v"), world.options);
    }
    const parts = { directory, masterKeys: masterKeys(1, 0), random };
    const change = directory.change.bind(directory);
    let left = done / REWRAP_ROWS_PER_CHANGE;
    directory.change = async (mutations) => {
      if (left-- > 0) return await change(mutations);
      if (error !== undefined) throw error;
      return false;
    };
    await expect(rewrapAll(parts, 0)).rejects.toMatchObject({ outcome });
    const ids = directory.list("data-key/").map((row) => readDataKeyRow(row).masterKeyId);
    expect(ids.filter((id) => id === parts.masterKeys.currentId)).toHaveLength(done);
  });
});
