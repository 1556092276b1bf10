/** Networks (CIDR) that a key may be used from. */
import { BlockList, isIP } from "node:net";

const CIDR = /^([0-9A-Fa-f:.]{2,45})(?:\/([0-9]{1,3}))?$/;

/** An address, or a network with the length of its prefix; undefined for any other text. */
function parseNetwork(
  text: string,
):
  | { readonly address: string; readonly family: "ipv4" | "ipv6"; readonly bits: number }
  | undefined {
  const match = CIDR.exec(text);
  const address = match?.[1] ?? "";
  const version = isIP(address);
  if (version === 0) return undefined;
  const bitsMax = version === 4 ? 32 : 128;
  const bits = match?.[2] === undefined ? bitsMax : Number(match[2]);
  if (bits > bitsMax) return undefined;
  return { address, family: version === 4 ? "ipv4" : "ipv6", bits };
}

export const isNetwork = (text: string): boolean => parseNetwork(text) !== undefined;

/** Undefined when `networks` is empty: any address will do. One that cannot be read admits nobody. */
export function networkList(networks: readonly string[]): BlockList | undefined {
  if (networks.length === 0) return undefined;
  const list = new BlockList();
  for (const text of networks) {
    const network = parseNetwork(text);
    if (network !== undefined) list.addSubnet(network.address, network.bits, network.family);
  }
  return list;
}

/** Whether whoever is in one of `networks` is in one of `outer` too; none at all is every address. */
export function areWithin(networks: readonly string[], outer: readonly string[]): boolean {
  if (outer.length === 0) return true;
  return (
    networks.length > 0 && networks.every((text) => outer.some((wide) => isWithin(text, wide)))
  );
}

function isWithin(text: string, wide: string): boolean {
  const [inner, outer] = [parseNetwork(text), parseNetwork(wide)];
  if (inner === undefined || outer === undefined || inner.bits < outer.bits) return false;
  return inner.family === outer.family && isInside(networkList([wide])!, inner.address);
}

/** False also for an address that is not known. */
export function isInside(list: BlockList, address: string): boolean {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  const plain = mapped ?? address;
  const version = isIP(plain);
  return version !== 0 && list.check(plain, version === 4 ? "ipv4" : "ipv6");
}
