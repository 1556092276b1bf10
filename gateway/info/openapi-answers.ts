/**
 * What every operation has, written into all of them at once: the headers that answers of a status carry, the errors
 * that any request can get, and the header by which an administrator names a tenant.
 */
import { problem } from "./openapi-parts.ts";

const TEXT = { type: "string" } as const;

type Headers = Readonly<Record<string, object>>;

const RETRY_AFTER: Headers = {
  "Retry-After": { schema: { type: "integer", minimum: 1 }, description: "Seconds to wait" },
};
const CONTENT_RANGE: Headers = {
  "Content-Range": { schema: TEXT, description: "Which part it is, and the value's size" },
};

const CURRENT: Headers = {
  ETag: { schema: TEXT, description: "The current revision; absent if the key is" },
};

const HEADERS: Readonly<Record<string, Headers>> = {
  "206": CONTENT_RANGE,
  "401": { "WWW-Authenticate": { schema: TEXT } },
  "412": CURRENT,
  "416": { ...CONTENT_RANGE, ...CURRENT },
  "429": {
    ...RETRY_AFTER,
    "RateLimit-Policy": { schema: TEXT, description: "The limits that apply" },
    RateLimit: { schema: TEXT, description: "What is left of each" },
  },
  "503": RETRY_AFTER,
};

/** Named by nobody else: an error that is no bug of the caller, and whatever else may come. */
const ANY_ERROR = {
  "500": problem("INTERNAL or DATA_CORRUPT: the server's log has the `request_id`"),
  default: problem("Any other error; `code` says which, and `/errors/{code}` what it means"),
} as const;

const tenantParameter = {
  name: "Minikv-Tenant",
  in: "header",
  description:
    "Name of the tenant that the request is about. Only a ClusterAdmin may name another than " +
    "the own one; one that does not exist is RESOURCE_NOT_FOUND (404)",
  schema: TEXT,
} as const;

type Answer = { readonly description?: string; readonly headers?: Headers };
export type AnsweredOperation = {
  readonly parameters?: readonly object[];
  readonly responses: Readonly<Record<string, Answer>>;
};

/** The operation with all of it. Nobody who needs no credentials names a tenant. */
export function withCommonAnswers(operation: AnsweredOperation, isPublic: boolean): object {
  const { parameters = [] } = operation;
  const responses = { ...operation.responses, ...ANY_ERROR };
  return {
    ...operation,
    parameters: isPublic ? parameters : [...parameters, tenantParameter],
    responses: Object.fromEntries(
      Object.entries<Answer>(responses).map(([status, answer]) => {
        const common = HEADERS[status];
        if (common === undefined) return [status, answer];
        return [status, { ...answer, headers: { ...answer.headers, ...common } }];
      }),
    ),
  };
}
