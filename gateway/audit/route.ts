/** `GET /admin/audit`: the audit log of the gateway that is asked, as NDJSON. Each gateway has its own. */
import { flagOf, queryOf } from "#gateway/admin/requests.ts";
import type { Answer } from "#gateway/http/exchange.ts";
import type { ManagedRequest, ManagedRoute } from "#gateway/http/managed-route.ts";
import { malformed, RequestRefused } from "#gateway/http/problem.ts";
import {
  AUDIT_STREAM_LINES_DEFAULT,
  AUDIT_STREAM_LINES_MAX,
  AUDIT_STREAMS_MAX,
} from "#shared/audit-limits.ts";
import type { Clock } from "#shared/clock.ts";
import type { AuditLog } from "./audit-log.ts";
import { AuditStream } from "./audit-stream.ts";

export type AuditRouteOptions = {
  readonly log: AuditLog;
  /** Of the file; undefined when lines are in memory only. */
  readonly path: string | undefined;
  readonly clock: Clock;
};

const INTEGER = /^(0|[1-9][0-9]{0,15})$/;

export class AuditRoute {
  readonly #options: AuditRouteOptions;
  /** Streams that are open. */
  #streamCount = 0;

  constructor(options: AuditRouteOptions) {
    this.#options = options;
  }

  get route(): ManagedRoute {
    const run = async (request: ManagedRequest): Promise<Answer> => this.#answer(request);
    return {
      path: "/admin/audit",
      methods: new Map([["GET", { access: "cluster.audit", run }]]),
    };
  }

  #answer({ exchange }: ManagedRequest): Answer {
    const { log } = this.#options;
    const query = queryOf(exchange, ["since", "limit", "follow"]);
    const follows = flagOf(query.get("follow"), "follow");
    const limitDefault = follows ? AUDIT_STREAM_LINES_MAX : AUDIT_STREAM_LINES_DEFAULT;
    const linesMax = integerOf(query.get("limit"), "limit", limitDefault);
    if (linesMax < 1 || linesMax > AUDIT_STREAM_LINES_MAX) {
      throw malformed(`limit must be from 1 to ${AUDIT_STREAM_LINES_MAX}`);
    }
    // Without `since`: the newest, or with `follow` those to come.
    const newest = follows ? log.lastSeq : Math.max(0, log.lastSeq - linesMax);
    const since = integerOf(query.get("since"), "since", newest);
    if (this.#streamCount >= AUDIT_STREAMS_MAX) {
      throw new RequestRefused("OVERLOADED", `${AUDIT_STREAMS_MAX} streams of the audit log run`);
    }
    let isOpen = true;
    const onClose = (): void => {
      if (isOpen) this.#streamCount--;
      isOpen = false;
    };
    this.#streamCount++;
    const stream = new AuditStream({ ...this.#options, since, linesMax, follows, onClose });
    const headers = [
      ...["Content-Type", "application/x-ndjson", "Cache-Control", "no-store"],
      ...["X-Request-ID", exchange.requestId],
    ];
    return { status: 200, headers, body: stream };
  }
}

function integerOf(text: string | undefined, name: string, otherwise: number): number {
  if (text === undefined) return otherwise;
  if (!INTEGER.test(text)) throw malformed(`${name} must be a whole number`);
  return Number(text);
}
