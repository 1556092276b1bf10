/**
 * JSON of which there is only one reading: an object, in UTF-8, that names no member twice.
 *
 * `JSON.parse` takes the last of two members of one name, other parsers the first. Where two programs
 * read one signed text, that difference lets one be checked and the other be used.
 */
import { isUtf8 } from "node:buffer";

export type JsonObject = Readonly<Record<string, unknown>>;

/** Of headers and claims; deeper ones are refused. */
const DEPTH_MAX = 16;

/** Undefined when `bytes` are anything else. */
export function parseStrictObject(bytes: Uint8Array): JsonObject | undefined {
  if (!isUtf8(bytes)) return undefined;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  return hasOneReading(text) ? (value as JsonObject) : undefined;
}

/** Whether JSON, which parses, is not too deep and has no object that names a member twice. */
function hasOneReading(text: string): boolean {
  // Names seen in each object that is open; undefined for a list.
  const open: (Set<string> | undefined)[] = [];
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case "{":
        open.push(new Set());
        break;
      case "[":
        open.push(undefined);
        break;
      case "}":
      case "]":
        open.pop();
        break;
      case '"': {
        const end = endOfString(text, at + 1);
        const names = open.at(-1);
        if (names !== undefined && isName(text, end + 1)) {
          // Escapes resolved: one name has many spellings.
          const name = JSON.parse(text.slice(at, end + 1)) as string;
          if (names.has(name)) return false;
          names.add(name);
        }
        at = end;
        break;
      }
    }
    if (open.length > DEPTH_MAX) return false;
  }
  return true;
}

function endOfString(text: string, start: number): number {
  let at = start;
  while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at;
}

/** A string in an object is a name when a colon follows. */
function isName(text: string, start: number): boolean {
  let at = start;
  while (/\s/.test(text[at] ?? "")) at++;
  return text[at] === ":";
}
