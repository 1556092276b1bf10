/**
 * Whether a request to a listener that asks for no credentials, because only this machine reaches it, is one to this
 * machine.
 *
 * A browser on this machine reaches it too, for any page that it shows. Pages of other origins cannot read the
 * answers; but who owns a name can point it at 127.0.0.1 once his page is loaded (DNS rebinding), and then the
 * page and this listener are one origin. What the browser still tells is that name, as `Host`. So only names count
 * that nobody can point elsewhere: loopback addresses and `localhost`. Programs that send no `Host` (HTTP/1.0) are no
 * browsers. With TLS there is nothing to look at: the certificate does not name the page's host.
 */
import { type HostPort, isLoopback } from "./config-value.ts";

/** Of an authority that a browser can send: without a user, a path or escapes. */
const PLAIN = /^[\w.:[\]-]+$/;

/** Whether `authority`, as in `Host`, names this machine: `localhost:8080`, `[::1]`, `127.0.0.1`. */
export function isOwnMachine(authority: string): boolean {
  if (!PLAIN.test(authority)) return false;
  // It writes addresses in the one form: 127.1, or all of an IPv6 address.
  const hostname = URL.parse(`http://${authority}`)?.hostname ?? "";
  return isLoopback(hostname.replace(/^\[|\]$/g, ""));
}

/** Remembers whom it let in last: clients say the same over and over. */
export class OwnMachineOnly {
  #last = "";

  refuses(authority: string | undefined): boolean {
    if (authority === undefined || (authority === this.#last && authority !== "")) return false;
    if (!isOwnMachine(authority)) return true;
    this.#last = authority;
    return false;
  }
}

/** What guards such a listener; undefined where none is needed. */
export function ownMachineOnly(
  { host }: Pick<HostPort, "host">,
  { isOpen, hasTls }: { readonly isOpen: boolean; readonly hasTls: boolean },
): OwnMachineOnly | undefined {
  return isOpen && !hasTls && isLoopback(host) ? new OwnMachineOnly() : undefined;
}

export const NOT_THIS_MACHINE =
  "this listener asks for no credentials, so it is for this machine alone: Host must be localhost or a loopback address";
