import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  FIRST_SHARES_AFTER_MS,
  FLOOR_TOTAL,
  FORGET_AFTER_MS,
  GONE_AFTER_MS,
  RateShares,
  type Rates,
  RESERVE,
  targets,
} from "./rate-shares.ts";

const ROUND_MS = 500;
const EPSILON = 1e-6;

/** Gateways as they would behave: they have what they were told last. */
class World {
  nowMs = 0;
  readonly shares = new RateShares(0);
  readonly gateways = new Map<string, { count: number; readonly told: Map<number, Rates> }>();
  readonly #leftAtMs = new Map<string, number>();

  constructor(ids: readonly string[]) {
    for (const id of ids) this.join(id);
    this.nowMs = FIRST_SHARES_AFTER_MS;
    this.round();
  }

  join(id: string): void {
    this.shares.join(id);
    this.gateways.set(id, { count: 0, told: new Map() });
    this.#leftAtMs.delete(id);
    this.tell(id);
  }

  leave(id: string): void {
    if (!this.gateways.has(id) || this.#leftAtMs.has(id)) return;
    this.shares.leave(id, this.nowMs);
    this.#leftAtMs.set(id, this.nowMs);
  }

  tell(id: string): void {
    const gateway = this.gateways.get(id);
    if (gateway === undefined || this.#leftAtMs.has(id)) return;
    const { shares, gateways } = this.shares.take(id, this.nowMs);
    for (const { tenantId, ...rates } of shares) {
      if (rates.requests === 0 && rates.bytes === 0) gateway.told.delete(tenantId);
      else gateway.told.set(tenantId, rates);
    }
    if (gateways > 0) gateway.count = gateways;
  }

  /** Some gateways miss their message in a round: their streams are full. */
  round(missing: (id: string) => boolean = () => false): void {
    this.nowMs += ROUND_MS;
    for (const [id, leftAtMs] of this.#leftAtMs) {
      if (this.nowMs - leftAtMs >= GONE_AFTER_MS) this.gateways.delete(id);
    }
    this.shares.rebalance(this.nowMs);
    for (const id of this.gateways.keys()) if (!missing(id)) this.tell(id);
  }

  ask(id: string, demands: Readonly<Record<number, number>>): void {
    const list = Object.entries(demands).map(([tenantId, rate]) => ({
      tenantId: Number(tenantId),
      requests: rate,
      bytes: rate * 100,
    }));
    this.shares.demand(id, list, this.nowMs);
  }

  shareOf(id: string, tenantId: number): Rates {
    const { told, count } = this.gateways.get(id)!;
    return told.get(tenantId) ?? { requests: 1 / count, bytes: 1 / count };
  }

  sum(tenantId: number): Rates {
    const all = [...this.gateways.keys()].map((id) => this.shareOf(id, tenantId));
    return {
      requests: all.reduce((sum, { requests }) => sum + requests, 0),
      bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
    };
  }
}

const gateway = fc.constantFrom("a", "b", "c", "d", "e");
const step = fc.oneof(
  fc.record({
    kind: fc.constant("ask" as const),
    gateway,
    tenant: fc.integer({ min: 1, max: 2 }),
    rate: fc.nat(1_000),
  }),
  fc.record({ kind: fc.constant("round" as const), missing: fc.nat(31) }),
  fc.record({ kind: fc.constant("join" as const), gateway }),
  fc.record({ kind: fc.constant("leave" as const), gateway }),
  fc.record({ kind: fc.constant("rest" as const) }),
);

describe("RateShares", () => {
  it("never gives out more than all of a tenant that was asked for, whoever comes, goes or hears late", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const world = new World(["a", "b", "c"]);
        for (const tenant of [1, 2]) world.ask("a", { [tenant]: 1 });
        world.round();
        for (const one of steps) {
          if (one.kind === "ask") world.ask(one.gateway, { [one.tenant]: one.rate });
          else if (one.kind === "join") world.join(one.gateway);
          else if (one.kind === "leave") world.leave(one.gateway);
          else if (one.kind === "rest") for (let i = 0; i < 20; i++) world.round();
          else world.round((id) => ((one.missing >> "abcde".indexOf(id)) & 1) === 1);
          for (const tenant of [1, 2]) {
            const { requests, bytes } = world.sum(tenant);
            expect(requests).toBeLessThanOrEqual(1 + EPSILON);
            expect(bytes).toBeLessThanOrEqual(1 + EPSILON);
          }
        }
      }),
    );
  });

  it("comes to rest where demand says, with a part for everybody", () => {
    const demands = fc.array(fc.nat(1_000), {
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(demands, (rates) => {
        const ids = rates.map((_, i) => `g${i}`);
        const world = new World(ids);
        world.ask("g0", { 7: 1 });
        for (let round = 0; round < 60; round++) {
          for (const [i, id] of ids.entries()) world.ask(id, { 7: rates[i]! });
          world.round();
        }
        const wanted = targets(rates.map((rate) => (rate < 0.01 ? 0 : rate)));
        for (const [i, id] of ids.entries()) {
          const { requests } = world.shareOf(id, 7);
          expect(Math.abs(requests - wanted[i]!)).toBeLessThan(0.02);
          expect(requests).toBeGreaterThan((FLOOR_TOTAL / ids.length) * 0.5);
        }
      }),
      { numRuns: 40 },
    );
  });

  it("gives more to whom more is asked of", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(1_000), { minLength: 1, maxLength: 8 }), (rates) => {
        const wanted = targets(rates);
        const sum = wanted.reduce((total, share) => total + share, 0);
        expect(sum).toBeCloseTo(1 - RESERVE, 9);
        for (const [i, rate] of rates.entries()) {
          for (const [k, other] of rates.entries()) {
            if (rate > other) expect(wanted[i]).toBeGreaterThan(wanted[k]!);
          }
        }
      }),
    );
  });

  it("is not led astray by a gateway that asks for what cannot be", () => {
    const world = new World(["a", "b"]);
    const impossible = [Number.MAX_VALUE, Number.POSITIVE_INFINITY, Number.NaN, -1];
    for (let i = 0; i < 20; i++) {
      const requests = impossible[i % 2 === 0 ? 0 : (i >> 1) % 4]!;
      world.shares.demand("a", [{ tenantId: 1, requests, bytes: requests }], world.nowMs);
      world.shares.demand("b", [{ tenantId: 1, requests: 10, bytes: 10 }], world.nowMs);
      world.round();
    }
    const parts = [...world.gateways.values()].map(({ told }) => told.get(1)!.requests);
    for (const part of parts) expect(part).toBeGreaterThan(0);
    expect(parts[0]! + parts[1]!).toBeLessThanOrEqual(1 + EPSILON);
  });

  it("gives the parts of a gateway that is gone to the others, but not at once", () => {
    const world = new World(["a", "b"]);
    const ask = () => world.ask("a", { 1: 100 });
    world.ask("b", { 1: 100 });
    for (let i = 0; i < 10; i++) {
      ask();
      world.ask("b", { 1: 100 });
      world.round();
    }
    const even = world.shareOf("a", 1).requests;
    world.leave("b");
    ask();
    world.round();
    expect(world.shareOf("a", 1).requests).toBeCloseTo(even, 6);
    for (let i = 0; i < 12; i++) {
      ask();
      world.round();
    }
    expect(world.shareOf("a", 1).requests).toBeGreaterThan(0.9);
  });

  it("splits evenly what nobody asks for, and forgets it in time", () => {
    const world = new World(["a", "b"]);
    expect(world.shareOf("a", 1)).toEqual({ requests: 0.5, bytes: 0.5 });
    world.ask("a", { 1: 100 });
    for (let i = 0; i < 4; i++) world.round();
    expect(world.shareOf("a", 1).requests).toBeGreaterThan(0.6);
    for (let ms = 0; ms < FORGET_AFTER_MS + 10_000; ms += ROUND_MS) {
      for (const id of ["a", "b"]) world.ask(id, {});
      world.round();
    }
    for (const id of ["a", "b"]) {
      expect(world.gateways.get(id)!.told.size).toBe(0);
      expect(world.shareOf(id, 1)).toEqual({ requests: 0.5, bytes: 0.5 });
    }
  });

  it("says nothing until a new leader has heard of all gateways", () => {
    const shares = new RateShares(0);
    shares.join("a");
    shares.demand("a", [{ tenantId: 1, requests: 5, bytes: Number.NaN }], 0);
    shares.rebalance(100);
    expect(shares.take("a", 100)).toEqual({ shares: [], gateways: 0 });
    shares.rebalance(FIRST_SHARES_AFTER_MS);
    expect(shares.take("a", FIRST_SHARES_AFTER_MS)).toMatchObject({
      gateways: 1,
      shares: [{ tenantId: 1 }],
    });
    expect(shares.take("a", FIRST_SHARES_AFTER_MS).shares).toEqual([]);
  });
});
