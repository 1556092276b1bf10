/**
 * The one door that every request goes through, whatever its route: who sends it, whether its rate allows
 * it, and whether it may do what it asks for. Denies what no rule allows.
 */
import type { Exchange } from "#gateway/http/exchange.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import type { Caller, Operation, Principal } from "./caller.ts";

export interface Gate {
  /**
   * Before anything else is done for a request, and before its body is read. At once for credentials
   * that are known; the promise is for those that have to be verified.
   *
   * @throws RequestRefused UNAUTHENTICATED, FORBIDDEN, RATE_LIMITED, UNAVAILABLE
   */
  enter(exchange: Exchange): Caller | Promise<Caller>;
  /**
   * For a request that needs no credentials: only the rate of its address counts.
   *
   * @throws RequestRefused RATE_LIMITED
   */
  enterUnknown(exchange: Exchange): void;
  /**
   * Once for each operation that a request asks for, before any of them is carried out.
   *
   * @throws RequestRefused FORBIDDEN
   */
  authorize(caller: Caller, operation: Operation): void;
  /**
   * For an answer that goes on for long: whether its request would still be let in. Rates do not count.
   *
   * @throws RequestRefused UNAUTHENTICATED, FORBIDDEN, UNAVAILABLE
   */
  renew(exchange: Exchange): Promise<void>;
  /**
   * The same for what lasts for hours, and is asked about all the time: why the caller would not be let in now,
   * or not for these operations, in words for the caller; undefined while it would. Costs a few looks into
   * memory: no credential is verified anew, nothing is counted, and nobody is told.
   */
  whyEnded(
    caller: Caller,
    exchange: Exchange,
    operations: readonly Operation[],
  ): string | undefined;
  /**
   * For a request whose credentials somebody else has verified: a ticket in the URL. As `enter`, without its look at
   * the rate of the address, which `enterUnknown` takes before anything is verified.
   *
   * @throws RequestRefused FORBIDDEN, RATE_LIMITED
   */
  enterAs(principal: Principal, exchange: Exchange): Caller;
}

const OPEN_CALLER: Caller = {
  principal: {
    kind: "open",
    id: "anybody",
    tenant: DEFAULT_TENANT,
    role: "ClusterAdmin",
    prefixes: [],
  },
  tenant: DEFAULT_TENANT,
  answerHeaders: [],
};

/** Lets everybody do everything: for development on the own machine. */
export const openGate: Gate = {
  enter: () => OPEN_CALLER,
  enterUnknown: () => undefined,
  authorize: () => undefined,
  renew: () => Promise.resolve(),
  whyEnded: () => undefined,
  enterAs: (principal) => ({ ...OPEN_CALLER, principal, tenant: principal.tenant }),
};
