/**
 * The address that a request comes from, behind the proxies that the operator trusts.
 *
 * Each proxy appends the address that it was reached from. Whatever is further left was sent by the one
 * before, so the list is read from the right, and the first address that is no trusted proxy's is the
 * client's: what a client has written itself stands further left and is never reached. Only the one
 * header that the proxies are said to write is read; the other one may be the client's invention.
 */
import type { Exchange } from "#gateway/http/exchange.ts";
import { type Networks, normalAddress } from "./address.ts";

export const FORWARDED_HEADERS = ["x-forwarded-for", "forwarded"] as const;
export type ForwardedHeader = (typeof FORWARDED_HEADERS)[number];

/** Elements that are looked at from the right; a longer list is a client's invention. */
const ELEMENTS_MAX = 16;
/** RFC 7239: `for=192.0.2.1`, `for="[2001:db8::1]:4711"`, among other parameters. */
const FOR = /^[ \t]*for[ \t]*=[ \t]*(?:"([^"]*)"|([^";,]*))[ \t]*$/i;
const WITH_PORT = /^\[([^\]]*)\](?::\d{1,5})?$|^([^:]*):\d{1,5}$/;

export class ClientAddresses {
  readonly #proxies: Networks;
  readonly #header: ForwardedHeader;

  constructor(proxies: Networks, header: ForwardedHeader) {
    this.#proxies = proxies;
    this.#header = header;
  }

  /** In the form of `normalAddress`; empty when the connection's is not known. */
  of(exchange: Exchange): string {
    const peer = normalAddress(exchange.peerAddress) ?? "";
    if (peer === "" || !this.#proxies.has(peer)) return peer;
    const header = exchange.header(this.#header);
    return header === undefined ? peer : this.#clientOf(header, peer);
  }

  #clientOf(header: string, peer: string): string {
    const elements = header.split(",");
    const firstRead = Math.max(0, elements.length - ELEMENTS_MAX);
    let client = peer;
    for (let at = elements.length - 1; at >= firstRead; at--) {
      const address = normalAddress(addressIn(elements[at]!, this.#header));
      // A proxy that says nothing of use stands for whoever is behind it.
      if (address === undefined) return client;
      client = address;
      if (!this.#proxies.has(address)) return client;
    }
    return client;
  }
}

/** Empty when there is none. */
function addressIn(element: string, header: ForwardedHeader): string {
  const text = header === "forwarded" ? forIn(element) : element.trim();
  const match = WITH_PORT.exec(text);
  return match === null ? text : (match[1] ?? match[2] ?? "");
}

function forIn(element: string): string {
  for (const pair of element.split(";")) {
    const match = FOR.exec(pair);
    if (match !== null) return (match[1] ?? match[2] ?? "").trim();
  }
  return "";
}
