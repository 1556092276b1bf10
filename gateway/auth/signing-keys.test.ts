import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import type { KeyWrapper } from "#gateway/codec/master-keys.ts";
import { keyWrapperOf } from "#gateway/codec/master-keys.ts";
import { rewrapAll } from "#gateway/codec/master-rotation.ts";
import { masterKeys } from "#gateway/codec/testing.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { SigningKeyRecordSchema } from "#proto/gen/minikv/v1/directory_pb.ts";
import { ManualClock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import {
  SIGNING_KEY_ARRIVAL_MS_MAX,
  SIGNING_KEY_PUBLISHED_MS,
  SIGNING_KEYS_MAX,
  TOKEN_TTL_MS_MAX,
} from "#shared/limits-tokens.ts";
import { SeededRandom } from "#shared/random.ts";
import { SigningKeys, signingKeyRow } from "./signing-keys.ts";

const DAY_MS = 86_400_000;

/** Several gateways on one directory. */
function gateways(count: number, wrapper?: KeyWrapper) {
  const directory = new MemoryDirectory();
  const clock = new ManualClock();
  const options = { directory, clock, rotationMs: 7 * DAY_MS, wrapper };
  const all = Array.from({ length: count }, () => new SigningKeys(options));
  return { directory, clock, all, keys: all[0]!, other: all[1] ?? all[0]! };
}

const xor: KeyWrapper = {
  currentId: "m1",
  wrap: (bytes, context) => bytes.map((byte) => byte ^ context.length ^ 0x5a),
  unwrap: (id, bytes, context) => {
    if (id !== "m1") throw new Error("unknown");
    return bytes.map((byte) => byte ^ context.length ^ 0x5a);
  },
};

describe("SigningKeys", () => {
  it("make one first key, however many gateways need it at once", async () => {
    const { all, keys } = gateways(5);
    const signers = await Promise.all(all.map((each) => each.signer()));
    expect(new Set(signers.map(({ keyId }) => keyId)).size).toBe(1);
    expect(keys.list()).toHaveLength(1);
  });

  it("still sign when the master key that wrapped them is gone, once they were wrapped anew", async () => {
    const random = new SeededRandom(5);
    const { keys, directory, clock } = gateways(1, keyWrapperOf(masterKeys(0), random));
    const { keyId } = await keys.signer();
    const parts = { directory, masterKeys: masterKeys(1, 0), random };
    expect(await rewrapAll(parts, 0)).toMatchObject({ rewrapped: 1 });
    const wrapper = keyWrapperOf(masterKeys(1), random);
    const later = new SigningKeys({ directory, clock, rotationMs: 7 * DAY_MS, wrapper });
    expect((await later.signer()).keyId).toBe(keyId);
    const old = keyWrapperOf(masterKeys(0), random);
    const without = new SigningKeys({ directory, clock, rotationMs: 7 * DAY_MS, wrapper: old });
    await expect(without.signer()).rejects.toMatchObject({ code: "ENCRYPTION_KEY_MISSING" });
  });

  it("are not made in the open beside wrapped ones", async () => {
    const { keys, directory, clock } = gateways(1, xor);
    await keys.signer();
    const without = new SigningKeys({ directory, clock, rotationMs: DAY_MS, wrapper: undefined });
    await expect(without.rotate()).rejects.toMatchObject({ code: "ENCRYPTION_KEY_MISSING" });
    clock.advance(2 * DAY_MS);
    await expect(without.maintain()).rejects.toMatchObject({ code: "ENCRYPTION_KEY_MISSING" });
    expect(keys.list()).toHaveLength(1);
  });

  it("are named by their RFC 7638 thumbprint", async () => {
    const { keys } = gateways(1);
    const { keyId } = await keys.signer();
    const { x } = keys.get(keyId)!.publicJwk as { x: string };
    const text = JSON.stringify({ crv: "Ed25519", kty: "OKP", x });
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
    expect(keyId).toBe(Buffer.from(digest).toString("base64url"));
  });

  it("show public members only", async () => {
    const { keys } = gateways(1);
    await keys.signer();
    const [jwk] = keys.publicKeySet().keys;
    expect(Object.keys(jwk!).sort()).toEqual(["alg", "crv", "kid", "kty", "use", "x"]);
  });

  it("show the next key before it signs", async () => {
    const { keys, other, clock } = gateways(2);
    const first = await keys.signer();
    clock.advance(1_000);
    const next = await keys.rotate();
    expect(next.signsAtMs).toBe(clock.nowMs() + SIGNING_KEY_PUBLISHED_MS);
    expect(other.publicKeySet().keys).toHaveLength(2);
    expect((await other.signer()).keyId).toBe(first.keyId);
    clock.advance(SIGNING_KEY_PUBLISHED_MS);
    expect((await other.signer()).keyId).toBe(next.keyId);
  });

  it("are rotated once when two gateways find it time", async () => {
    const { keys, other, clock } = gateways(2);
    await keys.maintain();
    clock.advance(7 * DAY_MS - 1);
    await Promise.all([keys.maintain(), other.maintain()]);
    expect(keys.list()).toHaveLength(1);
    clock.advance(1);
    await Promise.all([keys.maintain(), other.maintain()]);
    expect(keys.list()).toHaveLength(2);
  });

  it("stay until the last token that they can have signed has expired, then go", async () => {
    const { keys, clock, directory } = gateways(1);
    const { keyId } = await keys.signer();
    await keys.rotate();
    clock.advance(SIGNING_KEY_PUBLISHED_MS + TOKEN_TTL_MS_MAX);
    await keys.maintain();
    expect(keys.get(keyId)).toBeDefined();
    clock.advance(10 * 60_000);
    await keys.maintain();
    expect(keys.get(keyId)).toBeUndefined();
    expect(directory.get(signingKeyRow(keyId))).toBeUndefined();
    expect(keys.list()).toHaveLength(1);
  });

  it("all but the new one go at once with revoke, and the new one signs at once", async () => {
    const { keys, other } = gateways(2);
    const first = await keys.signer();
    await keys.rotate();
    const { keyId, signsAtMs } = await keys.rotate(true);
    expect(other.list().map((key) => key.keyId)).toEqual([keyId]);
    expect(other.get(first.keyId)).toBeUndefined();
    expect((await other.signer()).keyId).toBe(keyId);
    expect(signsAtMs).toBe(other.list()[0]!.createdAtMs);
  });

  it("are revoked by one of two gateways at once, and the other may try again", async () => {
    const { keys, other } = gateways(2);
    await keys.signer();
    const tries = await Promise.allSettled([keys.rotate(true), other.rotate(true)]);
    const refused = tries.filter((each) => each.status === "rejected");
    expect(refused.map(({ reason }) => reason)).toEqual([
      expect.objectContaining({ code: "CONFLICT", outcome: "not_applied" }),
    ]);
    expect(keys.list()).toHaveLength(1);
    await other.rotate(true);
  });

  it.each([
    ["another gateway's key came before the second change", "CONFLICT"],
    ["another gateway's key came behind the first change", "CONFLICT"],
    ["the directory has no room", "CLUSTER_CONFLICT"],
  ])("were revoked in part when %s: that is not called not applied", async (what, code) => {
    const { keys, other, directory } = gateways(2);
    // So many that one change cannot hold all that a revocation takes.
    for (let i = 0; i < SIGNING_KEYS_MAX; i++) await keys.rotate();
    const [oldest] = keys.list();
    let changes = 0;
    directory.change = async (mutations) => {
      const at = ++changes;
      if (at === 2 && code === "CLUSTER_CONFLICT") {
        throw new KvError(code, what, { outcome: "not_applied" });
      }
      if (at === 2 && what.includes("before")) await other.rotate();
      const isMade = await MemoryDirectory.prototype.change.call(directory, mutations);
      if (at === 1 && what.includes("behind")) await other.rotate();
      return isMade;
    };
    await expect(keys.rotate(true)).rejects.toMatchObject({ code, outcome: "unknown" });
    expect(keys.get(oldest!.keyId)).toBeUndefined();
    expect(keys.list().length).toBeGreaterThan(1);
    await keys.rotate(true);
    expect(keys.list()).toHaveLength(1);
  });

  it("are not called rotated when the key that was quicker is not known here yet", async () => {
    const { keys, clock, directory } = gateways(1);
    await keys.signer();
    directory.change = async () => false;
    let ended: unknown;
    void keys.rotate().then(
      (shown) => (ended = shown),
      (error: unknown) => (ended = error),
    );
    while (ended === undefined) {
      await new Promise((resolve) => setImmediate(resolve));
      clock.advance(SIGNING_KEY_ARRIVAL_MS_MAX / 20);
    }
    expect(ended).toMatchObject({ code: "UNAVAILABLE", outcome: "not_applied" });
  });

  it("say which is damaged, and not that a master key is missing", async () => {
    const { directory, clock, keys } = gateways(
      1,
      keyWrapperOf(masterKeys(0), new SeededRandom(5)),
    );
    const { keyId } = await keys.signer();
    const row = directory.get(signingKeyRow(keyId))!;
    const record = fromBinary(SigningKeyRecordSchema, row.value);
    record.privateKey[20]! ^= 1;
    const value = toBinary(SigningKeyRecordSchema, record);
    await directory.change([{ name: row.name, value }]);
    const wrapper = keyWrapperOf(masterKeys(0), new SeededRandom(6));
    const later = new SigningKeys({ directory, clock, rotationMs: DAY_MS, wrapper });
    await expect(later.signer()).rejects.toMatchObject({
      ...{ code: "DATA_CORRUPT", outcome: "not_applied" },
      message: expect.stringContaining(keyId),
    });
  });

  it("are bounded when they are rotated by hand again and again", async () => {
    const { keys } = gateways(1);
    for (let i = 0; i < SIGNING_KEYS_MAX; i++) await keys.rotate();
    await expect(keys.rotate()).rejects.toMatchObject({ code: "CLUSTER_CONFLICT" });
    await keys.rotate(true);
    expect(keys.list()).toHaveLength(1);
  });

  it("are private in no row when there is a master key, and sign on another gateway", async () => {
    const { keys, other, directory } = gateways(2, xor);
    const { keyId, privateKey } = await keys.signer();
    const secret = privateKey.export({ format: "der", type: "pkcs8" });
    const row = Buffer.from(directory.get(signingKeyRow(keyId))!.value);
    expect(row.includes(secret.subarray(-32))).toBe(false);
    expect((await other.signer()).privateKey.equals(privateKey)).toBe(true);
  });

  it("say which master key is missing", async () => {
    const { keys, directory, clock } = gateways(1, xor);
    await keys.signer();
    const without = new SigningKeys({ directory, clock, rotationMs: DAY_MS, wrapper: undefined });
    await expect(without.signer()).rejects.toMatchObject({
      code: "ENCRYPTION_KEY_MISSING",
      message: expect.stringContaining('"m1"'),
    });
  });

  it("are not made while the directory is not known", async () => {
    const { keys, directory } = gateways(1);
    directory.isKnown = false;
    await expect(keys.signer()).rejects.toMatchObject({ code: "UNAVAILABLE" });
    await expect(keys.maintain()).rejects.toMatchObject({ code: "UNAVAILABLE" });
    expect(directory.list("")).toEqual([]);
  });

  it.each(["", "a", "../tenant/00000001", "__proto__", "x".repeat(43)])("has no key %j", (id) => {
    expect(gateways(1).keys.get(id)).toBeUndefined();
  });

  it("never read a row that is damaged, or of another key", async () => {
    const { keys, directory } = gateways(1);
    const { keyId } = await keys.signer();
    const { value } = directory.get(signingKeyRow(keyId))!;
    const other = "A".repeat(43);
    const record = fromBinary(SigningKeyRecordSchema, value);
    const symmetric = create(SigningKeyRecordSchema, {
      ...record,
      kid: other,
      publicJwk: JSON.stringify({ kty: "oct", k: "c2VjcmV0" }),
    });
    for (const bytes of [
      value,
      value.subarray(0, 20),
      new Uint8Array([0xff]),
      toBinary(SigningKeyRecordSchema, symmetric),
    ]) {
      await directory.change([{ name: signingKeyRow(other), value: bytes }]);
      expect(keys.get(other)).toBeUndefined();
    }
  });
});
