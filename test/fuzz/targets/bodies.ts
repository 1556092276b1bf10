/** Parsers of JSON bodies. */

import { isDeepStrictEqual } from "node:util";
import { addressOf, bodyOf, groupOf, nodeIdOf } from "#gateway/admin/requests.ts";
import { parseStrictObject } from "#gateway/auth/strict-json.ts";
import { parseBatch } from "#gateway/kv/batch-request.ts";
import { exceededLimit } from "#gateway/kv/json-guard.ts";
import type { BatchOperation } from "#gateway/storage/storage.ts";
import { testExchange } from "#gateway/testing/tokens.ts";
import { utf8 } from "#shared/bytes.ts";
import { BATCH_OPERATIONS_MAX, KEY_SIZE_BYTES_MAX } from "#shared/limits.ts";
import {
  accepted,
  type FuzzTarget,
  holds,
  kvError,
  noError,
  textSamples,
  utf8Text,
} from "#test/fuzz/target.ts";

const JSON_WORDS = [
  ...['"', "{", "}", "[", "]", ",", ":", "\\", "null", "true", "1e999", "-0", "0.1"],
  ...['"__proto__":', '"constructor":', "\\ud800", "\\u0000", "\ufeff", "{}", "[]", '"a":1,'],
];

const refusedBatch = kvError("INVALID_ARGUMENT", "KEY_TOO_LONG", "PAYLOAD_TOO_LARGE");

/** An operation as a client would write it who has only bytes. */
function written(operation: BatchOperation): object {
  const key64 = Buffer.from(operation.key).toString("base64url");
  if (operation.kind === "get") return { op: "get", key64 };
  const { condition } = operation;
  const tags = (revisions: readonly number[]) => revisions.map((tag) => `"${tag}"`).join(", ");
  const conditions = {
    ...(condition?.mustExist ? { if_match: "*" } : {}),
    ...(condition?.mustBeAbsent ? { if_none_match: "*" } : {}),
    ...(condition?.revisionIs.length ? { if_match: tags(condition.revisionIs) } : {}),
    ...(condition?.revisionIsNot.length ? { if_none_match: tags(condition.revisionIsNot) } : {}),
  };
  if (operation.kind === "delete") return { op: "delete", key64, ...conditions };
  const { value, contentType, ttlMs } = operation;
  return {
    ...{ op: "put", key64, value_base64: Buffer.from(value).toString("base64") },
    ...{ content_type: contentType, ...conditions },
    ...(ttlMs === 0 ? {} : { ttl: ttlMs / 1000 }),
  };
}

/** Conditions that cannot hold are written in more than one way. */
const isWritable = (operation: BatchOperation): boolean =>
  operation.kind === "get" || operation.condition?.revisionIs.includes(0) !== true;

const batch: FuzzTarget = {
  name: "batch-body",
  samples: textSamples(
    '{"ops":[{"op":"put","key":"a/1","value":"one"},{"op":"get","key":"b"}]}',
    '{"ops":[{"op":"put","key64":"YQ","value_base64":"AAE=","ttl":5,"if_match":"\\"3\\""}]}',
    '{"ops":[{"op":"delete","key":"\u20ac","if_none_match":7}]}',
    '{"ops":[{"op":"put","key":"k","value":"","content_type":"a/b","if_none_match":"*"}]}',
    '{"ops":[]}',
  ),
  words: [...JSON_WORDS, '"op":"put"', '"key":"b"', '"ttl":1.5', '"if_match":', '"value_base64":'],
  check: (input) => {
    const operations = accepted(refusedBatch, () => parseBatch(input))?.value;
    if (operations === undefined) return false;
    holds(operations.length <= BATCH_OPERATIONS_MAX, "so many operations only");
    for (const { key } of operations) {
      holds(key.length >= 1 && key.length <= KEY_SIZE_BYTES_MAX, "a key of allowed size");
    }
    if (!operations.every(isWritable)) return true;
    const text = JSON.stringify({ ops: operations.map(written) });
    const again = parseBatch(utf8(text));
    holds(plain(again) === plain(operations), "operations come back");
    return true;
  },
};

const plain = (operations: readonly BatchOperation[]): string =>
  JSON.stringify(
    operations.map((operation) => ({
      ...operation,
      key: Buffer.from(operation.key).toString("hex"),
      ...("value" in operation ? { value: Buffer.from(operation.value).toString("hex") } : {}),
    })),
  );

const guard: FuzzTarget = {
  name: "json-guard",
  samples: textSamples('{"a":[1,{"b":"]\\"["}]}', '["\\\\",{"x":null}]', "[[[[]]]]", '"a'),
  words: JSON_WORDS,
  check: (input) => {
    const buffer = Buffer.from(input);
    const limits = { depthMax: 3, elementsMax: 20 };
    const exceeded = accepted(noError, () => exceededLimit(buffer, limits))!.value;
    let value: unknown;
    try {
      value = JSON.parse(buffer.toString("utf8"));
    } catch {
      return false;
    }
    holds(
      depthOf(value) > limits.depthMax === (exceeded === "depthMax") || exceeded === "elementsMax",
      "depth is seen",
    );
    return exceeded === undefined;
  },
};

function depthOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

const adminBody: FuzzTarget = {
  name: "admin-body",
  isAsync: true,
  samples: textSamples(
    '{"address":"h:7400"}',
    '{"node":7}',
    '{"address":"[::1]:1","node":"12","vshard":"meta"}',
    "",
  ),
  words: [...JSON_WORDS, '"address":', '"node":', '"vshard":', "[::1]:80", "1048575"],
  check: async (input) => {
    const exchange = { ...testExchange(), readBody: () => Promise.resolve(input) };
    let body: Readonly<Record<string, unknown>>;
    try {
      body = await bodyOf(exchange, ["address", "node", "vshard"]);
    } catch (error) {
      accepted(kvError("INVALID_ARGUMENT"), () => {
        throw error;
      });
      return false;
    }
    const { address, node, vshard } = body;
    const malformed = kvError("INVALID_ARGUMENT");
    accepted(malformed, () => addressOf(address));
    accepted(malformed, () => nodeIdOf(node));
    accepted(malformed, () => groupOf(String(vshard)));
    return true;
  },
};

const strictJson: FuzzTarget = {
  name: "strict-json",
  samples: textSamples(
    '{"alg":"EdDSA","typ":"at+jwt","kid":"x"}',
    '{"a":{"b":[1,2,{"c":"d"}]},"e":"\\u0061\\\\\\""}',
    '{ "a" : 1 , "b" : [ "a" , "a" ] }',
    "{}",
  ),
  words: [...JSON_WORDS, '"alg":"none",', '"\\u0061":1,', " "],
  check: (input) => {
    const value = accepted(noError, () => parseStrictObject(input))!.value;
    if (value === undefined) return false;
    holds(isDeepStrictEqual(value, JSON.parse(utf8Text(input))), "as JSON.parse reads it");
    const again = parseStrictObject(utf8(JSON.stringify(value)));
    // A number beyond all numbers has no JSON.
    holds(again !== undefined, "it comes back");
    // The first of two members, as other parsers would take it: there must be none.
    holds(isDeepStrictEqual(firstReading(utf8Text(input)), value), "there is one reading");
    return true;
  },
};

/** The same with the first of two members of one name: a reviver cannot tell, a parser of its own can. */
function firstReading(text: string): unknown {
  let at = 0;
  const space = () => {
    while (/[ \t\n\r]/.test(text[at] ?? "")) at++;
  };
  const string = (): string => {
    const start = at++;
    while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
    return JSON.parse(text.slice(start, ++at)) as string;
  };
  const value = (): unknown => {
    space();
    if (text[at] === '"') return string();
    if (text[at] === "{" || text[at] === "[") return container(text[at] === "[");
    const start = at;
    while (/[-+.\w]/.test(text[at] ?? "")) at++;
    return JSON.parse(text.slice(start, at)) as unknown;
  };
  const container = (isList: boolean): unknown => {
    const list: unknown[] = [];
    const object: Record<string, unknown> = {};
    at++;
    for (space(); text[at] !== "]" && text[at] !== "}"; space()) {
      if (text[at] === ",") at++;
      space();
      if (isList) {
        list.push(value());
        continue;
      }
      const name = string();
      space();
      at++;
      const member = value();
      if (Object.hasOwn(object, name)) continue;
      const descriptor = { value: member, writable: true, enumerable: true, configurable: true };
      Object.defineProperty(object, name, descriptor);
    }
    at++;
    return isList ? list : object;
  };
  return value();
}

export const BODY_TARGETS: readonly FuzzTarget[] = [batch, guard, adminBody, strictJson];
