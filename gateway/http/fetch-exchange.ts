/**
 * An exchange over Fetch objects, for Hono: `app.request(...)` and hosts other than Node's server.
 *
 * The URL of a Fetch request has been normalised (`..` resolved), which the socket path avoids.
 */
import { Cancellation } from "#gateway/storage/cancellation.ts";
import { concatBytes, EMPTY_BYTES } from "#shared/bytes.ts";
import type { RequestTrace } from "#shared/tracing.ts";
import type { BodyBudget } from "./body-budget.ts";
import { bodyOverloaded, bodyTooLarge } from "./body-refusals.ts";
import {
  type Answer,
  type BodyStream,
  type Exchange,
  type ExchangeHandler,
  isBodyStream,
  isPushBody,
  type PushBody,
} from "./exchange.ts";
import { malformed, RequestRefused } from "./problem.ts";

export type FetchExchangeOptions = {
  readonly request: Request;
  readonly requestId: string;
  readonly budget: BodyBudget;
  readonly peerAddress: string;
  /** As in `Exchange`. */
  readonly originIsNamed?: boolean;
  /** As in `Exchange`; told where a request that has no body has an empty one here. */
  readonly isBodyUnannounced?: boolean | undefined;
};

/** Runs `handler` on a Fetch request. Never rejects. */
export async function handleFetch(
  handler: ExchangeHandler,
  options: FetchExchangeOptions,
): Promise<Response> {
  const exchange = new FetchExchange(options);
  try {
    const answer = await handler(exchange);
    return toResponse(answer, exchange.method);
  } finally {
    exchange.release();
  }
}

export function toResponse(answer: Answer, method: string): Response {
  const headers = new Headers();
  for (let at = 0; at < answer.headers.length; at += 2) {
    headers.append(answer.headers[at]!, answer.headers[at + 1]!);
  }
  const body = method === "HEAD" ? withoutBody(answer.body) : wholeBody(answer.body);
  // The library types know only bytes on an ArrayBuffer; every view that arrives here is one.
  return new Response(body as string | Uint8Array<ArrayBuffer> | ReadableStream | null, {
    status: answer.status,
    headers,
  });
}

/** Nobody reads it, so nobody else would close it. */
function withoutBody(body: Answer["body"]): null {
  if (isBodyStream(body) || isPushBody(body)) body.close();
  return null;
}

function wholeBody(body: Answer["body"]) {
  if (isPushBody(body)) return pushedReadable(body);
  return isBodyStream(body) ? readableOf(body) : (body ?? null);
}

/** What is asked for goes through at once; the rest waits in the stream, within the bound of the body. */
function pushedReadable(body: PushBody): ReadableStream {
  let isFull = false;
  let isOver = false;
  const close = (): void => {
    if (isOver) return;
    isOver = true;
    body.close();
  };
  return new ReadableStream({
    start: (controller) =>
      body.start({
        write: (bytes) => {
          if (isOver) return true;
          controller.enqueue(bytes);
          isFull = (controller.desiredSize ?? 0) <= 0;
          return !isFull;
        },
        end: () => {
          if (isOver) return;
          controller.close();
          close();
        },
      }),
    pull: () => {
      if (!isFull) return;
      isFull = false;
      body.drained();
    },
    cancel: close,
  });
}

function readableOf(stream: BodyStream): ReadableStream {
  return new ReadableStream({
    pull: async (controller) => {
      let piece: Uint8Array | undefined;
      try {
        piece = await stream.next();
      } catch {
        // Not its own error: where nothing was sent yet, the host of the app would send its message.
        controller.error(new Error("the answer broke off"));
        stream.close();
        return;
      }
      if (piece !== undefined) {
        controller.enqueue(piece);
        return;
      }
      stream.close();
      controller.close();
    },
    cancel: () => stream.close(),
  });
}

class FetchExchange implements Exchange {
  readonly method: string;
  readonly target: string;
  readonly requestId: string;
  readonly peerAddress: string;
  readonly originIsNamed: boolean;
  readonly isBodyUnannounced: boolean;
  readonly cancellation = new Cancellation();
  onUnannouncedBody: ((sizeBytes: number) => void) | undefined = undefined;
  trace: RequestTrace | undefined = undefined;
  readonly #request: Request;
  readonly #budget: BodyBudget;
  #heldBytes = 0;

  constructor(options: FetchExchangeOptions) {
    const { request, requestId, budget, peerAddress } = options;
    this.originIsNamed = options.originIsNamed ?? false;
    this.method = request.method;
    const { pathname, search } = new URL(request.url);
    this.target = pathname + search;
    this.requestId = requestId;
    this.peerAddress = peerAddress;
    this.#request = request;
    this.#budget = budget;
    this.isBodyUnannounced =
      options.isBodyUnannounced ??
      (request.body !== null && !request.headers.has("content-length"));
    const { signal } = request;
    if (signal.aborted) this.cancellation.cancel();
    else signal.addEventListener("abort", this.#onAbort);
  }

  readonly #onAbort = (): void => this.cancellation.cancel();

  header(name: string): string | undefined {
    return this.#request.headers.get(name) ?? undefined;
  }

  async readBody(sizeBytesMax: number): Promise<Uint8Array> {
    const declared = this.header("content-length");
    if (declared !== undefined) {
      const sizeBytes = Number(declared);
      if (sizeBytes > sizeBytesMax) throw bodyTooLarge(sizeBytesMax, sizeBytes);
      if (!this.#budget.hasRoom(sizeBytes)) throw bodyOverloaded();
    }
    let body: Uint8Array;
    try {
      body = await this.#collect(sizeBytesMax);
    } finally {
      if (declared === undefined) this.onUnannouncedBody?.(this.#heldBytes);
    }
    if (declared !== undefined && Number(declared) !== body.length) {
      throw malformed(`Content-Length says ${declared} bytes, the body has ${body.length}`);
    }
    return body;
  }

  async #collect(sizeBytesMax: number): Promise<Uint8Array> {
    const stream = this.#request.body;
    if (stream === null) return EMPTY_BYTES;
    const chunks: Uint8Array[] = [];
    let sizeBytes = 0;
    const reader = stream.getReader();
    for (;;) {
      const { done, value } = await reader.read().catch((cause: unknown) => {
        throw new RequestRefused("CANCELLED", `the body ended early: ${String(cause)}`);
      });
      if (done) break;
      sizeBytes += value.length;
      const refusal =
        sizeBytes > sizeBytesMax
          ? bodyTooLarge(sizeBytesMax)
          : this.#budget.take(value.length)
            ? undefined
            : bodyOverloaded();
      if (refusal !== undefined) {
        await reader.cancel(refusal);
        throw refusal;
      }
      this.#heldBytes += value.length;
      chunks.push(value);
    }
    return chunks.length === 1 ? chunks[0]! : concatBytes(...chunks);
  }

  release(): void {
    this.#request.signal.removeEventListener("abort", this.#onAbort);
    this.#budget.giveBack(this.#heldBytes);
    this.#heldBytes = 0;
  }
}
