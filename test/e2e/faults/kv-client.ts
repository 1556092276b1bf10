/**
 * An HTTP client for the fault tests: it tells an answer from a request that was certainly never
 * sent and from one whose fate is unknown, which `fetch` does not.
 *
 * Nothing is retried. Connections are kept, so that a killed server is met in the middle of one.
 */
import { Agent, request } from "node:http";

/** Longer than any deadline of the server: what ends here would have hung. */
const ANSWER_TIMEOUT_MS = 30_000;

export type Result =
  | {
      readonly kind: "answer";
      readonly status: number;
      /** Of the `ETag`; undefined without one. */
      readonly revision: number | undefined;
      readonly body: Buffer;
    }
  /** No connection could be made: the server has not seen the request. */
  | { readonly kind: "notSent"; readonly reason: string }
  /** The connection broke; the request may have been carried out or not. */
  | { readonly kind: "lost"; readonly reason: string };

export type Answer = Extract<Result, { kind: "answer" }>;

export type RequestParts = {
  readonly body?: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
};

export class KvClient {
  /** `http://host:port` */
  readonly url: string;
  readonly #agent = new Agent({ keepAlive: true });

  constructor(url: string) {
    this.url = url;
  }

  send(method: string, key: string, parts: RequestParts = {}): Promise<Result> {
    return new Promise((resolve) => {
      const headers = { ...parts.headers, "Content-Length": String(parts.body?.length ?? 0) };
      const sent = request(
        `${this.url}/v1/kv/${encodeURIComponent(key)}`,
        { method, headers, agent: this.#agent, timeout: ANSWER_TIMEOUT_MS },
        (response) => {
          const chunks: Buffer[] = [];
          const lost = (error: Error): void => resolve({ kind: "lost", reason: String(error) });
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("error", lost);
          response.on("aborted", () => lost(new Error("the answer broke off")));
          response.on("end", () => {
            const { etag } = response.headers;
            resolve({
              kind: "answer",
              status: response.statusCode!,
              revision: etag === undefined ? undefined : Number(etag.replaceAll('"', "")),
              body: Buffer.concat(chunks),
            });
          });
        },
      );
      sent.on("timeout", () => sent.destroy(new Error("no answer in time")));
      sent.on("error", (error: NodeJS.ErrnoException) => {
        const kind = error.code === "ECONNREFUSED" ? "notSent" : "lost";
        resolve({ kind, reason: String(error) });
      });
      sent.end(parts.body);
    });
  }

  /** @throws Error when no answer came. */
  async answer(method: string, key: string, parts: RequestParts = {}): Promise<Answer> {
    const result = await this.send(method, key, parts);
    if (result.kind !== "answer") throw new Error(`${method} ${key}: ${result.reason}`);
    return result;
  }

  /** Ends idle connections. */
  close(): void {
    this.#agent.destroy();
  }
}

/** A field of a problem document; undefined when the body is none. */
export function problemField(answer: Answer, name: "code" | "outcome"): unknown {
  try {
    return (JSON.parse(answer.body.toString("utf8")) as Record<string, unknown>)[name];
  } catch {
    return undefined;
  }
}
