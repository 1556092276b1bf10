/**
 * Which web pages may send requests (https://fetch.spec.whatwg.org/#http-cors-protocol).
 *
 * Browsers let a page of another origin read an answer, and send more than a simple request, only when the
 * server says so. By default it says nothing. `Access-Control-Allow-Credentials` is never sent: minikv
 * knows no cookies, and a key or token that a page has it sends in `Authorization`, which is no
 * "credential" in that protocol but a header, and allowed as one.
 *
 * Preflight requests carry no credentials and ask only which headers and methods are taken. So they are
 * answered before authentication, and the same for every path.
 */
import { CORS_MAX_AGE_SECONDS, CORS_ORIGINS_MAX } from "#shared/limits.ts";
import type { Answer, Exchange } from "./exchange.ts";

export type Origins = { readonly any: boolean; readonly named: ReadonlySet<string> };

const ORIGIN = /^https?:\/\/(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?$/;

/** Undefined when the text has not the form of a list of origins. */
export function parseOrigins(text: string): Origins | undefined {
  if (text === "") return { any: false, named: new Set() };
  if (text === "*") return { any: true, named: new Set() };
  // As browsers send them: lower case, no default port, no slash at the end.
  const origins = text.split(",").map((item) => item.trim());
  const isOrigin = (origin: string) => ORIGIN.test(origin) && new URL(origin).origin === origin;
  if (origins.length > CORS_ORIGINS_MAX || !origins.every(safely(isOrigin))) return undefined;
  return { any: false, named: new Set(origins) };
}

/** A port out of range makes `URL` throw. */
const safely =
  (test: (text: string) => boolean) =>
  (text: string): boolean => {
    try {
      return test(text);
    } catch {
      return false;
    }
  };

const METHODS = "GET, HEAD, PUT, POST, DELETE";

/**
 * What a page may send. Only names that are here can be asked for: an answer echoes nothing. `Idempotency-Key` is
 * among them so that a page reads why it is refused.
 */
const REQUEST_HEADERS = [
  ...["Accept", "Authorization", "Content-Type", "If-Match", "If-None-Match", "If-Modified-Since"],
  ...["Range", "If-Range", "Minikv-TTL", "Minikv-Timeout", "Minikv-Consistency"],
  ...["Minikv-Max-Staleness", "Minikv-Tenant", "X-API-Key", "X-Request-ID", "Idempotency-Key"],
  ...["Traceparent", "Tracestate"],
].join(", ");

/** What a page may read, beside what it may anyway. */
const EXPOSED_HEADERS = [
  ...["ETag", "Minikv-Revision", "Minikv-Expires-At", "Minikv-Count", "X-Request-ID", "Location"],
  ...["Content-Range", "Accept-Ranges", "Content-Length", "RateLimit", "RateLimit-Policy"],
  ...["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After"],
].join(", ");

const NONE: readonly string[] = [];

export class Cors {
  readonly #origins: Origins;
  /** Caches must not give one origin the answer to another. */
  readonly #vary: readonly string[];
  readonly #any: readonly string[];
  /** Whether any web page may send requests. */
  readonly isOn: boolean;

  constructor(origins: Origins) {
    this.#origins = origins;
    this.isOn = origins.any || origins.named.size > 0;
    this.#vary = origins.named.size > 0 ? ["Vary", "Origin"] : NONE;
    this.#any = ["Access-Control-Allow-Origin", "*", ...EXPOSED];
  }

  /** Whether an operator has named this very origin: `*` names none. */
  isNamed(origin: string): boolean {
    return this.#origins.named.has(origin);
  }

  /** Whether pages of this origin may read what is answered. */
  allows(origin: string): boolean {
    return this.#origins.any || this.#origins.named.has(origin);
  }

  /** For every answer to a request with this `Origin`; names and values in turn. */
  headersFor(origin: string | undefined): readonly string[] {
    if (origin === undefined) return this.#vary;
    if (this.#origins.any) return this.#any;
    if (!this.#origins.named.has(origin)) return this.#vary;
    return ["Access-Control-Allow-Origin", origin, ...EXPOSED, ...this.#vary];
  }

  /** What `OPTIONS` is answered when it is a preflight request, of an origin that may; else undefined. */
  preflight(exchange: Pick<Exchange, "header" | "requestId">): Answer | undefined {
    const origin = exchange.header("origin");
    const asksFor = exchange.header("access-control-request-method");
    if (origin === undefined || asksFor === undefined || !this.allows(origin)) return undefined;
    const headers = [
      ...["Access-Control-Allow-Methods", METHODS],
      ...["Access-Control-Allow-Headers", REQUEST_HEADERS],
      ...["Access-Control-Max-Age", String(CORS_MAX_AGE_SECONDS)],
      ...["X-Request-ID", exchange.requestId],
    ];
    return { status: 204, headers, body: undefined };
  }
}

const EXPOSED = ["Access-Control-Expose-Headers", EXPOSED_HEADERS] as const;

export const noCors = new Cors({ any: false, named: new Set() });
