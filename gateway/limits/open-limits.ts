/** Rates and quotas, put together from the settings. */
import type { Caller } from "#gateway/auth/caller.ts";
import type { Directory } from "#gateway/directory/directory.ts";
import type { Storage } from "#gateway/storage/storage.ts";
import type { Tenants } from "#gateway/tenants/registry.ts";
import type { Clock } from "#shared/clock.ts";
import { RATE_ADDRESS_BURST_SECONDS } from "#shared/limits.ts";
import type { ConfigOf } from "#shared/runtime/config.ts";
import { ClientAddresses } from "./client-address.ts";
import { type Limiter, RateLimiter } from "./limiter.ts";
import { type limitsSettings, networksOf } from "./settings.ts";
import type { TenantFigures } from "./tenant-figures.ts";
import { TenantStorage } from "./tenant-storage.ts";

export type LimitsOptions = {
  readonly config: ConfigOf<typeof limitsSettings>;
  /** What values are stored to in the end. */
  readonly storage: Storage;
  readonly directory: Directory;
  readonly tenants: Tenants;
  readonly clock: Clock;
};

export type Limits = {
  readonly limiter: Limiter;
  readonly figures: TenantFigures;
  /** Where requests come from, behind trusted proxies. */
  readonly addresses: ClientAddresses;
  /** Storage within the quotas of tenants. */
  readonly storage: Storage;
  /** By their names in `GET /v1/limits`; only bounds that there are. */
  readonly limitsOf: (caller: Caller) => Readonly<Record<string, number>>;
};

export function openLimits(options: LimitsOptions): Limits {
  const { config, storage, directory, tenants, clock } = options;
  const rate = config.rateLimitPerIp;
  const burst = config.rateLimitPerIpBurst || rate * RATE_ADDRESS_BURST_SECONDS;
  const proxies = networksOf(config.trustedProxies);
  const addresses = new ClientAddresses(proxies, config.trustedProxyHeader);
  const perAddress = { rate, burst };
  const limiter = new RateLimiter({ clock, directory, tenants, addresses, perAddress });
  return {
    limiter,
    figures: limiter.figures,
    addresses,
    storage: new TenantStorage({
      ...{ inner: storage, directory, tenants },
      chargeOperations: (tenant, operations) => limiter.chargeOperations(tenant, operations),
    }),
    limitsOf: (caller) => {
      const quotas = tenants.get(caller.tenant)?.quotas;
      return {
        ...limiter.limitsOf(caller),
        ...(quotas?.bytes && { tenant_stored_bytes_max: quotas.bytes }),
        ...(quotas?.objects && { tenant_objects_max: quotas.objects }),
      };
    },
  };
}
