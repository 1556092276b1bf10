/**
 * The rates of requests: those of an address at this gateway, and those of a tenant at all gateways.
 *
 * A request costs one token and the bytes of its body; a batch costs a token for each operation. A body
 * is charged by its Content-Length before it is read; one that does not announce its size is charged
 * when it has been read, and may leave a debt. Where no limit applies, nothing is made and nothing is
 * counted.
 */
import type { Caller } from "#gateway/auth/caller.ts";
import type { Directory, TenantDemand } from "#gateway/directory/directory.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import type { Tenant, Tenants } from "#gateway/tenants/registry.ts";
import type { Clock } from "#shared/clock.ts";
import type { TenantId } from "#shared/ids.ts";
import { BATCH_BODY_SIZE_BYTES_MAX, RATE_ADDRESSES_MAX } from "#shared/limits.ts";
import { limitedNetwork } from "./address.ts";
import { AddressTable } from "./address-table.ts";
import type { ClientAddresses } from "./client-address.ts";
import { type RateState, rateHeaders, ratePolicy, retrySeconds } from "./rate-headers.ts";
import { TenantFigures } from "./tenant-figures.ts";
import { TenantRate } from "./tenant-rate.ts";

/** What the gate asks before it lets anybody in. */
export interface Limiter {
  /**
   * Without a caller: the rate of the address, before anything else is done. With one: the rate of the
   * caller's tenant. Returns the headers of the caller's answers, names and values in turn.
   *
   * @throws RequestRefused RATE_LIMITED
   */
  admit(exchange: Exchange, caller: Caller | undefined): readonly string[];
}

export type RateLimiterOptions = {
  readonly clock: Clock;
  readonly directory: Directory;
  readonly tenants: Tenants;
  readonly addresses: ClientAddresses;
  /** Requests per second, and at once; a rate of 0 is none. */
  readonly perAddress: { readonly rate: number; readonly burst: number };
  /** For tests. */
  readonly addressesMax?: number;
};

const NO_HEADERS: readonly string[] = [];

export class RateLimiter implements Limiter {
  readonly #clock: Clock;
  readonly #directory: Directory;
  readonly #addresses: ClientAddresses;
  readonly #addressTable: AddressTable | undefined;
  readonly #addressPolicy: ReturnType<typeof ratePolicy>;
  /** Of all tenants. */
  readonly figures = new TenantFigures();
  /** Only tenants that have a rate. */
  readonly #rates = new Map<TenantId, TenantRate>();

  constructor(options: RateLimiterOptions) {
    const { clock, directory, tenants, addresses, perAddress } = options;
    this.#clock = clock;
    this.#directory = directory;
    this.#addresses = addresses;
    const { rate, burst } = perAddress;
    this.#addressPolicy = ratePolicy("address", rate);
    if (rate > 0) {
      const addressesMax = options.addressesMax ?? RATE_ADDRESSES_MAX;
      this.#addressTable = new AddressTable({ rate, burst, addressesMax });
    }
    for (const tenant of tenants.list()) this.#setRate(tenant.id, tenant);
    tenants.subscribe((id, tenant) => {
      this.#setRate(id, tenant);
      if (tenant === undefined) this.figures.forget(id);
    });
    directory.demandSource(() => this.#demand());
  }

  admit(exchange: Exchange, caller: Caller | undefined): readonly string[] {
    if (caller === undefined) return this.#admitAddress(exchange);
    const counts = this.figures.of(caller.tenant);
    // Taken back by what throws: nearly all are let in.
    counts.admitted++;
    const rate = this.#rates.get(caller.tenant);
    if (rate === undefined && this.#addressTable === undefined) return NO_HEADERS;
    const nowMs = this.#clock.monotonicMs();
    const address = this.#addressState(exchange, nowMs);
    if (rate === undefined)
      return address === undefined ? NO_HEADERS : rateHeaders([address], nowMs);
    const states = address === undefined ? rate.states : [...rate.states, address];
    try {
      this.#admitTenant(rate, states, exchange, nowMs);
    } catch (error) {
      counts.admitted--;
      counts.rateLimited++;
      throw error;
    }
    return rateHeaders(states, nowMs);
  }

  /**
   * For a request that was let in and turned out to ask for so many operations, before any is begun.
   *
   * @throws RequestRefused RATE_LIMITED
   */
  chargeOperations(tenant: TenantId, operations: number): void {
    const rate = this.#rates.get(tenant);
    if (rate === undefined || operations <= 1) return;
    const nowMs = this.#clock.monotonicMs();
    rate.refresh(nowMs);
    rate.note(operations - 1, 0);
    const { requests } = rate;
    if (requests === undefined || requests.bucket.takeInstead(1, operations, nowMs)) return;
    this.figures.of(tenant).rateLimited++;
    // The caller's answers say the policy anyway.
    throw refusal(requests, operations, nowMs, NO_HEADERS);
  }

  /** The bounds that apply to a caller, by their names in `GET /v1/limits`. */
  limitsOf(caller: Caller): Readonly<Record<string, number>> {
    const rate = this.#rates.get(caller.tenant);
    return {
      ...(this.#addressTable && { address_requests_per_second_max: this.#addressPolicy.quota }),
      ...(rate?.requests && { tenant_requests_per_second_max: rate.requests.policy.quota }),
      ...(rate?.bytes && { tenant_request_bytes_per_second_max: rate.bytes.policy.quota }),
    };
  }

  #setRate(id: TenantId, tenant: Tenant | undefined): void {
    const quotas = tenant?.quotas;
    if (quotas && quotas.requestsPerSecond + quotas.requestBytesPerSecond > 0) {
      const nowMs = this.#clock.monotonicMs();
      this.#rates.set(id, new TenantRate(tenant, this.#directory, nowMs, this.#rates.get(id)));
    } else {
      this.#rates.delete(id);
    }
  }

  #demand(): ReadonlyMap<number, TenantDemand> {
    const nowMs = this.#clock.monotonicMs();
    const demands = new Map<number, TenantDemand>();
    for (const [id, rate] of this.#rates) {
      const demand = rate.takeDemand(nowMs);
      if (demand !== undefined) demands.set(id, demand);
    }
    return demands;
  }

  #admitAddress(exchange: Exchange): readonly string[] {
    if (this.#addressTable === undefined) return NO_HEADERS;
    const nowMs = this.#clock.monotonicMs();
    const state = this.#addressState(exchange, nowMs);
    if (state === undefined) return NO_HEADERS;
    if (state.bucket.take(1, nowMs)) return rateHeaders([state], nowMs);
    throw refusal(state, 1, nowMs, rateHeaders([state], nowMs));
  }

  /** Undefined where addresses are not limited, or where there is none, as in tests without a socket. */
  #addressState(exchange: Exchange, nowMs: number): RateState | undefined {
    if (this.#addressTable === undefined) return undefined;
    const address = this.#addresses.of(exchange);
    if (address === "") return undefined;
    const bucket = this.#addressTable.bucketOf(limitedNetwork(address), nowMs);
    return { policy: this.#addressPolicy, bucket };
  }

  #admitTenant(
    rate: TenantRate,
    states: readonly RateState[],
    exchange: Exchange,
    nowMs: number,
  ): void {
    const { requests, bytes } = rate;
    const sizeBytes = bytes === undefined ? 0 : announcedBytes(exchange);
    rate.refresh(nowMs);
    rate.note(1, sizeBytes);
    if (requests !== undefined && !requests.bucket.has(1, nowMs)) {
      throw refusal(requests, 1, nowMs, rateHeaders(states, nowMs));
    }
    if (bytes !== undefined) {
      const isUnannounced = exchange.isBodyUnannounced;
      // Who still pays for earlier bodies sends no further one, whose size nobody knows.
      const cost = isUnannounced ? 1 : sizeBytes;
      if (cost > 0 && !bytes.bucket.take(cost, nowMs)) {
        throw refusal(bytes, cost, nowMs, rateHeaders(states, nowMs));
      }
      if (isUnannounced) exchange.onUnannouncedBody = (size) => this.#chargeBody(rate, size);
    }
    requests?.bucket.take(1, nowMs);
  }

  #chargeBody(rate: TenantRate, sizeBytes: number): void {
    rate.note(0, sizeBytes);
    rate.bytes?.bucket.charge(sizeBytes, this.#clock.monotonicMs());
  }
}

/**
 * No more than any route reads: a larger body is refused unread, and an announcement that costs its sender
 * nothing must not leave the tenant a debt of years.
 */
const announcedBytes = (exchange: Exchange): number =>
  Math.min(Number(exchange.header("content-length") ?? 0), BATCH_BODY_SIZE_BYTES_MAX);

const WHAT = {
  address: "the address may send",
  tenant: "the tenant may send",
  "tenant-bytes": "the tenant may send",
} as const;

function refusal(
  { policy, bucket }: RateState,
  cost: number,
  nowMs: number,
  headers: readonly string[],
): RequestRefused {
  const unit = policy.name === "tenant-bytes" ? "bytes of bodies" : "requests or operations";
  const detail = `${WHAT[policy.name]} ${policy.quota} ${unit} per second`;
  const retryAfter = String(retrySeconds(bucket.waitMs(cost, nowMs)));
  return new RequestRefused("RATE_LIMITED", detail, {
    limit: policy.quota,
    headers: ["Retry-After", retryAfter, ...headers],
  });
}
