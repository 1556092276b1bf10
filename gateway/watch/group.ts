/**
 * Watches with the same query, which stand at the same place: what one of them gets, all get, as the same bytes.
 *
 * Events gather until the next flush. A watch that joins in between begins behind those that are gathered, and is told
 * first where it stands: its client has a token before it has anything else.
 */
import { concatBytes, EMPTY_BYTES, utf8 } from "#shared/bytes.ts";
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

/** What was gathered, on its way to the watches of the group. */
type Delivery = {
  readonly token: ResumeToken;
  readonly nowMs: number;
  readonly pending: readonly NamedEvent[];
  /** For all but newcomers. */
  readonly bytes: Uint8Array;
  readonly newcomers: ReadonlyMap<Session, Newcomer>;
  /** Those that have not been looked at. */
  readonly sessions: IterableIterator<Session>;
  /** For newcomers, by what they skip: many may have come at the same place. */
  readonly rests: Map<number, Uint8Array>;
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
  #delivery: Delivery | undefined;

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

  /**
   * Begins to hand what was gathered to everybody; `deliver` does. Nothing else is handed out meanwhile. `token` says
   * where they all stand behind it.
   */
  flush(token: ResumeToken, nowMs: number): void {
    const pending = this.#pending;
    const newcomers = new Map(this.#newcomers.map((newcomer) => [newcomer.session, newcomer]));
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#newcomers = [];
    const isForAll = pending.length > 0 && this.#members.size > 0;
    const bytes = isForAll ? frame(this.query.format, pending, 0, token) : EMPTY_BYTES;
    // Behind all others.
    for (const session of newcomers.keys()) this.#members.add(session);
    const sessions = isForAll ? this.#members.values() : newcomers.keys();
    this.#delivery = { token, nowMs, pending, bytes, newcomers, sessions, rests: new Map() };
  }

  /** Goes on until it is late. Whether everybody has been written to. */
  deliver(write: (session: Session, bytes: Uint8Array) => void, isLate: () => boolean): boolean {
    const delivery = this.#delivery;
    if (delivery === undefined) return true;
    // A set's iterator goes on where it was left, and leaves out whoever has gone.
    for (const session of delivery.sessions) {
      if (!this.#members.has(session)) continue;
      const newcomer = delivery.newcomers.get(session);
      const bytes = newcomer === undefined ? delivery.bytes : this.#welcome(newcomer, delivery);
      if (bytes.length > 0) write(session, bytes);
      if (isLate()) return false;
    }
    this.#delivery = undefined;
    return true;
  }

  /** At once: whoever falls behind by it stands behind all of it. */
  #welcome({ token: own, skip }: Newcomer, delivery: Delivery): Uint8Array {
    const { format } = this.query;
    const { pending, token, nowMs, rests } = delivery;
    const parts: Uint8Array[] = [];
    if (own !== undefined) {
      parts.push(frame(format, [{ name: "progress", data: progressData(nowMs) }], 0, own));
    }
    if (skip < pending.length) {
      const rest = rests.get(skip) ?? frame(format, pending, skip, token);
      rests.set(skip, rest);
      parts.push(rest);
    }
    return parts.length === 1 ? parts[0]! : concatBytes(...parts);
  }
}
