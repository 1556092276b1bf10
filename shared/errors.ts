/**
 * The one table of errors: code → HTTP, gRPC, retryable, meaning, remedy.
 *
 * `docs/errors.md` is held in step by a test. Codes are stable and are what callers match;
 * titles and details may change. Outcomes that are expected (key not found, condition failed, not
 * leader) travel as values, and become a `KvError` only at the border that reports them.
 */

/** gRPC status codes (https://grpc.io/docs/guides/status-codes/), those that are used. */
export const GrpcStatus = {
  Ok: 0,
  Cancelled: 1,
  InvalidArgument: 3,
  DeadlineExceeded: 4,
  NotFound: 5,
  AlreadyExists: 6,
  PermissionDenied: 7,
  ResourceExhausted: 8,
  FailedPrecondition: 9,
  Aborted: 10,
  OutOfRange: 11,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
  DataLoss: 15,
  Unauthenticated: 16,
} as const;
export type GrpcStatus = (typeof GrpcStatus)[keyof typeof GrpcStatus];

/** What is known of a write that was answered with an error. */
export type WriteOutcome = "not_applied" | "unknown";

type ErrorRow = {
  /** Number on the wire between gateway and storage. Never reuse; 14 was of a code that nothing answered. */
  readonly wire: number;
  readonly http: number;
  readonly grpc: GrpcStatus;
  /** Whether the same request, sent again later, may succeed. */
  readonly retryable: boolean;
  readonly title: string;
  readonly meaning: string;
  readonly remedy: string;
};

export const ERRORS = {
  INVALID_ARGUMENT: {
    wire: 1,
    http: 400,
    grpc: GrpcStatus.InvalidArgument,
    retryable: false,
    title: "Malformed request",
    meaning: "A path, header, parameter or body does not have the form that the contract asks for.",
    remedy: "Read `detail`: it names the part and the form it must have.",
  },
  KEY_NOT_FOUND: {
    wire: 2,
    http: 404,
    grpc: GrpcStatus.NotFound,
    retryable: false,
    title: "Key not found",
    meaning: "The key does not exist, or has expired.",
    remedy: "Check the key's spelling and percent-encoding.",
  },
  ROUTE_NOT_FOUND: {
    wire: 3,
    http: 404,
    grpc: GrpcStatus.Unimplemented,
    retryable: false,
    title: "No such route",
    meaning: "The server has nothing at this path.",
    remedy: "See `/openapi.json` for the paths that exist.",
  },
  METHOD_NOT_ALLOWED: {
    wire: 4,
    http: 405,
    grpc: GrpcStatus.Unimplemented,
    retryable: false,
    title: "Method not allowed",
    meaning: "The path exists but does not take this method.",
    remedy: "Use one of the methods named in the `Allow` header.",
  },
  CONFLICT: {
    wire: 5,
    http: 409,
    grpc: GrpcStatus.Aborted,
    retryable: true,
    title: "Conflict",
    meaning: "The request lost against another one on the same data.",
    remedy: "Read again and retry.",
  },
  CLUSTER_CONFLICT: {
    wire: 24,
    http: 409,
    grpc: GrpcStatus.FailedPrecondition,
    retryable: false,
    title: "Refused by the cluster",
    meaning:
      "An operator's request that is well formed, but must not or cannot be carried out as the cluster is.",
    remedy: "Read `detail`: it says what stands in the way, and what to do first.",
  },
  CONDITION_FAILED: {
    wire: 6,
    http: 412,
    grpc: GrpcStatus.FailedPrecondition,
    retryable: false,
    title: "Condition failed",
    meaning: "`If-Match` or `If-None-Match` does not hold for the current revision of the key.",
    remedy: "Read the key again; its current revision is in the `ETag` header of this answer.",
  },
  PAYLOAD_TOO_LARGE: {
    wire: 7,
    http: 413,
    grpc: GrpcStatus.OutOfRange,
    retryable: false,
    title: "Too large",
    meaning: "A value, body or batch is larger than it may be; nothing was stored.",
    remedy: "Store less under one key, or split what is sent; `limit` gives the bound.",
  },
  KEY_TOO_LONG: {
    wire: 8,
    http: 414,
    grpc: GrpcStatus.OutOfRange,
    retryable: false,
    title: "Key or URL too long",
    meaning: "A key has at most 1,024 bytes after percent-decoding, and a URL 8 KiB.",
    remedy: "Use a shorter key.",
  },
  UNSUPPORTED_MEDIA_TYPE: {
    wire: 9,
    http: 415,
    grpc: GrpcStatus.InvalidArgument,
    retryable: false,
    title: "Unsupported encoding or media type",
    meaning: "The body has a `Content-Encoding` or a type that this route does not take.",
    remedy: "Send the body as it is to be stored, without `Content-Encoding`.",
  },
  RANGE_NOT_SATISFIABLE: {
    wire: 10,
    http: 416,
    grpc: GrpcStatus.OutOfRange,
    retryable: false,
    title: "Range not satisfiable",
    meaning: "The `Range` asked for lies outside the value.",
    remedy: "The value's size is in the `Content-Range` header of this answer.",
  },
  EXPECTATION_FAILED: {
    wire: 11,
    http: 417,
    grpc: GrpcStatus.InvalidArgument,
    retryable: false,
    title: "Expectation failed",
    meaning: "The only expectation that is understood is `100-continue`.",
    remedy: "Send the request without the `Expect` header.",
  },
  REQUEST_TIMEOUT: {
    wire: 12,
    http: 408,
    grpc: GrpcStatus.DeadlineExceeded,
    retryable: true,
    title: "Request not received in time",
    meaning: "The client did not send its whole request in time; nothing was stored.",
    remedy: "Send it again over a connection that keeps up.",
  },
  HEADERS_TOO_LARGE: {
    wire: 13,
    http: 431,
    grpc: GrpcStatus.OutOfRange,
    retryable: false,
    title: "Headers too large",
    meaning: "Request line and headers exceed 16 KiB.",
    remedy: "Send fewer or smaller headers.",
  },
  NOT_LEADER: {
    wire: 15,
    http: 503,
    grpc: GrpcStatus.Unavailable,
    retryable: true,
    title: "Leader unknown",
    meaning: "The replica that was asked does not lead the key's vshard, and no leader was found.",
    remedy: "Retry after the time in `Retry-After`; an election takes one to three seconds.",
  },
  UNAVAILABLE: {
    wire: 16,
    http: 503,
    grpc: GrpcStatus.Unavailable,
    retryable: true,
    title: "Temporarily unavailable",
    meaning: "The storage behind the gateway cannot be reached, or is starting or stopping.",
    remedy: "Retry after the time in `Retry-After`.",
  },
  OVERLOADED: {
    wire: 17,
    http: 503,
    grpc: GrpcStatus.ResourceExhausted,
    retryable: true,
    title: "Overloaded",
    meaning: "A bounded queue is full; the request was refused before anything was done.",
    remedy: "Slow down and retry after the time in `Retry-After`.",
  },
  DEADLINE_EXCEEDED: {
    wire: 18,
    http: 504,
    grpc: GrpcStatus.DeadlineExceeded,
    retryable: true,
    title: "Deadline exceeded",
    meaning: "The answer did not arrive before the request's deadline.",
    remedy: "For a write see `outcome`: if it is `unknown`, read the key before you write again.",
  },
  STORAGE_FULL: {
    wire: 19,
    http: 507,
    grpc: GrpcStatus.ResourceExhausted,
    retryable: true,
    title: "Disk full",
    meaning: "A storage node is too low on disk space to take a write; reads go on.",
    remedy: "Free disk space or add nodes; writes resume by themselves.",
  },
  CANCELLED: {
    wire: 20,
    http: 499,
    grpc: GrpcStatus.Cancelled,
    retryable: true,
    title: "Cancelled",
    meaning: "The client went away before the answer was ready.",
    remedy: "Nothing to do; send the request again if its effect is wanted.",
  },
  DATA_CORRUPT: {
    wire: 21,
    http: 500,
    grpc: GrpcStatus.DataLoss,
    retryable: false,
    title: "Data corrupt",
    meaning: "Stored bytes failed their checksum or do not decode. They are never served.",
    remedy: "See `docs/operations.md`, section on corruption; restore the replica.",
  },
  ANSWER_TOO_LARGE: {
    wire: 23,
    http: 413,
    grpc: GrpcStatus.OutOfRange,
    retryable: false,
    title: "Answer too large",
    meaning: "The values that a batch reads are together larger than its answer may be.",
    remedy: "Read this key by itself, or in a smaller batch.",
  },
  UNAUTHENTICATED: {
    wire: 25,
    http: 401,
    grpc: GrpcStatus.Unauthenticated,
    retryable: false,
    title: "Not authenticated",
    meaning: "The request has no credentials, or they are wrong, expired or revoked.",
    remedy: "Send `Authorization: Bearer` with an API key or a token that is valid.",
  },
  FORBIDDEN: {
    wire: 26,
    http: 403,
    grpc: GrpcStatus.PermissionDenied,
    retryable: false,
    title: "Not allowed",
    meaning: "These credentials do not allow the operation, or do not allow to know its object.",
    remedy: "Ask an administrator for a key with the role or scope that `detail` names.",
  },
  STORAGE_QUOTA_EXCEEDED: {
    wire: 27,
    http: 403,
    grpc: GrpcStatus.ResourceExhausted,
    retryable: false,
    title: "Storage quota exceeded",
    meaning: "The tenant stores as many bytes or objects as its quota allows.",
    remedy: "Delete data, which is always allowed, or ask an administrator for a larger quota.",
  },
  RATE_LIMITED: {
    wire: 28,
    http: 429,
    grpc: GrpcStatus.ResourceExhausted,
    retryable: true,
    title: "Too many requests",
    meaning: "The address or the tenant sends more than its rate limit allows; nothing was done.",
    remedy: "Wait as long as `Retry-After` says. `RateLimit-Policy` names the limit.",
  },
  RESOURCE_NOT_FOUND: {
    wire: 29,
    http: 404,
    grpc: GrpcStatus.NotFound,
    retryable: false,
    title: "No such resource",
    meaning: "A tenant, API key or other thing that administrators manage does not exist.",
    remedy: "List what exists, and check the name or id.",
  },
  ALREADY_EXISTS: {
    wire: 30,
    http: 409,
    grpc: GrpcStatus.AlreadyExists,
    retryable: false,
    title: "Exists already",
    meaning: "Something with this name exists already; it was left as it is.",
    remedy: "Choose another name, or change the one that exists.",
  },
  ENCRYPTION_KEY_MISSING: {
    wire: 31,
    http: 503,
    grpc: GrpcStatus.FailedPrecondition,
    retryable: false,
    title: "Encryption key missing",
    meaning: "The value is encrypted with a key that this gateway cannot unwrap.",
    remedy: "Give every gateway the master key that wraps it; see `docs/operations.md`.",
  },
  COMPACTED: {
    wire: 32,
    http: 410,
    grpc: GrpcStatus.OutOfRange,
    retryable: false,
    title: "Position compacted",
    meaning: "The change log no longer reaches back to the position that the request named.",
    remedy: "Read the keys anew, and watch from now on.",
  },
  UPGRADE_REQUIRED: {
    wire: 33,
    http: 426,
    grpc: GrpcStatus.FailedPrecondition,
    retryable: false,
    title: "Upgrade required",
    meaning:
      "The path speaks WebSocket, and the request does not ask for it in the way of RFC 6455.",
    remedy: "Connect with a WebSocket client, or take `/v1/watch`, which needs none.",
  },
  INTERNAL: {
    wire: 22,
    http: 500,
    grpc: GrpcStatus.Internal,
    retryable: false,
    title: "Internal error",
    meaning: "An invariant did not hold. This is a bug.",
    remedy: "Report it with the `request_id`; the server's log has the cause.",
  },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

const CODE_BY_WIRE = new Map<number, ErrorCode>(
  Object.entries(ERRORS).map(([code, row]) => [row.wire, code as ErrorCode]),
);

/** The code for a number from the wire; INTERNAL for a number this version does not know. */
export function errorCodeFromWire(wire: number): ErrorCode {
  return CODE_BY_WIRE.get(wire) ?? "INTERNAL";
}

/** A failure with a stable code. Callers match `code`, never the message. */
export class KvError extends Error {
  readonly code: ErrorCode;
  /** Only for writes: whether the write may have been applied. */
  readonly outcome: WriteOutcome | undefined;

  constructor(
    code: ErrorCode,
    detail: string,
    options: { readonly outcome?: WriteOutcome; readonly cause?: unknown } = {},
  ) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "KvError";
    this.code = code;
    this.outcome = options.outcome;
  }
}
