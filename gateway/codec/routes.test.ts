/** The routes about keys, and what they do to the rows of the directory. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { beforeEach, describe, expect, it } from "vitest";
import { JOB_ROWS } from "#gateway/jobs/job.ts";
import { problemOf, type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { JobRecordSchema, SigningKeyRecordSchema } from "#proto/gen/minikv/v1/directory_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import { SeededRandom } from "#shared/random.ts";
import { keyWrapperOf } from "./master-keys.ts";
import { rewrapAll } from "./master-rotation.ts";
import { masterKeys, OTHER_TENANT, putOf, refOf, World } from "./testing.ts";

let gateway: TestGateway;
beforeEach(() => {
  gateway = testGateway();
});

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
    ["row", Uint8Array.of(0xff)],
    ["progress", toBinary(JobRecordSchema, create(JobRecordSchema, { progress: utf8("{}") }))],
  ])("shows a rotation whose %s cannot be read as such, and the others", async (_, value) => {
    await post("/admin/tenants/default/rotate-key");
    await gateway.directory.change([{ name: `${JOB_ROWS}reseal/00000009`, value }]);
    expect((await status()).rotations).toEqual([
      expect.objectContaining({ tenant: "default", phase: "resealing" }),
      {
        ...{ tenant: null, data_key: null, phase: "unreadable", examined: 0, resealed: 0 },
        ...{ unreadable: 0, started_at: null, wait_seconds: 0 },
      },
    ]);
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
    expect(await rewrapAll(parts, 0)).toBe(2);
    expect(await rewrapAll(parts, 0)).toBe(0);
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
    expect(await rewrapAll({ directory, masterKeys: keys, random }, 0)).toBe(2);
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
    const missing = { code: "ENCRYPTION_KEY_MISSING" };
    await expect(rewrapAll(parts, 0)).rejects.toMatchObject(missing);
    expect(world.directory.list("")).toEqual(before);
  });
});
