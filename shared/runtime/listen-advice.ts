/** What to do when an address cannot be listened on, in the words of the setting that names it. */

const NO_ADDRESS_HERE = "name an address of this machine with";

const ADVICE: ReadonlyMap<string, string> = new Map([
  ["EADDRINUSE", "choose another address with"],
  ["EADDRNOTAVAIL", NO_ADDRESS_HERE],
  ["ENOTFOUND", NO_ADDRESS_HERE],
  ["EAI_AGAIN", NO_ADDRESS_HERE],
  ["EACCES", "this port needs a privilege; choose one above 1023 with"],
]);

/** The system's own words, and behind them what to do; as they are when nothing is known of them. */
export function withListenAdvice(flag: string, reason: string): string {
  const code = /\bE[A-Z_]+\b/.exec(reason)?.[0] ?? "";
  const advice = ADVICE.get(code);
  return advice === undefined ? reason : `${reason}; ${advice} ${flag}`;
}

/** For `reject` of who listens: the same error, `code` and all, with what to do in its message. */
export function listenFailure(flag: string, cause: Error): Error {
  cause.message = withListenAdvice(flag, cause.message);
  return cause;
}
