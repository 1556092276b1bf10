/** What a watch rests on that began with a token. */
import { generateKeyPairSync } from "node:crypto";
import { describe, expect, it } from "vitest";
import { exchangeWith } from "#gateway/testing/auth.ts";
import { ManualClock } from "#shared/clock.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { FOREIGN_TOKEN_REMEMBERED_MS_MAX } from "#shared/limits-tokens.ts";
import type { ForeignKey } from "./foreign-issuer.ts";
import { TokenBasis, withdrawalOf } from "./token-basis.ts";

const keyOf = (): ForeignKey => ({
  algorithm: "EdDSA",
  publicKey: generateKeyPairSync("ed25519").publicKey,
});

describe("TokenBasis", () => {
  it("ends with its token, and before that with what stands behind it", () => {
    const clock = new ManualClock();
    let reason: "revoked" | undefined;
    const { principal } = new TokenBasis(
      { kind: "token", id: "a", tenant: DEFAULT_TENANT, role: "ReadOnly", prefixes: [] },
      { clock, keyId: "k", endsAtMs: clock.nowMs() + 1_000, whyNot: () => reason },
    );
    const basis = principal.basis!;
    expect(basis.principal).toBe(principal);
    expect(basis.whyNot(exchangeWith({}))).toBeUndefined();
    reason = "revoked";
    expect(basis.whyNot(exchangeWith({}))).toBe("revoked");
    clock.advance(1_000);
    expect(basis.whyNot(exchangeWith({}))).toBe("expired");
  });
});

describe("withdrawalOf()", () => {
  const later = async (clock: ManualClock, whyNot: () => unknown): Promise<unknown> => {
    clock.advance(FOREIGN_TOKEN_REMEMBERED_MS_MAX);
    whyNot();
    await new Promise((resolve) => setImmediate(resolve));
    return whyNot();
  };

  it("asks the issuer from time to time, and only when it is asked itself", async () => {
    const clock = new ManualClock();
    const key = keyOf();
    let asked = 0;
    let known: ForeignKey | undefined = key;
    const keyOfIssuer = (): Promise<ForeignKey | undefined> => {
      asked++;
      return Promise.resolve(known);
    };
    const whyNot = withdrawalOf(key, { keyOf: keyOfIssuer }, { keyId: "k", clock });
    for (let i = 0; i < 100; i++) expect(whyNot()).toBeUndefined();
    expect(asked).toBe(0);
    expect(await later(clock, whyNot)).toBeUndefined();
    expect(asked).toBe(1);
    known = undefined;
    expect(await later(clock, whyNot)).toBe("revoked");
  });

  it("takes another key under the same id for a withdrawal, and an issuer that is down for none", async () => {
    const clock = new ManualClock();
    const [key, other] = [keyOf(), keyOf()];
    const down = withdrawalOf(
      key,
      { keyOf: () => Promise.reject(new Error("down")) },
      { keyId: "k", clock },
    );
    expect(await later(clock, down)).toBeUndefined();
    const changed = withdrawalOf(
      key,
      { keyOf: () => Promise.resolve(other) },
      { keyId: "k", clock },
    );
    expect(await later(clock, changed)).toBe("revoked");
  });
});
