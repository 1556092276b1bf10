/** The routes of watches in the OpenAPI document. */
import { KEY_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { WATCH_TICKET_TTL_MS } from "#shared/limits-watch-http.ts";
import { jsonContent, problem, query, requestParameters } from "./openapi-parts.ts";

export function watchPaths() {
  return {
    "/v1/watch": { get: watchOperation("watch") },
    "/watch/sse": { get: watchOperation("watchUnderItsOldPath") },
    "/v1/watch/ws": { get: socketOperation("watchByWebSocket") },
    "/watch/ws": { get: socketOperation("watchByWebSocketUnderItsOldPath") },
    "/v1/watch/tickets": { post: ticketOperation },
  };
}

const BOOLEAN = { type: "boolean", default: false } as const;

const parameters = [
  query("key", `One key, in UTF-8; at most ${KEY_SIZE_BYTES_MAX} bytes`),
  query("key64", "The same in base64url, for a key of any bytes"),
  query("prefix", "Keys that begin with it; without key and prefix: all keys of the tenant"),
  query("prefix64", "The same in base64url"),
  query("ops", "Comma-separated: put, delete, expire; by default all"),
  query("values", "Whether events have values, where they can be had", BOOLEAN),
  query("since", "Go on behind this event: its `id`, or `token`. At any gateway"),
  query(
    "ticket",
    `Of POST /v1/watch/tickets, instead of credentials; goes with since only. Good for one watch, ` +
      `for ${WATCH_TICKET_TTL_MS / 1000} s`,
  ),
] as const;

const lastEventId = {
  name: "Last-Event-ID",
  in: "header",
  description: "What EventSource brings along when it connects again; wins over since",
  schema: { type: "string" },
} as const;

const problems = {
  "400": problem("INVALID_ARGUMENT: a parameter, or a token of other keys"),
  "401": problem("UNAUTHENTICATED; also a ticket that was used or is too old"),
  "403": problem("FORBIDDEN"),
  "410": problem("COMPACTED: the changes behind since are gone; read, and watch from now on"),
  "414": problem("KEY_TOO_LONG"),
  "503": problem("UNAVAILABLE (also of a gateway that stops) or OVERLOADED: too many watches"),
  "504": problem("DEADLINE_EXCEEDED"),
} as const;

const EVENTS =
  "Events: put, delete and expire with what was changed; progress with a place to go on from; compacted, when " +
  "changes that were asked for are gone; resync, when the client was too slow, and events may come again; drain, " +
  "when the gateway stops: connect again, and go on; revoke, when the credentials are not taken any more. Each " +
  "change that is acknowledged after the first event is seen at least once, and in order per key.";

const watchOperation = (operationId: string) => ({
  operationId,
  summary: "Watch keys",
  description: `Server-Sent Events, until the client goes. ${EVENTS} A comment at least every 15 s.`,
  tags: ["key-value"],
  parameters: [...parameters, lastEventId, ...requestParameters],
  responses: {
    "200": {
      description: "The stream; the `id` of an event is an opaque token to go on from",
      content: { "text/event-stream": { schema: { type: "string" } } },
    },
    ...problems,
  },
});

const socketOperation = (operationId: string) => ({
  operationId,
  summary: "Watch keys by WebSocket",
  description:
    `RFC 6455 over HTTP/1.1; not over HTTP/2. Each event is a JSON text message: WatchMessage. ${EVENTS} The ` +
    "server pings; the client has nothing to say. Close codes: 1001 drain, 1008 revoked, or not understood, " +
    "1013 too slow or too many. Pages of other origins are refused unless `cors-origins` names them.",
  tags: ["key-value"],
  parameters: [...parameters, ...requestParameters],
  responses: {
    "101": { description: "WebSocket from here on" },
    ...problems,
    "426": problem("UPGRADE_REQUIRED: the request does not ask for WebSocket"),
  },
});

const ticketOperation = {
  operationId: "makeWatchTicket",
  summary: "Get a ticket for one watch",
  description:
    "For pages in a browser: EventSource and WebSocket can send no credentials but in their URL. A ticket stands " +
    `for one watch of what is named here, is good once and for ${WATCH_TICKET_TTL_MS / 1000} s, and dies with the ` +
    "key or token that it was made with; so does its watch.",
  tags: ["key-value"],
  requestBody: { required: false, ...jsonContent("WatchTicketRequest") },
  responses: {
    "200": { description: "The ticket", ...jsonContent("WatchTicket") },
    "400": problem("INVALID_ARGUMENT"),
    "401": problem("UNAUTHENTICATED"),
    "403": problem("FORBIDDEN: the caller may not watch this, or has shown the root key"),
    "413": problem("PAYLOAD_TOO_LARGE"),
    "414": problem("KEY_TOO_LONG"),
    "415": problem("UNSUPPORTED_MEDIA_TYPE"),
    "503": problem("UNAVAILABLE, ENCRYPTION_KEY_MISSING or OVERLOADED"),
  },
};
