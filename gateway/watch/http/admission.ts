/**
 * Who watches what: the client let in by its credentials or by a ticket, and its request held against what it
 * is allowed. Every watch goes through here, whatever carries it.
 */
import type { Caller, Operation } from "#gateway/auth/caller.ts";
import type { Gate } from "#gateway/auth/gate.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import { malformed } from "#gateway/http/problem.ts";
import type { Query } from "#gateway/http/request-target.ts";
import { hasParameter, splitTarget } from "#gateway/http/request-target.ts";
import type { TicketTaker } from "./tickets.ts";
import {
  operationsOf,
  refuseSubject,
  startOf,
  subjectOfQuery,
  type WatchStart,
  type WatchSubject,
  watchParameters,
} from "./watch-request.ts";

export type AdmittedWatch = {
  readonly caller: Caller;
  readonly subject: WatchSubject;
  readonly start: WatchStart;
  readonly operations: readonly Operation[];
};

export type AdmissionParts = {
  readonly gate: Gate;
  readonly tickets: TicketTaker;
};

/**
 * @param asking is told who the caller is as soon as that is known
 * @param deadlineMs wall clock, for what has to be asked of storage
 * @throws RequestRefused UNAUTHENTICATED, FORBIDDEN, RATE_LIMITED, INVALID_ARGUMENT, KEY_TOO_LONG, UNAVAILABLE;
 * KvError of storage
 */
export async function admitWatch(
  { gate, tickets }: AdmissionParts,
  exchange: Exchange,
  asking: { caller: Caller | undefined },
  deadlineMs: () => number,
): Promise<AdmittedWatch> {
  if (hasTicket(exchange)) {
    gate.enterUnknown(exchange);
    const query = watchParameters(exchange);
    const start = startOf(exchange, query);
    const ticket = ticketOf(exchange, query);
    const { principal, subject, use } = await tickets.open(ticket, exchange);
    const caller = gate.enterAs(principal, exchange);
    asking.caller = caller;
    const operations = operationsOf(subject, caller.tenant);
    for (const operation of operations) gate.authorize(caller, operation);
    // Last, so that one that is refused for another reason is not used up.
    await use(deadlineMs());
    return { caller, subject, start, operations };
  }
  const letIn = gate.enter(exchange);
  const caller = letIn instanceof Promise ? await letIn : letIn;
  asking.caller = caller;
  const query = watchParameters(exchange);
  const subject = subjectOfQuery(query);
  const operations = operationsOf(subject, caller.tenant);
  for (const operation of operations) gate.authorize(caller, operation);
  return { caller, subject, start: startOf(exchange, query), operations };
}

export const hasTicket = ({ target }: Exchange): boolean =>
  hasParameter(splitTarget(target).query, "ticket");

function ticketOf(exchange: Exchange, query: Query): string {
  refuseSubject(query);
  // Which one counts must not depend on who reads the request.
  for (const header of ["authorization", "x-api-key", "minikv-tenant"]) {
    if (exchange.header(header) !== undefined) {
      throw malformed("a ticket says by itself who watches: give it, or credentials, not both");
    }
  }
  return query.get("ticket")!;
}
