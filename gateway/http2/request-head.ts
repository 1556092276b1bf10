/**
 * The header block of a request over HTTP/2, and what is refused whichever route it is for.
 *
 * Node's library has refused before what RFC 9113 calls malformed: upper-case names, pseudo-headers that are
 * doubled, unknown or late, connection-specific headers, a length that is none. Its header object is not used:
 * of `Authorization` or `If-Match` given twice it keeps the first without a word, and over HTTP/1.1 both count.
 */
import { METHODS } from "node:http";
import type { Exchange } from "#gateway/http/exchange.ts";
import { malformed, RequestRefused } from "#gateway/http/problem.ts";
import { headersTooLarge, urlTooLong } from "#gateway/http/request-refusals.ts";
import { HTTP_HEADERS_SIZE_BYTES_MAX, HTTP_URL_SIZE_BYTES_MAX } from "#shared/limits.ts";

/** Those that HTTP/1.1 knows here, spelt as there; but no tunnels. */
const KNOWN_METHODS: ReadonlySet<string> = new Set(METHODS.filter((name) => name !== "CONNECT"));

const UNESCAPED = /[^\x21-\x7e]/;

/** What stands around a name and a value in HTTP/1.1, so that both have one bound. */
const SEPARATORS_BYTES = 4;

const isWhiteSpace = (code: number): boolean => code === 0x20 || code === 0x09;

export class RequestHead {
  readonly method: string;
  /** `:path` as sent, one character per byte. Empty when there is none. */
  readonly target: string;
  readonly scheme: string;
  /** `:authority`, or else `host`. */
  readonly authority: string;
  /** As HTTP/1.1 would have it. */
  readonly sizeBytes: number;
  /** Whether some value begins or ends with white space. */
  readonly hasPaddedValue: boolean;
  /** Names in lower case and values in turn, pseudo-headers among them. */
  readonly raw: readonly string[];

  constructor(raw: readonly string[]) {
    this.raw = raw;
    let sizeBytes = 0;
    let hasPaddedValue = false;
    for (const text of raw) {
      sizeBytes += text.length;
      hasPaddedValue ||= isWhiteSpace(text.charCodeAt(0));
      hasPaddedValue ||= isWhiteSpace(text.charCodeAt(text.length - 1));
    }
    this.hasPaddedValue = hasPaddedValue;
    this.sizeBytes = sizeBytes + (SEPARATORS_BYTES * raw.length) / 2;
    this.method = this.header(":method") ?? "";
    this.target = this.header(":path") ?? "";
    this.scheme = this.header(":scheme") ?? "";
    this.authority = this.header(":authority") ?? this.header("host") ?? "";
  }

  header(name: string): string | undefined {
    const { raw } = this;
    let value: string | undefined;
    for (let at = 0; at < raw.length; at += 2) {
      if (raw[at] === name) value = value === undefined ? raw[at + 1]! : `${value}, ${raw[at + 1]}`;
    }
    return value;
  }

  get expectsContinue(): boolean {
    return this.header("expect") !== undefined;
  }
}

/** What is wrong with a request whichever route it is for. */
export function refusalOf(head: RequestHead): RequestRefused | undefined {
  const { method, target, scheme, authority } = head;
  if (head.sizeBytes > HTTP_HEADERS_SIZE_BYTES_MAX) return headersTooLarge();
  if (!KNOWN_METHODS.has(method)) return malformed("the method is not one that HTTP knows");
  if (target.length > HTTP_URL_SIZE_BYTES_MAX) return urlTooLong(target.length);
  if (!target.startsWith("/")) return malformed("the request target must be a path");
  // HTTP/1.1 has a parser that knows no others.
  if (UNESCAPED.test(target)) return malformed("the request target has bytes that must be escaped");
  if (scheme !== "https" && scheme !== "http") {
    return malformed("the scheme must be https or http");
  }
  // RFC 9113, 8.2.1: malformed. Whoever has looked at it before may have dropped the header.
  if (head.hasPaddedValue) return malformed("a header's value begins or ends with white space");
  const expectation = head.header("expect");
  if (expectation !== undefined && expectation.toLowerCase() !== "100-continue") {
    return new RequestRefused("EXPECTATION_FAILED", "Expect may only be 100-continue");
  }
  const host = head.header("host");
  // RFC 9113, 8.3.1: who looks at the one and who at the other must not see two hosts.
  if (host !== undefined && host !== authority) {
    return malformed("the Host header is another than :authority");
  }
  if (authority.includes("@")) return malformed("the authority must not name a user");
  return undefined;
}

/** Of `Content-Length`; 0 without a body, undefined for one that does not announce its size. */
export function declaredBytesOf(exchange: Pick<Exchange, "header">, hasBody: boolean) {
  if (!hasBody) return 0;
  const declared = exchange.header("content-length");
  return declared === undefined ? undefined : Number(declared);
}
