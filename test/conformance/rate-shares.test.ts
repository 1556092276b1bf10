/**
 * The two halves of a tenant's rate together: shares as the leader of the meta group gives them out, and the
 * limiters of three gateways that live by them. Time is simulated, in steps of 10 ms.
 */
import { describe, expect, it } from "vitest";
import { Networks } from "#gateway/limits/address.ts";
import { ClientAddresses } from "#gateway/limits/client-address.ts";
import { RateLimiter } from "#gateway/limits/limiter.ts";
import { TenantRegistry } from "#gateway/tenants/registry.ts";
import { callerOf, exchangeWith, putTenant } from "#gateway/testing/limits.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { ManualClock } from "#shared/clock.ts";
import { SeededRandom } from "#shared/random.ts";
import { RateShares } from "#storage-node/meta/rate-shares.ts";

const TENANT = 7;
const RATE = 60;
const GATEWAYS = 3;
const TICK_MS = 10;
const ROUND_MS = 500;
const NEWS_DELAY_MS_MAX = 50;
/** One second of the rate may come at once, and each gateway may be in debt by one. */
const BURST = RATE + GATEWAYS;

type Gateway = {
  readonly id: string;
  readonly directory: MemoryDirectory;
  readonly limiter: RateLimiter;
  /** Requests per second that arrive. */
  load: number;
  arriving: number;
};

async function openGateway(id: string, clock: ManualClock): Promise<Gateway> {
  const directory = new MemoryDirectory();
  directory.gateways = GATEWAYS;
  const even = 1 / GATEWAYS;
  directory.shares.set(TENANT, { requests: even, bytes: even });
  await putTenant(directory, TENANT, { quotas: { requestsPerSecond: RATE } });
  const limiter = new RateLimiter({
    ...{ clock, directory, tenants: new TenantRegistry(directory) },
    addresses: new ClientAddresses(new Networks([]), "forwarded"),
    perAddress: { rate: 0, burst: 0 },
  });
  return { id, directory, limiter, load: 0, arriving: 0 };
}

class Cluster {
  readonly #clock = new ManualClock();
  readonly #random: SeededRandom;
  readonly #leader = new RateShares(0);
  readonly #gateways: Gateway[] = [];

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
  }

  async open(): Promise<this> {
    for (const id of ["a", "b", "c"]) {
      this.#gateways.push(await openGateway(id, this.#clock));
      this.#leader.join(id);
    }
    this.run(3_000);
    return this;
  }

  setLoad(...loads: readonly number[]): void {
    for (const [place, gateway] of this.#gateways.entries()) gateway.load = loads[place]!;
  }

  /** @returns what was let through in each tick */
  run(ms: number): number[] {
    const passed: number[] = [];
    for (let passedMs = 0; passedMs < ms; passedMs += TICK_MS) {
      this.#clock.advance(TICK_MS);
      if (this.#clock.monotonicMs() % ROUND_MS === 0) this.#round();
      passed.push(this.#gateways.reduce((sum, gateway) => sum + arrive(gateway), 0));
    }
    return passed;
  }

  #round(): void {
    const nowMs = this.#clock.monotonicMs();
    for (const { id, directory } of this.#gateways) {
      const demands = [...directory.demand()].map(([tenantId, demand]) => ({
        ...{ tenantId, requests: demand.requestsPerSecond, bytes: demand.bytesPerSecond },
      }));
      this.#leader.demand(id, demands, nowMs);
    }
    this.#leader.rebalance(nowMs);
    for (const { id, directory } of this.#gateways) {
      const { shares } = this.#leader.take(id, nowMs);
      this.#clock.after(this.#random.below(NEWS_DELAY_MS_MAX), () => {
        for (const { tenantId, requests, bytes } of shares) {
          directory.shares.set(tenantId, { requests, bytes });
        }
      });
    }
  }
}

function arrive(gateway: Gateway): number {
  gateway.arriving += (gateway.load * TICK_MS) / 1000;
  let passed = 0;
  for (; gateway.arriving >= 1; gateway.arriving--) {
    try {
      gateway.limiter.admit(exchangeWith(), callerOf(TENANT));
      passed++;
    } catch {
      // Refused.
    }
  }
  return passed;
}

const sum = (counts: readonly number[]): number =>
  counts.reduce((total, count) => total + count, 0);

/** The most that was let through in any span of `ms`. */
function mostIn(passed: readonly number[], ms: number): number {
  const ticks = ms / TICK_MS;
  let inSpan = 0;
  let most = 0;
  for (const [at, count] of passed.entries()) {
    inSpan += count - (passed[at - ticks] ?? 0);
    most = Math.max(most, inSpan);
  }
  return most;
}

describe("shares and limiters together", () => {
  it.each([1, 2, 3])(
    "keep the limit while load shifts, and give out most of it (seed %i)",
    async (seed) => {
      const cluster = await new Cluster(seed).open();
      const passed: number[] = [];
      for (let shift = 0; shift < 8; shift++) {
        cluster.setLoad(...[0, 1, 2].map((place) => (place === shift % GATEWAYS ? 180 : 2)));
        passed.push(...cluster.run(5_000));
      }
      for (const seconds of [1, 2, 5, 10]) {
        // What a message needs to arrive, once for each shift within the span.
        const underWay = (RATE * NEWS_DELAY_MS_MAX * Math.ceil(seconds / 5 + 1)) / 1000;
        const bound = RATE * seconds + BURST + underWay;
        expect(mostIn(passed, seconds * 1000)).toBeLessThanOrEqual(bound);
      }
      expect(sum(passed)).toBeGreaterThan(RATE * 40 * 0.7);
    },
  );

  it("give a tenant nine tenths of its rate when its load comes to one gateway", async () => {
    const cluster = await new Cluster(4).open();
    cluster.setLoad(180, 0, 0);
    cluster.run(10_000);
    const passed = sum(cluster.run(20_000));
    expect(passed).toBeGreaterThan(RATE * 20 * 0.88);
    expect(passed).toBeLessThanOrEqual(RATE * 20 + 1);
  });
});
