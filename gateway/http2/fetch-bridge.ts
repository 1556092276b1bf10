/**
 * Runs a request over HTTP/2 through the routes of Hono, which know Fetch objects.
 *
 * The URL is made as it is over HTTP/1.1, where Hono's listener makes it: normalised, but with `\` in the path
 * refused, which the URL parser would take for `/`. Keys do not come this way (see `request-target.ts`).
 */
import { type Answer, type BodyStream, isBodyStream } from "#gateway/http/exchange.ts";
import { malformed } from "#gateway/http/problem.ts";
import type { Http2Exchange } from "./http2-exchange.ts";

/** Hono's `fetch`. */
export type FetchRoutes = (request: Request, bindings: object) => Response | Promise<Response>;

/** What a Fetch request refuses to be called, though HTTP knows it; no route takes them. */
const UNSPEAKABLE: ReadonlySet<string> = new Set(["TRACE", "CONNECT", "TRACK"]);

/**
 * The answer of the routes. It has the headers of every answer already, except where it has them from a route.
 * @throws RequestRefused when the URL is none
 */
export async function answerOfRoutes(
  routes: FetchRoutes,
  exchange: Http2Exchange,
  common: readonly string[],
): Promise<Answer> {
  const { peerAddress } = exchange;
  // As Node's listener of Hono has them: `peerAddressOf` and `noteRoute` look there.
  const bindings = { incoming: { socket: { remoteAddress: peerAddress } }, outgoing: exchange };
  const answer = answerOf(await routes(requestOf(exchange), bindings), common);
  const { body } = answer;
  // Who waits for its next piece, maybe for long, does not learn otherwise that the client has gone.
  if (isBodyStream(body)) exchange.stream.once("close", () => body.close());
  return answer;
}

function requestOf(exchange: Http2Exchange): Request {
  const { method, stream, head } = exchange;
  const aborted = new AbortController();
  stream.once("close", () => aborted.abort());
  const isNamed = !UNSPEAKABLE.has(method);
  const takesBody = exchange.hasBody && isNamed && method !== "GET" && method !== "HEAD";
  const request = new Request(urlOf(exchange), {
    method: isNamed ? method : "GET",
    headers: headersOf(head.raw),
    signal: aborted.signal,
    ...(takesBody && { body: bodyOf(exchange), duplex: "half" }),
  } as RequestInit);
  if (!isNamed) Object.defineProperty(request, "method", { value: method });
  return request;
}

function urlOf({ target, head }: Http2Exchange): string {
  const refusal = malformed("the URL is not valid");
  const [path] = target.split("?", 1);
  if (path!.includes("\\")) throw refusal;
  try {
    return new URL(`https://${head.authority}${target}`).href;
  } catch {
    throw refusal;
  }
}

function headersOf(raw: readonly string[]): Headers {
  const headers = new Headers();
  for (let at = 0; at < raw.length; at += 2) {
    if (!raw[at]!.startsWith(":")) headers.append(raw[at]!, raw[at + 1]!);
  }
  return headers;
}

/** Not `Readable.toWeb`: cancelling that destroys the stream, with the answer that is still to be sent. */
function bodyOf(exchange: Http2Exchange): ReadableStream {
  const { stream } = exchange;
  let controller: ReadableStreamDefaultController | undefined;
  const close = (isWhole: boolean): void => {
    const open = controller;
    controller = undefined;
    if (isWhole) open?.close();
    else open?.error(new Error("the client has gone"));
  };
  return new ReadableStream({
    start(given) {
      controller = given;
      exchange.continueBody();
      stream.on("data", (chunk: Buffer) => {
        exchange.countBody(chunk);
        // Nobody may want more of it: then the rest is dropped.
        controller?.enqueue(new Uint8Array(chunk));
        if ((controller?.desiredSize ?? 1) <= 0) stream.pause();
      });
      // A stream that is reset in the middle of its body emits `end` too.
      stream.on("end", () => close(!stream.closed));
      stream.on("close", () => close(false));
    },
    pull: () => void stream.resume(),
    cancel: () => {
      controller = undefined;
    },
  });
}

function answerOf(response: Response, common: readonly string[]): Answer {
  const headers: string[] = [];
  for (const [name, value] of response.headers) headers.push(name, value);
  for (let at = 0; at < common.length; at += 2) {
    if (!response.headers.has(common[at]!)) headers.push(common[at]!, common[at + 1]!);
  }
  const { status, body } = response;
  return { status, headers, body: body === null ? undefined : streamOf(body) };
}

function streamOf(body: ReadableStream<Uint8Array>): BodyStream {
  const reader = body.getReader();
  let isEnded = false;
  return {
    async next() {
      const { done, value } = await reader.read();
      isEnded = done;
      return done ? undefined : value;
    },
    // Told to the stream behind it, see `routed-stream.ts`.
    stop: () => undefined,
    close() {
      if (!isEnded) reader.cancel().catch(() => undefined);
    },
  };
}
