/**
 * What the audit log is told, by whoever answers requests. Nothing here waits or fails: what becomes of a
 * record is the log's business.
 *
 * No record has a secret or a value: the path is kept without its query, and a key only as a hash.
 */
import type { Principal } from "#gateway/auth/caller.ts";
import { CredentialsThrottled } from "#gateway/auth/refusals.ts";
import type { Answer, Exchange } from "#gateway/http/exchange.ts";
import { type ErrorCode, KvError, type WriteOutcome } from "#shared/errors.ts";
import type { TenantId } from "#shared/ids.ts";

/** Who did something, and about whose data. */
export type Actor = { readonly principal: Principal; readonly tenant: TenantId };

export type AdminRecord = {
  readonly exchange: Exchange;
  /** The route as it is declared, such as `/admin/nodes/:id`. */
  readonly route: string;
  readonly status: number;
  readonly shown?: Answer["shown"];
  /** Of the problem that was answered. */
  readonly code?: ErrorCode | undefined;
  readonly outcome?: WriteOutcome | undefined;
  /** Unknown when the caller was not let in. */
  readonly actor?: Actor | undefined;
};

export type AuthFailureRecord = {
  readonly exchange: Exchange;
  /** RATE_LIMITED: refused unseen, after too many wrong ones. */
  readonly code: "UNAUTHENTICATED" | "FORBIDDEN" | "RATE_LIMITED";
  /** Of one who is known, but may not do what he asked for. */
  readonly actor?: Actor | undefined;
};

export type DataRecord = {
  readonly exchange: Exchange;
  readonly action: "put" | "delete";
  readonly key: Uint8Array;
  readonly status: number;
  readonly actor: Actor;
};

export interface Audit {
  /**
   * Before an administrative action is begun.
   *
   * @throws RequestRefused UNAVAILABLE when it could not be recorded, and must be
   */
  admit(): void;
  /** An administrative action was answered, or an exchange of a key for a token. */
  admin(record: AdminRecord): void;
  /** A request was refused for who sent it. */
  authFailure(record: AuthFailureRecord): void;
  /** Whether `data` wants to be called. */
  readonly recordsData: boolean;
  /** A key was changed, or a change of it failed. */
  data(record: DataRecord): void;
}

export const noAudit: Audit = {
  admit: () => undefined,
  admin: () => undefined,
  authFailure: () => undefined,
  recordsData: false,
  data: () => undefined,
};

/** The code of a refusal that is about who sent the request; undefined for any other error. */
export function refusalOfGate(error: unknown): AuthFailureRecord["code"] | undefined {
  if (!(error instanceof KvError)) return undefined;
  const { code } = error;
  if (error instanceof CredentialsThrottled) return "RATE_LIMITED";
  return code === "UNAUTHENTICATED" || code === "FORBIDDEN" ? code : undefined;
}
