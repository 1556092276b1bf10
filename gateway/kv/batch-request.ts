/**
 * The body of `POST /v1/batch` taken apart. All of it is checked before any of it is done: a batch that
 * is malformed in one place has no effect at all.
 *
 * Keys and values are written into one buffer, which has room for them because JSON never says less
 * than it means: most batches hold many small ones.
 */
import { isUtf8 } from "node:buffer";
import { malformed, RequestRefused } from "#gateway/http/problem.ts";
import type { BatchOperation } from "#gateway/storage/storage.ts";
import type { Condition } from "#proto/codec/messages.ts";
import {
  BATCH_OPERATIONS_MAX,
  KEY_SIZE_BYTES_MAX,
  TTL_MS_MAX,
  VALUE_SIZE_BYTES_MAX,
} from "#shared/limits.ts";
import { didYouMean } from "#shared/runtime/suggest.ts";
import { conditionOf, type EntityTags, parseEntityTags, tagOfRevision } from "./conditions.ts";
import { exceededLimit } from "./json-guard.ts";
import { decodeBase64Url, keyTooLong } from "./key.ts";
import { CONTENT_TYPE_DEFAULT, checkContentType } from "./parameters.ts";

const MEMBERS = {
  put: [
    ...["op", "key", "key64", "value", "value_base64"],
    ...["content_type", "ttl", "if_match", "if_none_match"],
  ],
  get: ["op", "key", "key64"],
  delete: ["op", "key", "key64", "if_match", "if_none_match"],
} as const;

/** A map, because an object would also answer to names such as "constructor". */
const MEMBER_SETS: ReadonlyMap<unknown, ReadonlySet<string>> = new Map([
  ["put", new Set<string>(MEMBERS.put)],
  ["get", new Set<string>(MEMBERS.get)],
  ["delete", new Set<string>(MEMBERS.delete)],
]);

const FORM = '{"ops": [{…}, …]}';

/** A name in an error is cut beyond it: it may be as long as the body. */
const NAME_SHOWN_LENGTH_MAX = 64;

type Fields = Readonly<Record<string, unknown>>;

/** @throws RequestRefused INVALID_ARGUMENT, KEY_TOO_LONG, PAYLOAD_TOO_LARGE */
export function parseBatch(body: Uint8Array): readonly BatchOperation[] {
  const ops = opsOf(parseJson(body));
  if (ops.length > BATCH_OPERATIONS_MAX) {
    const detail = `the batch has ${ops.length} operations, more than ${BATCH_OPERATIONS_MAX}`;
    throw new RequestRefused("PAYLOAD_TOO_LARGE", detail, {
      limit: BATCH_OPERATIONS_MAX,
      actual: ops.length,
    });
  }
  const parser = new OperationParser(body.length);
  return ops.map((value, place) => parser.parse(value, place));
}

function parseJson(body: Uint8Array): unknown {
  const buffer = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (!isUtf8(buffer)) throw malformed("the body is not UTF-8");
  // Small ones cannot do much harm, and looking over them would cost a tenth of parsing them.
  if (body.length > GUARDED_SIZE_BYTES_MIN) guard(buffer);
  try {
    return JSON.parse(buffer.toString("utf8"));
  } catch (error) {
    throw malformed(`the body is not JSON: ${(error as Error).message}`);
  }
}

/** Nothing but a list of objects in an object. */
const DEPTH_MAX = 3;
const ELEMENTS_MAX = 32 * BATCH_OPERATIONS_MAX;
const GUARDED_SIZE_BYTES_MIN = 64 * 1024;

/** @throws RequestRefused INVALID_ARGUMENT, PAYLOAD_TOO_LARGE */
function guard(body: Buffer): void {
  const exceeded = exceededLimit(body, { depthMax: DEPTH_MAX, elementsMax: ELEMENTS_MAX });
  if (exceeded === "depthMax") throw malformed(`the body is nested deeper than ${FORM} is`);
  if (exceeded === undefined) return;
  const detail = `the batch has more in it than ${BATCH_OPERATIONS_MAX} operations can have`;
  throw new RequestRefused("PAYLOAD_TOO_LARGE", detail, { limit: BATCH_OPERATIONS_MAX });
}

function opsOf(body: unknown): readonly unknown[] {
  const form = `the body must be an object ${FORM}`;
  if (typeof body !== "object" || body === null) throw malformed(form);
  const { ops } = body as Fields;
  if (!Array.isArray(ops)) throw malformed(form);
  for (const name in body) {
    if (name !== "ops") throw malformed(`${form}; it has "${shown(name)}" as well`);
  }
  return ops;
}

const shown = (name: string): string => name.slice(0, NAME_SHOWN_LENGTH_MAX);

class OperationParser {
  readonly #bytes: Buffer;
  #usedBytes = 0;
  #place = 0;

  /** `sizeBytes` of the whole body. */
  constructor(sizeBytes: number) {
    this.#bytes = Buffer.allocUnsafeSlow(sizeBytes);
  }

  /** The operation at `place` in the batch. */
  parse(value: unknown, place: number): BatchOperation {
    this.#place = place;
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw this.#fault(" must be an object");
    }
    const fields = value as Fields;
    const { op } = fields;
    const members = MEMBER_SETS.get(op);
    if (members === undefined) throw this.#fault('.op must be "put", "get" or "delete"');
    for (const name in fields) if (!members.has(name)) throw this.#unknown(name, op as string);
    const key = this.#key(fields);
    if (op === "get") return { kind: "get", key };
    const condition = this.#condition(fields);
    if (op === "delete") {
      return condition === undefined ? { kind: "delete", key } : { kind: "delete", key, condition };
    }
    return this.#put(key, condition, fields);
  }

  #put(key: Uint8Array, condition: Condition | undefined, fields: Fields): BatchOperation {
    const value = this.#value(fields);
    const contentType = this.#contentType(fields.content_type);
    const ttlMs = this.#ttlMs(fields.ttl);
    const put = { kind: "put", key, value, contentType, ttlMs } as const;
    return condition === undefined ? put : { ...put, condition };
  }

  #key({ key: text, key64 }: Fields): Uint8Array {
    if ((text === undefined) === (key64 === undefined)) {
      throw this.#fault(" needs a key: give one of key and key64");
    }
    const key =
      text === undefined
        ? decodeBase64Url(this.#text(key64, "key64"), `ops[${this.#place}].key64`)
        : this.#utf8(this.#text(text, "key"));
    if (key.length === 0) throw this.#fault(".key must not be empty");
    if (key.length > KEY_SIZE_BYTES_MAX) {
      throw keyTooLong(`the key of ops[${this.#place}]`, key.length);
    }
    return key;
  }

  #value({ value: text, value_base64: base64 }: Fields): Uint8Array {
    if ((text === undefined) === (base64 === undefined)) {
      throw this.#fault(" needs a value: give one of value and value_base64");
    }
    const value =
      text === undefined
        ? this.#base64(this.#text(base64, "value_base64"))
        : this.#utf8(this.#text(text, "value"));
    if (value.length > VALUE_SIZE_BYTES_MAX) {
      const detail = `the value of ops[${this.#place}] has ${value.length} bytes, more than ${VALUE_SIZE_BYTES_MAX}`;
      const limits = { limit: VALUE_SIZE_BYTES_MAX, actual: value.length };
      throw new RequestRefused("PAYLOAD_TOO_LARGE", detail, limits);
    }
    return value;
  }

  #text(value: unknown, name: string): string {
    if (typeof value !== "string") throw this.#fault(`.${name} must be a string`);
    return value;
  }

  /** A view of the shared buffer. */
  #utf8(text: string): Uint8Array {
    // Half of a surrogate pair has no UTF-8, and would come back as another character.
    if (!text.isWellFormed()) throw this.#fault(" has half of a surrogate pair in it");
    const start = this.#usedBytes;
    this.#usedBytes += this.#bytes.write(text, start, "utf8");
    return this.#bytes.subarray(start, this.#usedBytes);
  }

  #base64(text: string): Uint8Array {
    try {
      return Uint8Array.fromBase64(text, { lastChunkHandling: "strict" });
    } catch {
      throw this.#fault(".value_base64 must be base64 (A-Z a-z 0-9 + /), with its padding");
    }
  }

  #contentType(value: unknown): string {
    if (value === undefined) return CONTENT_TYPE_DEFAULT;
    const text = this.#text(value, "content_type");
    checkContentType(text, `ops[${this.#place}].content_type`);
    return text === "" ? CONTENT_TYPE_DEFAULT : text;
  }

  #ttlMs(value: unknown): number {
    if (value === undefined) return 0;
    const ttlMs = Number.isSafeInteger(value) ? (value as number) * 1000 : 0;
    if (ttlMs < 1000 || ttlMs > TTL_MS_MAX) {
      throw this.#fault(`.ttl must be whole seconds from 1 to ${TTL_MS_MAX / 1000}`);
    }
    return ttlMs;
  }

  #condition({ if_match: match, if_none_match: noneMatch }: Fields): Condition | undefined {
    if (match === undefined && noneMatch === undefined) return undefined;
    return conditionOf(this.#tags(match, "if_match"), this.#tags(noneMatch, "if_none_match"));
  }

  /** What the header of the same name takes, or a revision as the number that answers show. */
  #tags(value: unknown, name: string): EntityTags | undefined {
    if (value === undefined) return undefined;
    if (typeof value === "string") return parseEntityTags(value, `ops[${this.#place}].${name}`);
    if (Number.isSafeInteger(value) && (value as number) > 0) return tagOfRevision(value as number);
    throw this.#fault(
      `.${name} must be *, entity tags such as "\\"42\\"", or a revision such as 42`,
    );
  }

  #unknown(name: string, op: string): RequestRefused {
    const known = MEMBERS[op as keyof typeof MEMBERS];
    const hint = didYouMean(shown(name), known);
    const has = `a ${op} has ${known.join(", ")}`;
    return this.#fault(` has an unknown member "${shown(name)}"${hint} (${has})`);
  }

  #fault(what: string): RequestRefused {
    return malformed(`ops[${this.#place}]${what}`);
  }
}
