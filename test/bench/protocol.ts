/**
 * How minikv and etcd are asked over HTTP for the same thing.
 *
 * The only place that knows either server's requests: the load generators, the filling and the
 * checking before and after the slices all use these. etcd is asked through its JSON gateway, as a
 * client that speaks HTTP has to; its reads are linearizable unless asked otherwise, like minikv's.
 */

export type HttpRequest = {
  readonly method: "GET" | "PUT" | "POST";
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | undefined;
};

export type Entry = { readonly key: string; readonly value: Buffer };

/**
 * `bare` is a minikv without authentication, encryption and compression, `calm` the same minikv when nobody
 * sends wrong keys.
 */
export const SERVER_NAMES = ["minikv", "etcd", "bare", "calm"] as const;
export type ServerName = (typeof SERVER_NAMES)[number];

export interface Protocol {
  readonly server: ServerName;
  /** A key as it stands in requests. Keys of equal length have texts of equal length. */
  keyText(key: string): string;
  put(entry: Entry): HttpRequest;
  get(key: string): HttpRequest;
  /** Stores entries whose keys differ, as one request. */
  batch(entries: readonly Entry[]): HttpRequest;
  /** Lists keys and values from a key on. */
  scan(key: string, limit: number): HttpRequest;
  /** Stands in the answer to a batch, whatever its status, when a part of it failed. */
  readonly partialFailure: string;
  /** Stores up to `fillEntriesMax` entries in one request, as fast as the server allows. */
  fill(entries: readonly Entry[]): HttpRequest;
  fillEntriesMax(valueSizeBytes: number): number;
  /** The value in the body of a successful answer to `get`; undefined when there is none. */
  valueOf(body: Buffer): Buffer | undefined;
}

const minikvPut = ({ key, value }: Entry): HttpRequest => ({
  method: "PUT",
  path: `/v1/kv/${key}`,
  headers: { "Content-Type": "application/octet-stream" },
  body: value,
});

function jsonRequest(path: string, body: string): HttpRequest {
  return {
    method: "POST",
    path,
    headers: { "Content-Type": "application/json" },
    body: Buffer.from(body),
  };
}

const minikvOp = (key: string, value: Buffer): string =>
  `{"op":"put","key":"${key}","value_base64":"${value.toString("base64")}"}`;

export const minikvProtocol: Protocol = {
  server: "minikv",
  keyText: (key) => key,
  put: minikvPut,
  get: (key) => ({ method: "GET", path: `/v1/kv/${key}`, headers: {}, body: undefined }),
  batch: (entries) => {
    const ops = entries.map(({ key, value }) => minikvOp(key, value)).join(",");
    return jsonRequest("/v1/batch", `{"ops":[${ops}]}`);
  },
  scan: (key, limit) => ({
    ...{ method: "GET", path: `/v1/kv?start=${key}&limit=${limit}`, headers: {} },
    body: undefined,
  }),
  partialFailure: '"error":',
  fill: (entries) => minikvPut(entries[0]!),
  fillEntriesMax: () => 1,
  valueOf: (body) => body,
};

/** minikv asked with further headers in each request, or under another name. */
export function minikvProtocolWith(
  headers: Readonly<Record<string, string>>,
  server: ServerName = "minikv",
): Protocol {
  const withHeaders = (request: HttpRequest): HttpRequest => ({
    ...request,
    headers: { ...request.headers, ...headers },
  });
  const { put, get, batch, scan, fill } = minikvProtocol;
  return {
    ...minikvProtocol,
    server,
    put: (entry) => withHeaders(put(entry)),
    get: (key) => withHeaders(get(key)),
    batch: (entries) => withHeaders(batch(entries)),
    scan: (key, limit) => withHeaders(scan(key, limit)),
    fill: (entries) => withHeaders(fill(entries)),
  };
}

/** Defaults of etcd: `--max-txn-ops`, and `--max-request-bytes` with room for what surrounds values. */
const ETCD_TRANSACTION_OPERATIONS_MAX = 128;
const ETCD_TRANSACTION_SIZE_BYTES_MAX = 1024 * 1024;

const base64 = (text: string): string => Buffer.from(text).toString("base64");

const etcdPair = ({ key, value }: Entry): string =>
  `{"key":"${base64(key)}","value":"${value.toString("base64")}"}`;

function etcdTransaction(entries: readonly Entry[]): HttpRequest {
  const puts = entries.map((entry) => `{"request_put":${etcdPair(entry)}}`);
  return jsonRequest("/v3/kv/txn", `{"success":[${puts.join(",")}]}`);
}

export const etcdProtocol: Protocol = {
  server: "etcd",
  keyText: base64,
  put: (entry) => jsonRequest("/v3/kv/put", etcdPair(entry)),
  get: (key) => jsonRequest("/v3/kv/range", `{"key":"${base64(key)}"}`),
  batch: etcdTransaction,
  // An end of one zero byte stands for all keys from the first on.
  scan: (key, limit) =>
    jsonRequest("/v3/kv/range", `{"key":"${base64(key)}","range_end":"AA==","limit":${limit}}`),
  partialFailure: '"error":',
  fill: etcdTransaction,
  fillEntriesMax: (valueSizeBytes) => {
    const fitting = Math.floor(ETCD_TRANSACTION_SIZE_BYTES_MAX / (valueSizeBytes + 64));
    return Math.max(1, Math.min(ETCD_TRANSACTION_OPERATIONS_MAX, fitting));
  },
  valueOf: (body) => {
    const answer = JSON.parse(body.toString()) as {
      readonly kvs?: readonly { readonly value?: string }[];
    };
    const found = answer.kvs?.[0];
    return found === undefined ? undefined : Buffer.from(found.value ?? "", "base64");
  },
};

/** The request as bytes on the wire. */
export function renderRaw(request: HttpRequest, authority: string): Buffer {
  const length = request.body === undefined ? [] : [`Content-Length: ${request.body.length}`];
  const fields = Object.entries(request.headers).map(([name, value]) => `${name}: ${value}`);
  const head = [
    `${request.method} ${request.path} HTTP/1.1`,
    `Host: ${authority}`,
    ...fields,
    ...length,
    "",
    "",
  ].join("\r\n");
  return Buffer.concat([Buffer.from(head), request.body ?? Buffer.alloc(0)]);
}
