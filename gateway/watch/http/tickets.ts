/**
 * Tickets: what a web page puts into the URL of an EventSource or a WebSocket, which can send no header.
 *
 * A URL ends up in histories, logs of proxies and tools of developers, so what stands in it must be of no use
 * to whoever finds it there. A ticket opens one watch, of the keys that were named when it was made, within 60
 * seconds, and dies with the key or token that it was made with, which the watch does too.
 *
 * Single use holds over all gateways: a ticket is used by creating a row under its id, in a space of the
 * vshards that no request of a client reaches. Its group orders all attempts, and the first one wins; who does
 * not know whether he was the first is refused. The row outlives the ticket, and then expires.
 */
import type { Caller, Principal } from "#gateway/auth/caller.ts";
import type { Refusals } from "#gateway/auth/refusals.ts";
import type { JsonObject } from "#gateway/auth/strict-json.ts";
import { TICKET_ISSUED_BY, type TicketIssuedBy } from "#gateway/auth/token-claims.ts";
import type { IssuedToken, TokenIssuer } from "#gateway/auth/token-issuer.ts";
import type { TokenVerifier } from "#gateway/auth/token-verifier.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import type { ClaimStorage } from "#gateway/storage/storage.ts";
import { WATCH_OPS, type WatchFilter } from "#gateway/watch/watches.ts";
import { WATCH_TICKET_LENGTH_MAX, WATCH_TICKET_USE_KEPT_MS } from "#shared/limits-watch-http.ts";
import type { WatchSubject } from "./watch-request.ts";

/** A ticket that is right, and was not used yet as far as this gateway knows. */
export type OpenedTicket = {
  readonly principal: Principal;
  readonly subject: WatchSubject;
  /**
   * Uses it up.
   *
   * @throws RequestRefused UNAUTHENTICATED when it was used before; KvError when that cannot be known
   */
  readonly use: (deadlineMs: number) => Promise<void>;
};

export interface TicketTaker {
  /** @throws RequestRefused UNAUTHENTICATED, UNAVAILABLE, OVERLOADED, RATE_LIMITED */
  open(ticket: string, exchange: Exchange): Promise<OpenedTicket>;
}

export type WatchTicketsOptions = {
  readonly issuer: Pick<TokenIssuer, "issueTicket">;
  readonly verifier: Pick<TokenVerifier, "verifyTicket">;
  readonly uses: ClaimStorage;
  readonly refusals: Pick<Refusals, "refuse">;
  /** Nobody is authenticated: tickets are made for everybody, and say only what is watched. */
  readonly isOpen: boolean;
};

export class WatchTickets implements TicketTaker {
  readonly #options: WatchTicketsOptions;

  constructor(options: WatchTicketsOptions) {
    this.#options = options;
  }

  /**
   * For a caller who may watch `subject`.
   *
   * @throws RequestRefused FORBIDDEN for the root key, which has nothing that a ticket could die with; KvError
   * as `TokenIssuer.issue`
   */
  issue(caller: Caller, subject: WatchSubject): Promise<IssuedToken> {
    const by = issuedBy(caller.principal);
    return this.#options.issuer.issueTicket(caller, by, {
      prefix: bytesOf(subject.filter),
      claims: claimsOf(subject),
    });
  }

  async open(ticket: string, exchange: Exchange): Promise<OpenedTicket> {
    const { verifier, refusals, isOpen } = this.#options;
    if (ticket.length > WATCH_TICKET_LENGTH_MAX) return refusals.refuse(exchange, "malformed");
    const { principal, by, id, claims } = await verifier.verifyTicket(ticket, exchange);
    const subject = subjectOf(claims);
    if (subject === undefined || (by === "open" && !isOpen)) {
      return refusals.refuse(exchange, "other", principal.id);
    }
    return {
      principal,
      subject,
      use: (deadlineMs) => this.#use(principal, id, exchange, deadlineMs),
    };
  }

  async #use(
    { tenant, id: owner }: Principal,
    id: Uint8Array,
    exchange: Exchange,
    deadlineMs: number,
  ): Promise<void> {
    const { uses, refusals } = this.#options;
    const isFirst = await uses.claim({ tenant, key: id }, WATCH_TICKET_USE_KEPT_MS, { deadlineMs });
    if (!isFirst) refusals.refuse(exchange, "other", owner);
  }
}

function issuedBy({ kind, basis }: Principal): TicketIssuedBy {
  if (kind === "open") return TICKET_ISSUED_BY.open;
  if (kind === "root" || basis === undefined) {
    const detail =
      "a ticket dies with its API key, and the root key has no end: make a key for this";
    throw new RequestRefused("FORBIDDEN", detail);
  }
  return basis.keyId === undefined ? TICKET_ISSUED_BY.foreign : TICKET_ISSUED_BY.key;
}

const bytesOf = (filter: WatchFilter): Uint8Array =>
  filter.kind === "key" ? filter.key : filter.prefix;

const claimsOf = ({ filter, ops, values }: WatchSubject): JsonObject => ({
  watch: filter.kind,
  bytes: Buffer.from(bytesOf(filter)).toString("base64url"),
  ops,
  values,
});

/** Undefined for what `claimsOf` did not make: a later version may know more than this one. */
function subjectOf({ watch, bytes, ops, values }: JsonObject): WatchSubject | undefined {
  if (typeof bytes !== "string" || typeof values !== "boolean" || !Array.isArray(ops)) {
    return undefined;
  }
  const named = WATCH_OPS.filter((op) => ops.includes(op));
  if (named.length === 0 || named.length !== ops.length) return undefined;
  const key = Buffer.from(bytes, "base64url");
  if (watch === "prefix") return { filter: { kind: "prefix", prefix: key }, ops: named, values };
  if (watch !== "key" || key.length === 0) return undefined;
  return { filter: { kind: "key", key }, ops: named, values };
}
