/** Parsers of what a watch asks for: the query of its URL, and the body of the request for a ticket. */
import type { Exchange } from "#gateway/http/exchange.ts";
import { testExchange } from "#gateway/testing/tokens.ts";
import {
  operationsOf,
  startOf,
  subjectOfBody,
  subjectOfQuery,
  type WatchSubject,
  watchParameters,
} from "#gateway/watch/http/watch-request.ts";
import { WATCH_OPS } from "#gateway/watch/watches.ts";
import { equalBytes } from "#shared/bytes.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { KEY_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { WATCH_SINCE_LENGTH_MAX } from "#shared/limits-watch-http.ts";
import {
  accepted,
  type FuzzTarget,
  holds,
  kvError,
  latin1Text,
  textSamples,
} from "#test/fuzz/target.ts";

const refused = kvError("INVALID_ARGUMENT", "KEY_TOO_LONG");

const requestOf = (query: string): Exchange => ({
  ...testExchange(),
  target: `/v1/watch?${query}`,
});

const bytesOf = ({ filter }: WatchSubject): Uint8Array =>
  filter.kind === "key" ? filter.key : filter.prefix;

/** Whatever was accepted is within its bounds, and asks to be allowed for exactly these keys. */
function check(subject: WatchSubject): void {
  const bytes = bytesOf(subject);
  holds(bytes.length <= KEY_SIZE_BYTES_MAX, "so many bytes only");
  holds(subject.filter.kind === "prefix" || bytes.length > 0, "a key is not empty");
  holds(subject.ops.length > 0, "something is watched");
  const inOrder = WATCH_OPS.filter((op) => subject.ops.includes(op));
  holds(String(inOrder) === String(subject.ops), "in the order of all");
  const operations = operationsOf(subject, DEFAULT_TENANT);
  holds(operations.length > 0, "something has to be allowed");
  for (const { action, key, tenant } of operations) {
    holds(key !== undefined && equalBytes(key, bytes), "for the keys that are watched");
    holds(tenant === DEFAULT_TENANT && action !== "kv.write", "to be read");
  }
  holds(
    !subject.values || operations.some(({ action }) => action === "kv.read"),
    "values are read",
  );
}

const isSame = (a: WatchSubject, b: WatchSubject): boolean =>
  a.filter.kind === b.filter.kind &&
  equalBytes(bytesOf(a), bytesOf(b)) &&
  a.values === b.values &&
  String(a.ops) === String(b.ops);

const query: FuzzTarget = {
  name: "watch-query",
  samples: textSamples(
    ...[
      "",
      "prefix=a%2F&ops=put,delete&values=true",
      "key64=_w&since=AYQoyleOTa8j",
      "key=a&values",
    ],
    ...["prefix64=&ops=expire&values=0", "since=a&prefix=%7Btag%7D"],
  ),
  words: [
    "&",
    "=",
    "%",
    "key=",
    "prefix=",
    "key64=",
    "ops=",
    "put,",
    "values=",
    "since=",
    "ticket=",
  ],
  check: (input) => {
    const exchange = requestOf(latin1Text(input));
    const found = accepted(refused, () => {
      const parameters = watchParameters(exchange);
      return { subject: subjectOfQuery(parameters), start: startOf(exchange, parameters) };
    })?.value;
    if (found === undefined) return false;
    const { subject, start } = found;
    check(subject);
    holds(!start.isReconnect, "without the header it is no reconnection");
    holds((start.since?.length ?? 0) <= WATCH_SINCE_LENGTH_MAX, "so long a token only");
    const name = `${subject.filter.kind}64`;
    const text = Buffer.from(bytesOf(subject)).toString("base64url");
    const again = `${name}=${text}&ops=${subject.ops.join(",")}&values=${subject.values}`;
    holds(isSame(subjectOfQuery(watchParameters(requestOf(again))), subject), "it comes back");
    return true;
  },
};

const body: FuzzTarget = {
  name: "watch-ticket-body",
  samples: textSamples(
    ...["{}", '{"prefix":"a/","ops":["put","expire"],"values":true}', '{"key64":"_w"}'],
    ...['{"key":"\\u00e9"}', '{"prefix64":"","values":false}'],
  ),
  words: ['"', "[", "]", "null", "1", '"key"', '"prefix"', '"ops"', '"put"', '"values"', "true"],
  check: (input) => {
    let parsed: unknown;
    try {
      parsed = JSON.parse(Buffer.from(input).toString("utf8"));
    } catch {
      return false;
    }
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return false;
    const members = parsed as Readonly<Record<string, unknown>>;
    const subject = accepted(refused, () => subjectOfBody(members))?.value;
    if (subject === undefined) return false;
    check(subject);
    const { ops, values, filter } = subject;
    const coded = Buffer.from(bytesOf(subject)).toString("base64url");
    const again = subjectOfBody({ [`${filter.kind}64`]: coded, ops: [...ops], values });
    holds(isSame(again, subject), "it comes back");
    return true;
  },
};

export const WATCH_REQUEST_TARGETS: readonly FuzzTarget[] = [query, body];
