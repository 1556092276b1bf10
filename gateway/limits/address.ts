/** IP addresses in their one form, and the networks that settings name. */
import { BlockList, isIP } from "node:net";

const MAPPED = /^::ffff:(?:0{1,4}:)?(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})$/i;

/**
 * An IPv4 address that comes as IPv6 (`::ffff:192.0.2.1`) as IPv4; an IPv6 address without its zone.
 * Undefined for what is no address.
 */
export function normalAddress(text: string): string | undefined {
  const kind = isIP(text);
  if (kind === 4) return text;
  if (kind === 0) return undefined;
  const zone = text.indexOf("%");
  const address = zone < 0 ? text : text.slice(0, zone);
  // Behind the zone, which would otherwise hide that it is an IPv4 address.
  const mapped = MAPPED.exec(address);
  if (mapped !== null && isIP(mapped[1]!) === 4) return mapped[1]!;
  return address.toLowerCase();
}

/**
 * What is limited together: an IPv4 address, or the /64 of an IPv6 address, which is what one host has
 * and can choose its addresses from.
 */
export function limitedNetwork(address: string): string {
  if (!address.includes(":")) return address;
  return `${ipv6Groups(address).slice(0, 4).join(":")}::`;
}

/** The eight groups of a valid address, without leading zeros. */
function ipv6Groups(address: string): string[] {
  const gap = address.indexOf("::");
  const groups = (text: string): string[] => (text === "" ? [] : text.split(":"));
  const head = groups(gap < 0 ? address : address.slice(0, gap));
  const tail = gap < 0 ? [] : groups(address.slice(gap + 2));
  const whole = head.concat(tail);
  // A dotted end stands for two groups; which ones does not matter: they are in the lower half.
  const width = whole.at(-1)?.includes(".") ? 7 : 8;
  const zeros = Array.from({ length: Math.max(0, width - whole.length) }, () => "0");
  return [...head, ...zeros, ...tail].map((group) => group.replace(/^0+(?=.)/, ""));
}

/** Addresses and CIDR networks, such as `10.0.0.0/8` and `2001:db8::1`. */
export class Networks {
  readonly #list = new BlockList();
  readonly isEmpty: boolean;

  /** @throws RangeError for a text that is neither */
  constructor(texts: readonly string[]) {
    this.isEmpty = texts.length === 0;
    for (const text of texts) {
      const slash = text.indexOf("/");
      const address = normalAddress(slash < 0 ? text : text.slice(0, slash));
      const whole = address?.includes(":") ? 128 : 32;
      const bits = slash < 0 ? whole : Number(text.slice(slash + 1));
      const isBits = slash < 0 || /^\d{1,3}$/.test(text.slice(slash + 1));
      if (address === undefined || !isBits || bits > whole) {
        throw new RangeError(`${JSON.stringify(text)} is no address or network`);
      }
      this.#list.addSubnet(address, bits, whole === 128 ? "ipv6" : "ipv4");
    }
  }

  /** @param address in the form of `normalAddress` */
  has(address: string): boolean {
    if (this.isEmpty) return false;
    return this.#list.check(address, address.includes(":") ? "ipv6" : "ipv4");
  }
}
