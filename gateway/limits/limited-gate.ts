/** A gate that asks the limiter, around one that does not: the address first, the tenant when it is known. */
import type { Caller } from "#gateway/auth/caller.ts";
import type { Gate } from "#gateway/auth/gate.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import type { Limiter } from "./limiter.ts";

export function limitedGate(inner: Gate, limiter: Limiter): Gate {
  const admit = (exchange: Exchange, caller: Caller): Caller => {
    const headers = limiter.admit(exchange, caller);
    if (headers.length === 0) return caller;
    return { ...caller, answerHeaders: [...caller.answerHeaders, ...headers] };
  };
  return {
    enter: (exchange) => {
      limiter.admit(exchange, undefined);
      const entered = inner.enter(exchange);
      if (!(entered instanceof Promise)) return admit(exchange, entered);
      return entered.then((caller) => admit(exchange, caller));
    },
    enterUnknown: (exchange) => {
      limiter.admit(exchange, undefined);
      inner.enterUnknown(exchange);
    },
    authorize: (caller, operation) => inner.authorize(caller, operation),
  };
}
