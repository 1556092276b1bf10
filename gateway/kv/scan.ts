/**
 * `GET /v1/kv?prefix=…` (and `/range`): keys in byte order, as pages of JSON, as a stream of lines, or
 * only counted.
 *
 * A scan is no snapshot. Each vshard is read at one moment, linearizably, but they at different ones,
 * and so are the pages: a key that is there all the time is returned once, one that is written or
 * deleted meanwhile may or may not be.
 */
import type { Caller } from "#gateway/auth/caller.ts";
import type { Gate } from "#gateway/auth/gate.ts";
import type { Answer, Exchange } from "#gateway/http/exchange.ts";
import { type FailureReport, isReportable, RequestRefused } from "#gateway/http/problem.ts";
import { parseTimeoutMs } from "#gateway/http/timeout.ts";
import type { GetOptions, ScannedRow, Storage } from "#gateway/storage/storage.ts";
import { utf8 } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import { SCAN_PAGE_BYTES_MAX, SCAN_STREAMS_MAX } from "#shared/limits.ts";
import { encodeCursor } from "./cursor.ts";
import { keyJsonMember } from "./key.ts";
import { callOptions } from "./parameters.ts";
import { storedJsonMembers } from "./row-json.ts";
import { parseScan, type ScanRequest } from "./scan-request.ts";
import { ScanStream } from "./scan-stream.ts";

export type ScanParts = {
  readonly gate: Gate;
  readonly storage: Storage;
  readonly clock: Clock;
  readonly reportFailure: FailureReport;
};

export class ScanRoute {
  readonly #gate: Gate;
  readonly #storage: Storage;
  readonly #clock: Clock;
  readonly #reportFailure: FailureReport;
  #streams = 0;

  constructor({ gate, storage, clock, reportFailure }: ScanParts) {
    this.#gate = gate;
    this.#storage = storage;
    this.#clock = clock;
    this.#reportFailure = reportFailure;
  }

  /** @throws KvError */
  async answer(exchange: Exchange, caller: Caller): Promise<Answer> {
    const { tenant } = caller;
    const request = parseScan(exchange, tenant);
    this.#gate.authorize(caller, { action: "kv.list", tenant, key: request.prefix });
    const timeoutMs = parseTimeoutMs(exchange);
    const options = (): GetOptions => ({
      ...callOptions(exchange, this.#clock.nowMs() + timeoutMs),
      maxStalenessMs: request.maxStalenessMs,
    });
    switch (request.form) {
      case "count":
        return this.#count(exchange, request, options());
      case "page":
        return this.#page(exchange, request, options());
      case "stream":
        return this.#stream(exchange, caller, request, options);
    }
  }

  async #count(exchange: Exchange, request: ScanRequest, options: GetOptions): Promise<Answer> {
    const count = request.isEmpty ? 0 : await this.#storage.count(request.query, options);
    return jsonAnswer(exchange, `{"count":${count}}`);
  }

  async #page(exchange: Exchange, request: ScanRequest, options: GetOptions): Promise<Answer> {
    const { query, whole, limit, isEmpty } = request;
    if (isEmpty) return jsonAnswer(exchange, pageJson("", false, null));
    const limits = { rowsMax: limit, bytesMax: SCAN_PAGE_BYTES_MAX };
    const { rows, lastKey, hasMore } = await this.#storage.scan(query).nextPage(limits, options);
    const cursor = hasMore && lastKey !== undefined ? encodeCursor(whole, lastKey) : null;
    const items = rows.map((row) => rowJson(row, !query.keysOnly)).join(",");
    return jsonAnswer(exchange, pageJson(items, cursor !== null, cursor));
  }

  async #stream(
    exchange: Exchange,
    caller: Caller,
    { query, whole, prefix, isEmpty }: ScanRequest,
    options: () => GetOptions,
  ): Promise<Answer> {
    if (this.#streams >= SCAN_STREAMS_MAX) {
      throw new RequestRefused("OVERLOADED", "the gateway streams as many scans as it may");
    }
    this.#streams++;
    const stream = new ScanStream({
      scan: isEmpty ? undefined : this.#storage.scan(query),
      options,
      renew: async () => {
        await this.#gate.renew(exchange);
        this.#gate.authorize(caller, { action: "kv.list", tenant: whole.tenant, key: prefix });
      },
      lineOf: (row) => `${rowJson(row, !query.keysOnly)}\n`,
      cursorOf: (lastKey) => encodeCursor(whole, lastKey),
      requestId: exchange.requestId,
      onError: (error) => {
        const { requestId, method } = exchange;
        if (isReportable(error))
          this.#reportFailure({ requestId, method, tenant: whole.tenant, error });
      },
      onEnd: () => this.#streams--,
    });
    // A failure before the first key still has its status.
    await stream.begin();
    const headers = ["Content-Type", "application/x-ndjson", ...commonHeaders(exchange)];
    return { status: 200, headers, body: stream };
  }
}

const rowJson = (row: ScannedRow, withValue: boolean): string =>
  `{${keyJsonMember(row.key)},${storedJsonMembers(row, withValue)}}`;

const pageJson = (items: string, hasMore: boolean, cursor: string | null): string =>
  `{"items":[${items}],"has_more":${hasMore},"cursor":${JSON.stringify(cursor)}}`;

function jsonAnswer(exchange: Exchange, json: string): Answer {
  // Bytes and not a string: large ones are then counted until the client has taken them.
  const body = utf8(json);
  const headers = [
    "Content-Type",
    "application/json",
    "Content-Length",
    String(body.length),
    ...commonHeaders(exchange),
  ];
  return { status: 200, headers, body };
}

const commonHeaders = (exchange: Exchange): readonly string[] => [
  ...["Cache-Control", "no-cache", "Vary", "Accept"],
  ...["X-Request-ID", exchange.requestId],
];
