/**
 * Whether a web page may open a WebSocket here (RFC 6455, 10.2).
 *
 * Browsers let any page connect to any address, this machine's own included, and read what it says: CORS does not
 * hold for WebSocket. What they do send is the page's `Origin`. So a page must be of this very server, or of an
 * origin that CORS settings allow. Programs send no `Origin`, and are held by their credentials alone.
 *
 * Without authentication a page of "this very server" is not enough: who owns a name can point it at this
 * machine once his page is loaded (DNS rebinding), and the browser then sends his name as `Host` and as
 * `Origin`. Then only names that nobody can point elsewhere count: addresses, and `localhost`. With authentication
 * such a page gets nothing, because it has no credentials: none are kept in browsers for it.
 */
import { isIP } from "node:net";
import type { Cors } from "#gateway/http/cors.ts";

export type WebOriginRules = {
  readonly cors: Pick<Cors, "allows">;
  /** Nobody is authenticated. */
  readonly isOpen: boolean;
  readonly hasTls: boolean;
};

export function mayOpenSocket(
  origin: string | undefined,
  host: string | undefined,
  { cors, isOpen, hasTls }: WebOriginRules,
): boolean {
  if (origin === undefined || cors.allows(origin)) return true;
  const page = URL.parse(origin);
  // Also of `null`, which is what pages without an origin say.
  if (page === null || page.origin !== origin || host === undefined) return false;
  // A proxy in front may speak TLS for a gateway that does not.
  const isHttp = page.protocol === "https:" || (page.protocol === "http:" && !hasTls);
  const own = isHttp ? URL.parse(`${page.protocol}//${host}`) : null;
  if (own === null || own.host !== page.host) return false;
  return !isOpen || isFixedName(own.hostname);
}

const isFixedName = (name: string): boolean =>
  name === "localhost" || isIP(name.replace(/^\[|\]$/g, "")) !== 0;
