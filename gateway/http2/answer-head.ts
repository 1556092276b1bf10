/** The head of an answer in the form that HTTP/2 takes: no header of the connection, no byte that ends a line. */
import type { Answer } from "#gateway/http/exchange.ts";

/** What HTTP/1.1 says of a connection, and RFC 9113 (8.2.2) forbids. */
const OF_CONNECTION: ReadonlySet<string> = new Set([
  ...["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"],
]);

/**
 * Not checked by Node, which sends any byte over HTTP/2: whoever hands the answer on over HTTP/1.1 would
 * write a header of its own making.
 */
const UNSENDABLE = /[^\t\x20-\x7e\x80-\xff]/;

/**
 * Status and headers, names and values in turn; `more` behind those of the answer.
 * @throws Error when a value cannot be sent
 */
export function answerHead({ status, headers }: Answer, more: readonly string[]): string[] {
  const head = [":status", String(status)];
  for (const list of [headers, more]) {
    for (let at = 0; at < list.length; at += 2) {
      const name = list[at]!;
      const value = list[at + 1]!;
      if (UNSENDABLE.test(value))
        throw new Error(`the header ${name} has bytes that none may have`);
      if (!OF_CONNECTION.has(name.toLowerCase())) head.push(name, value);
    }
  }
  return head;
}
