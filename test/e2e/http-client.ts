/**
 * An HTTP client for the end-to-end tests: raw bytes in and out, paths sent exactly as given.
 *
 * `fetch` is no use here: it rewrites `..` and escapes in paths, and decodes bodies.
 */
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { expect } from "vitest";
import { ERRORS, type ErrorCode, type WriteOutcome } from "#shared/errors.ts";

export type Answer = {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
};

export type RequestOptions = {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string;
};

export type ProblemBody = {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  readonly request_id: string;
  readonly retryable: boolean;
  readonly outcome?: WriteOutcome;
  readonly limit?: number;
  readonly actual?: number;
};

/** Against hanging; no request of a test takes nearly as long. */
const ANSWER_TIMEOUT_MS = 30_000;

/** Keeps its connections open between requests until `close`. */
export class HttpClient {
  readonly #host: string;
  readonly #port: number;
  readonly #agent = new Agent({ keepAlive: true });

  constructor(url: string) {
    const { hostname, port } = new URL(url);
    this.#host = hostname;
    this.#port = Number(port);
  }

  /** `path` with its query; bytes above 0x7f as characters up to U+00FF. */
  send(method: string, path: string, { headers = {}, body }: RequestOptions = {}): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const outgoing = request({
        host: this.#host,
        port: this.#port,
        agent: this.#agent,
        method,
        path,
        headers,
        timeout: ANSWER_TIMEOUT_MS,
      });
      outgoing.on("response", (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
        incoming.on("error", reject);
        incoming.on("end", () => {
          const { statusCode, headers } = incoming;
          resolve({ status: statusCode!, headers, body: Buffer.concat(chunks) });
        });
      });
      outgoing.on("timeout", () => outgoing.destroy(new Error(`${method} ${path}: no answer`)));
      outgoing.on("error", reject);
      outgoing.end(body);
    });
  }

  get(path: string, headers: RequestOptions["headers"] = {}): Promise<Answer> {
    return this.send("GET", path, { headers });
  }

  put(
    path: string,
    body: Uint8Array | string,
    headers: RequestOptions["headers"] = {},
  ): Promise<Answer> {
    return this.send("PUT", path, { headers, body });
  }

  delete(path: string, headers: RequestOptions["headers"] = {}): Promise<Answer> {
    return this.send("DELETE", path, { headers });
  }

  close(): void {
    this.#agent.destroy();
  }
}

export const jsonOf = (answer: Answer): unknown => JSON.parse(answer.body.toString("utf8"));

/** The entity tag without its quotes, as a number. */
export function revisionOf(answer: Answer): number {
  expect(answer.headers.etag).toMatch(/^"[1-9][0-9]*"$/);
  return Number(answer.headers.etag!.slice(1, -1));
}

/**
 * Checks all that the contract says of an error answer, and gives its body. `outcome` is that of a
 * write; leave it out for a read.
 */
export function expectProblem(
  answer: Answer,
  code: ErrorCode,
  outcome?: WriteOutcome,
): ProblemBody {
  const row = ERRORS[code];
  expect(answer.headers["content-type"], answer.body.toString()).toBe("application/problem+json");
  const problem = jsonOf(answer) as ProblemBody;
  expect(problem).toMatchObject({
    type: `/errors/${code}`,
    title: row.title,
    status: row.http,
    code,
    retryable: row.retryable,
    request_id: answer.headers["x-request-id"],
  });
  expect(problem.outcome).toBe(outcome);
  expect(problem.detail.length).toBeGreaterThan(0);
  expect(answer.status).toBe(row.http);
  const saysWhen = row.http === 503 || row.http === 429;
  expect(answer.headers["retry-after"] !== undefined).toBe(saysWhen);
  return problem;
}
