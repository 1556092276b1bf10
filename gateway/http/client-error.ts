/**
 * Answers what never became a request: bytes that do not parse, headers that are too large or too
 * slow, bodies that stall. Node reports all of these as `clientError` of the server.
 */
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import type { Connection } from "./connection.ts";
import type { Answer } from "./exchange.ts";
import { RequestRefused, refusalAnswer } from "./problem.ts";
import type { RequestIds } from "./request-id.ts";
import { headersTooLarge, requestTooSlow } from "./request-refusals.ts";

export type ClientErrorOptions = {
  readonly error: Error & { readonly code?: string };
  readonly socket: Socket;
  readonly connection: Connection | undefined;
  readonly requestIds: RequestIds;
  readonly lingerTimeoutMs: number;
  /** Of every answer; names and values in turn. */
  readonly headers: readonly string[];
};

export function handleClientError(options: ClientErrorOptions): void {
  const { error, socket, connection } = options;
  if (connection === undefined || !socket.writable || error.code === "ECONNRESET") {
    socket.destroy();
    return;
  }
  const refusal = refusalOf(error.code);
  const { running } = connection;
  if (running?.failBody(refusal)) {
    // The handler answers with this very error; the connection is of no use afterwards.
    running.outgoing.shouldKeepAlive = false;
    connection.isEnding = true;
    return;
  }
  // An error answer here would be taken for the answer to the running request, and a client would
  // believe that its write was refused.
  if (running?.isReceived) {
    connection.endAfterRunning();
    return;
  }
  if (running?.isAnsweredEarly) {
    // What does not parse is the rest of a request that was refused by its head: the answer says why.
    connection.isEnding = true;
    socket.destroySoon();
    return;
  }
  if (running !== undefined || connection.isEnding) {
    socket.destroy();
    return;
  }
  connection.isEnding = true;
  const answer = refusalAnswer(options.requestIds(undefined), refusal, true);
  socket.end(rawAnswer({ ...answer, headers: answer.headers.concat(options.headers) }));
  // Closing with unread bytes would reset the connection and lose the answer.
  const timer = setTimeout(() => socket.destroy(), options.lingerTimeoutMs);
  socket.once("close", () => clearTimeout(timer));
}

function refusalOf(code: string | undefined): RequestRefused {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return headersTooLarge();
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return requestTooSlow();
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return new RequestRefused("PAYLOAD_TOO_LARGE", "the body's chunk extensions are too large");
    default:
      return new RequestRefused("INVALID_ARGUMENT", "the request is not valid HTTP/1.1");
  }
}

/** An answer as bytes, for a connection on which there is no response object. */
function rawAnswer(answer: Answer): string {
  let head = `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status]}\r\nConnection: close\r\n`;
  for (let at = 0; at < answer.headers.length; at += 2) {
    head += `${answer.headers[at]}: ${answer.headers[at + 1]}\r\n`;
  }
  return `${head}Date: ${new Date().toUTCString()}\r\n\r\n${answer.body}`;
}
