/**
 * How much of a tenant's rates each gateway may give out: the leader of the meta group splits them over the
 * gateways that follow it, by what is asked of each. No I/O and no clock; requests and bytes are split apart,
 * by the same rules.
 *
 * What is aimed at: every gateway has a small part, so that a first request is never refused for want of one;
 * a little stays free for a gateway that joins; the rest goes by demand. A tenant of whom nothing was asked
 * has no entry: each gateway then has one part in so many as there are gateways.
 *
 * The parts of a tenant with an entry never sum to more than 1, also while they change: a part that grows
 * gets only what is free, and what another one gives up is free in the round after that one was told. What a
 * message needs to arrive, some milliseconds, is not counted. Beyond that more than 1 can be given out
 *
 * - of a tenant without an entry, by 1 / n, from the moment when the n-th gateway joins until the others
 *   have had their next message;
 * - by the part of a gateway that is alive but has been cut off for longer than `GONE_AFTER_MS`: parts of
 *   those that are gone have to be given to others, and nobody can tell the two apart;
 * - by a new leader, which cannot know what its predecessor has given out: for one round when it begins to
 *   tell shares, and until then by one part for each gateway that starts.
 */

export type Rates = { readonly requests: number; readonly bytes: number };
export type TenantRates = Rates & { readonly tenantId: number };

/** All gateways together are sure of so much, evenly. */
export const FLOOR_TOTAL = 0.1;
/** Kept free for gateways that join. */
export const RESERVE = 0.04;
/** Smaller changes are not worth a message. */
const CHANGE_MIN = 0.004;
/** A gateway whose stream has ended keeps its parts for so long: it is probably on its way back. */
export const GONE_AFTER_MS = 3_000;
/** A new leader waits so long for gateways that it has not heard of yet, and tells no shares meanwhile. */
export const FIRST_SHARES_AFTER_MS = 2_000;
/** A tenant of whom nothing was asked for so long has no entry any more. */
export const FORGET_AFTER_MS = 60_000;
/** Demand counts half of what it was with each message that does not speak of it; less than this is none. */
const DEMAND_MIN = 0.01;
/** More cannot be true; and sums of it stay numbers, also over all gateways. */
const DEMAND_MAX = Number.MAX_SAFE_INTEGER;
/** A part of 0 and 0 would say that there is no entry. */
const NOTHING = 1e-9;

const DIMENSIONS = ["requests", "bytes"] as const;
type Dimension = (typeof DIMENSIONS)[number];

/** One gateway's part of one tenant. */
type Part = {
  readonly demand: Record<Dimension, number>;
  /** As the gateway was told, or takes for granted. */
  readonly held: Record<Dimension, number>;
  /** What it is to be told. */
  readonly next: Record<Dimension, number>;
  isTold: boolean;
};

type Gateway = {
  /** Since when its stream has ended. */
  goneAtMs: number | undefined;
  /** How many gateways it was told that there are; 0 for nothing yet. */
  toldCount: number;
};

type Tenant = { readonly parts: Map<string, Part>; askedAtMs: number };

export class RateShares {
  readonly #sinceMs: number;
  readonly #gateways = new Map<string, Gateway>();
  readonly #tenants = new Map<number, Tenant>();
  /** Tenants that have lost their entry, and the gateways that have yet to be told. */
  readonly #forgotten = new Map<number, Set<string>>();

  /** This node has begun to lead. */
  constructor(nowMs: number) {
    this.#sinceMs = nowMs;
  }

  join(id: string): void {
    // Whatever it was told before, it may have started anew since.
    this.#gateways.set(id, { goneAtMs: undefined, toldCount: 0 });
    for (const waiting of this.#forgotten.values()) waiting.delete(id);
    for (const tenant of this.#tenants.values()) {
      const part = tenant.parts.get(id);
      if (part !== undefined) part.isTold = false;
      else tenant.parts.set(id, this.#firstPart(tenant));
    }
  }

  leave(id: string, nowMs: number): void {
    const gateway = this.#gateways.get(id);
    if (gateway !== undefined) gateway.goneAtMs = nowMs;
  }

  /** What was asked of a gateway since it last said so. */
  demand(id: string, demands: readonly TenantRates[], nowMs: number): void {
    if (!this.#gateways.has(id)) return;
    const named = new Map(demands.map((demand) => [demand.tenantId, demand]));
    for (const { tenantId, requests, bytes } of demands) {
      if (!(requests > 0 || bytes > 0)) continue;
      const tenant = this.#tenants.get(tenantId) ?? this.#newTenant(tenantId);
      tenant.askedAtMs = nowMs;
    }
    for (const [tenantId, { parts }] of this.#tenants) {
      const part = parts.get(id);
      if (part === undefined) continue;
      for (const dimension of DIMENSIONS) {
        const asked = named.get(tenantId)?.[dimension] ?? 0;
        const smoothed = (part.demand[dimension] + (asked <= DEMAND_MAX ? asked : 0)) / 2;
        part.demand[dimension] = smoothed < DEMAND_MIN ? 0 : smoothed;
      }
    }
  }

  /** One round: to be called at the pace of messages to the gateways. */
  rebalance(nowMs: number): void {
    for (const [id, { goneAtMs }] of this.#gateways) {
      if (goneAtMs === undefined || nowMs - goneAtMs < GONE_AFTER_MS) continue;
      this.#gateways.delete(id);
      for (const { parts } of this.#tenants.values()) parts.delete(id);
      for (const waiting of this.#forgotten.values()) waiting.delete(id);
    }
    for (const [tenantId, waiting] of this.#forgotten) {
      if (waiting.size === 0) this.#forgotten.delete(tenantId);
    }
    if (!this.#isSettled(nowMs)) return;
    for (const [tenantId, tenant] of this.#tenants) {
      if (this.#mayForget(tenant, nowMs)) {
        this.#tenants.delete(tenantId);
        this.#forgotten.set(tenantId, new Set(tenant.parts.keys()));
      } else for (const dimension of DIMENSIONS) split([...tenant.parts.values()], dimension);
    }
  }

  /** What a gateway is to be told now; it counts as told. */
  take(id: string, nowMs: number): { readonly shares: TenantRates[]; readonly gateways: number } {
    const shares: TenantRates[] = [];
    const gateway = this.#gateways.get(id);
    if (gateway === undefined || !this.#isSettled(nowMs)) return { shares, gateways: 0 };
    gateway.toldCount = this.#gateways.size;
    for (const [tenantId, waiting] of this.#forgotten) {
      if (waiting.delete(id)) shares.push({ tenantId, requests: 0, bytes: 0 });
    }
    for (const [tenantId, { parts }] of this.#tenants) {
      const part = parts.get(id);
      if (part === undefined) continue;
      const isSame = DIMENSIONS.every((dimension) => part.held[dimension] === part.next[dimension]);
      if (isSame && part.isTold) continue;
      part.isTold = true;
      for (const dimension of DIMENSIONS) part.held[dimension] = part.next[dimension];
      shares.push({ tenantId, requests: part.held.requests, bytes: part.held.bytes });
    }
    return { shares, gateways: gateway.toldCount };
  }

  #isSettled(nowMs: number): boolean {
    return nowMs - this.#sinceMs >= FIRST_SHARES_AFTER_MS;
  }

  /** As every gateway has had it without an entry; whoever was told nothing yet joins with the others. */
  #newTenant(tenantId: number): Tenant {
    const tenant: Tenant = { parts: new Map(), askedAtMs: 0 };
    this.#tenants.set(tenantId, tenant);
    this.#forgotten.delete(tenantId);
    const even = 1 / this.#gateways.size;
    for (const [id, { toldCount }] of this.#gateways) {
      const held = toldCount === 0 ? even : Math.min(even, 1 / toldCount);
      tenant.parts.set(id, newPart(held));
    }
    return tenant;
  }

  /** Of what is free, and no more than it is sure of anyway. */
  #firstPart({ parts }: Tenant): Part {
    const taken = (dimension: Dimension): number =>
      [...parts.values()].reduce((sum, part) => sum + most(part, dimension), 0);
    const free = 1 - Math.max(taken("requests"), taken("bytes"));
    const floor = FLOOR_TOTAL / this.#gateways.size;
    return newPart(Math.max(NOTHING, Math.min(floor, free / 2)));
  }

  /** All have fallen back to even parts by then, or nearly so. */
  #mayForget({ parts, askedAtMs }: Tenant, nowMs: number): boolean {
    if (nowMs - askedAtMs < FORGET_AFTER_MS) return false;
    const even = 1 / this.#gateways.size;
    return [...parts.values()].every((part) =>
      DIMENSIONS.every((dimension) => most(part, dimension) <= even + CHANGE_MIN),
    );
  }
}

const newPart = (share: number): Part => ({
  demand: { requests: 0, bytes: 0 },
  held: { requests: share, bytes: share },
  next: { requests: share, bytes: share },
  isTold: false,
});

/** What the gateway has, or will have before it is asked again. */
const most = ({ held, next }: Part, dimension: Dimension): number =>
  Math.max(held[dimension], next[dimension]);

/** What each of `parts` should have. */
export function targets(demands: readonly number[]): readonly number[] {
  const count = demands.length;
  const total = demands.reduce((sum, demand) => sum + demand, 0);
  const byDemand = 1 - RESERVE - FLOOR_TOTAL;
  return demands.map((demand) => {
    const weight = total > 0 ? demand / total : 1 / count;
    return FLOOR_TOTAL / count + byDemand * weight;
  });
}

/**
 * One step towards the targets. Parts that are too large shrink at once; their gateways are told by the end
 * of the round. Parts that are too small share what is free now, each by what it lacks: that is 1 less all
 * that is held, so the sum stays within 1 whichever of the two a gateway has heard of.
 */
function split(parts: readonly Part[], dimension: Dimension): void {
  const wanted = targets(parts.map(({ demand }) => demand[dimension]));
  const free = Math.max(0, 1 - parts.reduce((sum, { held }) => sum + held[dimension], 0));
  const lacks = parts.map(({ held }, i) => Math.max(0, wanted[i]! - held[dimension]));
  const lackTotal = lacks.reduce((sum, lack) => sum + lack, 0);
  const ratio = lackTotal > free ? free / lackTotal : 1;
  parts.forEach((part, i) => {
    const { held, next } = part;
    const aim = lacks[i]! > 0 ? held[dimension] + lacks[i]! * ratio : wanted[i]!;
    next[dimension] = Math.abs(aim - held[dimension]) < CHANGE_MIN ? held[dimension] : aim;
  });
}
