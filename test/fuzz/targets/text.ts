/** Parsers of what stands in a request's line and headers. */

import { parseDurationMs } from "#gateway/http/duration.ts";
import { hasParameter, originForm, parseQuery, splitTarget } from "#gateway/http/request-target.ts";
import { parseTraceparent } from "#gateway/http/trace-context.ts";
import { conditionOf, parseEntityTags } from "#gateway/kv/conditions.ts";
import { decodeCursor, encodeCursor } from "#gateway/kv/cursor.ts";
import { isCollectionTarget, isKvTarget, parseKvTarget } from "#gateway/kv/key.ts";
import { resolveRange } from "#gateway/kv/range.ts";
import { parseScan, SCAN_PARAMETERS } from "#gateway/kv/scan-request.ts";
import { testExchange } from "#gateway/testing/tokens.ts";
import { compareBytes, equalBytes, utf8 } from "#shared/bytes.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import {
  CONDITION_REVISIONS_MAX,
  KEY_SIZE_BYTES_MAX,
  SCAN_LIMIT_MAX,
  STALENESS_MS_MAX,
} from "#shared/limits.ts";
import {
  accepted,
  type FuzzTarget,
  holds,
  kvError,
  latin1Text,
  noError,
  textSamples,
} from "#test/fuzz/target.ts";

const refusedKey = kvError("INVALID_ARGUMENT", "KEY_TOO_LONG", "ROUTE_NOT_FOUND");
const malformed = kvError("INVALID_ARGUMENT");

const encoded = (bytes: Uint8Array): string =>
  [...bytes].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");

const entityTags: FuzzTarget = {
  name: "entity-tags",
  samples: textSamples('"1"', "*", 'W/"7", "8"', '"a", "2" ,, W/"9007199254740991"', ' , "12"'),
  words: ["W/", '"', ",", "*", '"9007199254740992"', '"0"', '"007"', " \t"],
  check: (input) => {
    const text = latin1Text(input);
    const tags = accepted(malformed, () => parseEntityTags(text, "If-Match"))?.value;
    if (tags === undefined) return false;
    holds(
      tags.all.every((tag) => Number.isSafeInteger(tag) && tag >= 0),
      "tags are revisions",
    );
    holds(
      tags.strong.every((tag) => tags.all.includes(tag)),
      "strong tags are among all",
    );
    holds(tags.all.length <= CONDITION_REVISIONS_MAX, "so many tags only");
    const condition = conditionOf(tags, tags);
    holds(condition !== undefined && condition.mustExist === tags.any, "a condition comes of it");
    if (tags.strong.length > 0) {
      const again = parseEntityTags(tags.strong.map((tag) => `"${tag}"`).join(","), "If-Match");
      holds(String(again.strong) === String(tags.strong), "tags come back");
    }
    return true;
  },
};

const keyPath: FuzzTarget = {
  name: "key-path",
  samples: textSamples("a", "users/42?ttl=5", "%00%ff/..//x", `${"k".repeat(1024)}`, "%e2%82%ac"),
  words: ["%", "%2f", "%00", "../", "?", "&", "#", "ttl=", "key64=", "k".repeat(1025)],
  check: (input) => {
    const text = latin1Text(input);
    const target = accepted(refusedKey, () => parseKvTarget(`/v1/kv/${text}`, ["ttl"]))?.value;
    if (target === undefined) return false;
    const { key } = target;
    holds(key.length >= 1 && key.length <= KEY_SIZE_BYTES_MAX, "a key of allowed size");
    const again = parseKvTarget(`/v1/kv/${encoded(key)}`, []).key;
    holds(equalBytes(again, key), "the key comes back");
    return true;
  },
};

const key64: FuzzTarget = {
  name: "key64",
  samples: textSamples("YQ", "YWI=", "YQ==", "_-8", "AAECAwQFBgc", "A".repeat(1366)),
  words: ["=", "==", "-", "_", "+", "/", "&key64=YQ", "%3d", "%"],
  check: (input) => {
    const target = accepted(refusedKey, () =>
      parseKvTarget(`/v1/kv?key64=${latin1Text(input)}`, ["ttl", "key64"]),
    )?.value;
    if (target === undefined) return false;
    const text = Buffer.from(target.key).toString("base64url");
    holds(
      equalBytes(parseKvTarget(`/v1/kv?key64=${text}`, ["key64"]).key, target.key),
      "it comes back",
    );
    return true;
  },
};

const query: FuzzTarget = {
  name: "query",
  samples: textSamples("prefix=a%2fb&limit=10", "start64=YQ&end64=_w&reverse", "&&a=b", "cursor=x"),
  words: ["&", "=", "%", "%c3%28", "%00", "+", ...SCAN_PARAMETERS, "__proto__", "constructor"],
  check: (input) => {
    const text = latin1Text(input);
    const known = [...SCAN_PARAMETERS];
    const map = accepted(malformed, () => parseQuery(text, known))?.value;
    if (map === undefined) return false;
    const again = [...map].map(([name, value]) => `${encoded(utf8(name))}=${encoded(utf8(value))}`);
    const same = parseQuery(again.join("&"), known);
    holds(same.size === map.size, "as many parameters come back");
    for (const [name, value] of map) holds(same.get(name) === value, "parameters come back");
    return true;
  },
};

const range: FuzzTarget = {
  name: "range",
  samples: textSamples("bytes=0-9", "bytes=5-", "bytes=-3", "bytes=0-1,3-4", "items=1-2"),
  words: ["bytes=", "-", ",", "99999999999999999999", "0", " "],
  check: (input) => {
    const text = latin1Text(input);
    for (const sizeBytes of [0, 1, 10, 2 ** 20]) {
      const outcome = accepted(noError, () => resolveRange(text, sizeBytes))!.value;
      if (outcome.kind !== "part") continue;
      const { first, last } = outcome;
      holds(Number.isSafeInteger(first) && Number.isSafeInteger(last), "whole numbers");
      holds(first >= 0 && first <= last && last < sizeBytes, "a part lies within the value");
    }
    return true;
  },
};

const duration: FuzzTarget = {
  name: "duration",
  samples: textSamples("250ms", "5s", "1m", "1h", "999999999ms"),
  words: ["ms", "s", "m", "h", "d", "0", "-", ".5", "e9", " "],
  check: (input) => {
    const text = latin1Text(input);
    const ms = accepted(malformed, () => parseDurationMs(text, "it", STALENESS_MS_MAX))?.value;
    if (ms === undefined) return false;
    holds(Number.isSafeInteger(ms) && ms >= 1 && ms <= STALENESS_MS_MAX, "within its bounds");
    holds(parseDurationMs(`${ms}ms`, "it", STALENESS_MS_MAX) === ms, "it comes back");
    return true;
  },
};

const requestTarget: FuzzTarget = {
  name: "request-target",
  samples: textSamples("/v1/kv/a?b=c", "http://h:1/v1/kv?key64=YQ", "*", "/v1/kv", "https://h?x"),
  words: ["/v1/kv", "http://", "?", "/", "%", "key64", "&"],
  check: (input) => {
    const target = latin1Text(input);
    const form = accepted(noError, () => originForm(target))!.value;
    const { path, query: rest } = splitTarget(form);
    holds(path.length + rest.length <= form.length, "parts of the whole");
    accepted(noError, () => [isCollectionTarget(form), hasParameter(rest, "key64")]);
    return isKvTarget(form);
  },
};

const WHOLE = {
  tenant: DEFAULT_TENANT,
  start: utf8("a"),
  end: utf8("q"),
  reverse: false,
};

const cursor: FuzzTarget = {
  name: "cursor",
  samples: () =>
    ["a", "b/c", "p\u00ff", "a".repeat(1024)].map((key) => utf8(encodeCursor(WHOLE, utf8(key)))),
  words: ["=", "-", "_", "A", "AQ"],
  check: (input) => {
    const text = latin1Text(input);
    const key = accepted(malformed, () => decodeCursor(text, WHOLE))?.value;
    if (key === undefined) return false;
    holds(encodeCursor(WHOLE, key) === text, "a cursor has one spelling");
    return true;
  },
};

const scan: FuzzTarget = {
  name: "scan",
  samples: textSamples(
    "prefix=a&limit=10",
    "start64=YQ&end64=_w&reverse=1&keys_only=1",
    "count_only=1&prefix64=YQ",
    "consistency=stale&max_staleness=5s",
    `cursor=${encodeCursor({ ...WHOLE, end: utf8("q") }, utf8("b"))}&start=a&end=q`,
    "prefix={t}x",
  ),
  words: ["&", "=", "1", "0", "1000", "1001", "%ff", "{", "}", ...SCAN_PARAMETERS],
  check: (input) => {
    const target = `/v1/kv?${latin1Text(input)}`;
    const exchange = { ...testExchange(), target };
    const request = accepted(refusedKey, () => parseScan(exchange, DEFAULT_TENANT))?.value;
    if (request === undefined) return false;
    const { limit, query: rest, isEmpty, whole } = request;
    holds(limit >= 1 && limit <= SCAN_LIMIT_MAX, "a limit within its bounds");
    const isOrdered = rest.end.length === 0 || compareBytes(rest.start, rest.end) < 0;
    holds(isOrdered !== isEmpty, "an empty range is known to be empty");
    holds(rest.tenant === DEFAULT_TENANT && whole.tenant === DEFAULT_TENANT, "the own tenant");
    return true;
  },
};

const traceparent: FuzzTarget = {
  name: "traceparent",
  samples: textSamples(
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
  ),
  words: ["00", "-", "ff", "0000000000000000"],
  check: (input) => {
    const context = accepted(noError, () => parseTraceparent(latin1Text(input)))!.value;
    if (context === undefined) return false;
    const hex = Buffer.from(context).toString("hex");
    holds(context.length === 25, "trace, span and flags");
    const text = `00-${hex.slice(0, 32)}-${hex.slice(32, 48)}-${hex.slice(48)}`;
    holds(equalBytes(parseTraceparent(text)!, context), "it comes back");
    return true;
  },
};

export const TEXT_TARGETS: readonly FuzzTarget[] = [
  ...[entityTags, keyPath, key64, query, range, duration],
  ...[requestTarget, cursor, scan, traceparent],
];
