/** Settings of rate limits; the same in every program that serves HTTP. */
import { Networks } from "./address.ts";
import { FORWARDED_HEADERS } from "./client-address.ts";

const REQUESTS_MAX = 1_000_000;

export const limitsSettings = {
  rateLimitPerIp: {
    key: "rate-limit-per-ip",
    type: "int",
    min: 0,
    max: REQUESTS_MAX,
    default: 0,
    description: "Requests per second that an address may send to this gateway; 0 for no limit.",
  },
  rateLimitPerIpBurst: {
    key: "rate-limit-per-ip-burst",
    type: "int",
    min: 0,
    max: REQUESTS_MAX,
    default: 0,
    description: "Requests that an address may send at once; 0 for those of two seconds.",
  },
  trustedProxies: {
    key: "trusted-proxies",
    type: "string",
    default: "",
    pattern: /^[0-9A-Fa-f:.,/ ]*$/,
    form: "address or network (CIDR), with commas between them",
    description:
      "Addresses and networks (CIDR), with commas, of proxies whose word counts for where requests come from.",
  },
  trustedProxyHeader: {
    key: "trusted-proxy-header",
    type: "enum",
    values: FORWARDED_HEADERS,
    default: "x-forwarded-for",
    description: "The header in which trusted proxies say it; others are not looked at.",
  },
} as const;

/** @throws RangeError */
export function networksOf(text: string): Networks {
  const texts = text.split(",").map((part) => part.trim());
  return new Networks(texts.filter((part) => part !== ""));
}

/** What is wrong with the settings; undefined when nothing is. */
export function refuseLimitsConfig(config: {
  readonly trustedProxies: string;
}): string | undefined {
  try {
    networksOf(config.trustedProxies);
    return undefined;
  } catch (error) {
    return `trusted-proxies: ${(error as Error).message}`;
  }
}
