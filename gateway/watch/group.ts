/**
 * Watches with the same query, which stand at the same place: what one of them gets, all get, as the same bytes.
 *
 * Events gather until the next flush. A watch that joins in between begins behind those that are gathered, and is told
 * first where it stands: its client has a token before it has anything else.
 */
import { concatBytes, utf8 } from "#shared/bytes.ts";
import type { VshardId } from "#shared/ids.ts";
import type { WatchEvent } from "./event.ts";
import { frame, type NamedEvent } from "./framing.ts";
import type { ResumeToken, TokenBinding } from "./resume-token.ts";
import type { Session } from "./session.ts";
import { WATCH_OPS, type WatchOp, type WatchQuery } from "./watches.ts";

export type GroupOptions = {
  readonly name: string;
  readonly query: WatchQuery;
  /** Where the keys of the filter are: one vshard, or all of them in order. */
  readonly scope: readonly VshardId[];
  readonly binding: TokenBinding;
};

type Newcomer = {
  readonly session: Session;
  /** Where it stood when it joined; undefined for a client that has a token. */
  readonly token: ResumeToken | undefined;
  /** So many of the gathered events are from before. */
  readonly skip: number;
};

export const COMPACTED_DATA = Buffer.from(
  utf8('{"detail":"changes before this are not in the change log any more: read the keys anew"}'),
);

export const RESYNC_DATA = Buffer.from(
  utf8('{"detail":"the client took its events too slowly; events go on from the change log"}'),
);

export const progressData = (nowMs: number): Buffer =>
  Buffer.from(`{"time":"${new Date(nowMs).toISOString()}"}`);

export class Group {
  readonly name: string;
  readonly query: WatchQuery;
  readonly scope: readonly VshardId[];
  readonly binding: TokenBinding;
  readonly #ops: Readonly<Record<WatchOp, boolean>>;
  /** Of all watches of the query, also those that are behind. */
  sessionCount = 0;
  /** What was gathered at the last token, see `Hub`. */
  stamp = -1;
  /** Monotonic: when its members were last told anything. */
  toldAtMs = 0;
  readonly #members = new Set<Session>();
  #newcomers: Newcomer[] = [];
  #pending: NamedEvent[] = [];
  #pendingBytes = 0;

  constructor({ name, query, scope, binding }: GroupOptions) {
    this.name = name;
    this.query = query;
    this.scope = scope;
    this.binding = binding;
    const ops = { put: false, delete: false, expire: false };
    for (const op of WATCH_OPS) ops[op] = query.ops.includes(op);
    this.#ops = ops;
  }

  get liveCount(): number {
    return this.#members.size + this.#newcomers.length;
  }

  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  get hasNews(): boolean {
    return this.#pending.length > 0 || this.#newcomers.length > 0;
  }

  wants(op: WatchOp): boolean {
    return this.#ops[op];
  }

  append(event: WatchEvent): void {
    this.add({ name: event.op, data: event.json(this.query.values) });
  }

  add(event: NamedEvent): void {
    this.#pending.push(event);
    this.#pendingBytes += event.data.length;
  }

  /** The vshard has a hole here. Of one flush one such event says enough. */
  addCompacted(): void {
    const isTold = this.#pending.some(({ name }) => name === "compacted");
    if (!isTold) this.add({ name: "compacted", data: COMPACTED_DATA });
  }

  join(session: Session, token: ResumeToken | undefined): void {
    this.#newcomers.push({ session, token, skip: this.#pending.length });
  }

  leave(session: Session): void {
    if (this.#members.delete(session)) return;
    this.#newcomers = this.#newcomers.filter((newcomer) => newcomer.session !== session);
  }

  /** All that are live, in the order in which they came. */
  sessions(): readonly Session[] {
    return [...this.#members, ...this.#newcomers.map(({ session }) => session)];
  }

  /** What was gathered since the session was last written to, and `last` behind it. */
  rest(
    session: Session,
    last: readonly NamedEvent[],
    token: ResumeToken,
    nowMs: number,
  ): Uint8Array {
    const newcomer = this.#newcomers.find((one) => one.session === session);
    const events = [...this.#pending.slice(newcomer?.skip ?? 0), ...last];
    const { format } = this.query;
    if (newcomer?.token !== undefined) {
      events.unshift({ name: "progress", data: progressData(nowMs) });
    }
    return frame(format, events, 0, token);
  }

  /** Hands what was gathered to everybody. `token` says where they all stand behind it. */
  flush(
    token: ResumeToken,
    nowMs: number,
    write: (session: Session, bytes: Uint8Array) => void,
  ): void {
    const { format } = this.query;
    const pending = this.#pending;
    const newcomers = this.#newcomers;
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#newcomers = [];
    if (pending.length > 0 && this.#members.size > 0) {
      const bytes = frame(format, pending, 0, token);
      for (const session of this.#members) write(session, bytes);
    }
    for (const { session } of newcomers) this.#members.add(session);
    this.#welcome(newcomers, pending, token, nowMs, write);
  }

  #welcome(
    newcomers: readonly Newcomer[],
    pending: readonly NamedEvent[],
    token: ResumeToken,
    nowMs: number,
    write: (session: Session, bytes: Uint8Array) => void,
  ): void {
    if (newcomers.length === 0) return;
    const { format } = this.query;
    const progress: NamedEvent = { name: "progress", data: progressData(nowMs) };
    // Many may have come at the same place.
    const rests = new Map<number, Uint8Array>();
    for (const { session, token: own, skip } of newcomers) {
      if (!this.#members.has(session)) continue;
      const parts: Uint8Array[] = [];
      if (own !== undefined) parts.push(frame(format, [progress], 0, own));
      if (skip < pending.length) {
        const rest = rests.get(skip) ?? frame(format, pending, skip, token);
        rests.set(skip, rest);
        parts.push(rest);
      }
      // At once: whoever falls behind by it stands behind all of it.
      if (parts.length > 0) write(session, parts.length === 1 ? parts[0]! : concatBytes(...parts));
    }
  }
}
