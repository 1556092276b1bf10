/**
 * The bus as the rest of the code sees it: messages out and in over one NATS connection that comes back by
 * itself, for ever.
 *
 * The bus owes nothing. What cannot be sent at once is dropped and counted: there is no queue that could grow
 * or make anybody wait. How much is on its way is known by asking the server now and then whether it has
 * all that was sent before (PING, PONG); beyond a bound messages are dropped until it answers. A server that
 * does not answer at all is cut and dialled again.
 *
 * Knows no client library: that is `nats.ts`, which dials.
 */
import type { Clock } from "#shared/clock.ts";
import {
  BUS_ACKNOWLEDGE_BYTES,
  BUS_ANSWER_TIMEOUT_MS,
  BUS_BACKOFF_MS_MAX,
  BUS_BACKOFF_MS_MIN,
  BUS_MESSAGE_OVERHEAD_BYTES,
  BUS_PING_INTERVAL_MS,
  BUS_REASON_LENGTH_MAX,
  BUS_REASONS_TOLD_MAX,
  BUS_STABLE_AFTER_MS,
  BUS_WAITING_BYTES_MAX,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";

/** The payload is the handler's to keep. It is a view of what was received together with it. */
export type BusHandler = (payload: Uint8Array) => void;

/** One connection, from its beginning to its end. */
export type BusLink = {
  /** Of a message's payload. */
  readonly payloadBytesMax: number;
  /** Never waits, never throws. */
  publish(subject: string, payload: Uint8Array): void;
  /** Resolves when the server has all that was published before. Rejects when the link has ended. */
  flush(): Promise<void>;
  /** @returns ends the subscription */
  subscribe(subject: string, handler: BusHandler): () => void;
  /** Resolves with the reason when the link has ended. */
  readonly ended: Promise<string>;
  /** At once; what is on its way may be lost. Idempotent. */
  close(): void;
};

/** Makes one attempt that ends by itself. @throws Error whose message holds no secret */
export type BusDial = (server: string, events: BusLinkEvents) => Promise<BusLink>;

export type BusLinkEvents = {
  /** The server does not let this client publish or subscribe there. */
  readonly onRefused: (detail: string) => void;
};

export type BusState =
  | { readonly kind: "connected"; readonly server: string }
  /** Once for each reason of an outage; attempts go on. */
  | { readonly kind: "disconnected"; readonly reason: string }
  | { readonly kind: "refused"; readonly detail: string };

export type BusOptions = {
  /** `host:port`, at least one; tried in turns. */
  readonly servers: readonly string[];
  readonly dial: BusDial;
  readonly clock: Clock;
  readonly random: Random;
  readonly onState: (state: BusState) => void;
  readonly waitingBytesMax?: number;
};

/** What senders and receivers use. */
export interface Bus {
  readonly isConnected: boolean;
  /** Of a message to be sent now; 0 while there is no connection. */
  readonly payloadBytesMax: number;
  /** Whether a message of about so many bytes would be sent now. Asking costs less than encoding. */
  hasRoom(payloadBytes: number): boolean;
  /** @returns false when it was dropped */
  publish(subject: string, payload: Uint8Array): boolean;
  /** Holds over reconnects. A subject has one handler. @returns ends it */
  subscribe(subject: string, handler: BusHandler): () => void;
  figures(): BusFigures;
}

export type BusFigures = {
  readonly connected: number;
  /** Connections that were made, and attempts that failed. */
  readonly connects: number;
  readonly connectFailures: number;
  readonly messagesSent: number;
  readonly bytesSent: number;
  /** Because there was no connection, or no room on it. */
  readonly messagesDropped: number;
  readonly messagesReceived: number;
  readonly bytesReceived: number;
  /** Received, and not under a key of ours. */
  readonly messagesRefused: number;
  /** Sent, and not known to be taken. */
  readonly bytesWaiting: number;
};

type Subscription = { readonly handler: BusHandler; end: (() => void) | undefined };

export class NatsBus implements Bus {
  readonly #options: BusOptions;
  readonly #waitingBytesMax: number;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #reasonsTold = new Set<string>();
  #link: BusLink | undefined;
  #closed = false;
  #next: number;
  #backoffMs = BUS_BACKOFF_MS_MIN;
  #cancelTimer: () => void = () => {};
  /** Of this link: sent since the server was last asked, and asked about and not answered. */
  #unasked = 0;
  #asked = 0;
  #askedAtMs: number | undefined;
  #cutBecause: string | undefined;
  #figures = {
    connects: 0,
    connectFailures: 0,
    messagesSent: 0,
    bytesSent: 0,
    messagesDropped: 0,
    messagesReceived: 0,
    bytesReceived: 0,
    messagesRefused: 0,
  };

  constructor(options: BusOptions) {
    this.#options = options;
    this.#waitingBytesMax = options.waitingBytesMax ?? BUS_WAITING_BYTES_MAX;
    // Not all processes on the same server.
    this.#next = options.random.below(options.servers.length);
  }

  /** Returns at once: the program runs whether or not there is a bus. */
  start(): void {
    void this.#connect();
  }

  get isConnected(): boolean {
    return this.#link !== undefined;
  }

  get payloadBytesMax(): number {
    return this.#link?.payloadBytesMax ?? 0;
  }

  hasRoom(payloadBytes: number): boolean {
    if (this.#link === undefined || payloadBytes > this.#link.payloadBytesMax) return false;
    return this.#unasked + this.#asked + payloadBytes <= this.#waitingBytesMax;
  }

  publish(subject: string, payload: Uint8Array): boolean {
    if (!this.hasRoom(payload.length)) {
      this.#figures.messagesDropped++;
      return false;
    }
    this.#link!.publish(subject, payload);
    this.#figures.messagesSent++;
    this.#figures.bytesSent += payload.length;
    this.#unasked += payload.length + subject.length + BUS_MESSAGE_OVERHEAD_BYTES;
    if (this.#unasked >= BUS_ACKNOWLEDGE_BYTES) this.#ask();
    return true;
  }

  subscribe(subject: string, handler: BusHandler): () => void {
    const subscription: Subscription = { handler, end: undefined };
    this.#subscriptions.set(subject, subscription);
    this.#begin(subject, subscription);
    return () => {
      if (this.#subscriptions.get(subject) !== subscription) return;
      this.#subscriptions.delete(subject);
      subscription.end?.();
    };
  }

  figures(): BusFigures {
    const bytesWaiting = this.#unasked + this.#asked;
    return { connected: this.isConnected ? 1 : 0, bytesWaiting, ...this.#figures };
  }

  /** What has been sent gets up to `timeoutMs` to leave. */
  async close(timeoutMs: number): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelTimer();
    const link = this.#link;
    this.#link = undefined;
    if (link === undefined) return;
    const timeout = Promise.withResolvers<void>();
    const cancel = this.#options.clock.after(timeoutMs, timeout.resolve);
    // A link that ends meanwhile has nothing left to send.
    await Promise.race([link.flush().catch(() => undefined), timeout.promise]);
    cancel();
    link.close();
  }

  async #connect(): Promise<void> {
    const { servers, dial, clock } = this.#options;
    const server = servers[this.#next % servers.length]!;
    this.#next++;
    let link: BusLink;
    try {
      link = await dial(server, { onRefused: (detail) => this.#tellRefused(detail) });
    } catch (error) {
      this.#figures.connectFailures++;
      this.#lost(error instanceof Error ? error.message : String(error));
      return;
    }
    if (this.#closed) {
      link.close();
      return;
    }
    const sinceMs = clock.monotonicMs();
    this.#figures.connects++;
    this.#link = link;
    this.#unasked = 0;
    this.#asked = 0;
    this.#askedAtMs = undefined;
    this.#cutBecause = undefined;
    this.#reasonsTold.clear();
    this.#options.onState({ kind: "connected", server });
    for (const [subject, subscription] of this.#subscriptions) this.#begin(subject, subscription);
    this.#watch(link);
    const reason = await link.ended;
    this.#cancelTimer();
    if (this.#link === link) this.#link = undefined;
    if (clock.monotonicMs() - sinceMs >= BUS_STABLE_AFTER_MS) this.#backoffMs = BUS_BACKOFF_MS_MIN;
    this.#lost(this.#cutBecause ?? reason);
  }

  /** Tells why, if that is news, and tries again after a while. */
  #lost(reason: string): void {
    if (this.#closed) return;
    const told = printable(reason);
    if (this.#reasonsTold.size < BUS_REASONS_TOLD_MAX && !this.#reasonsTold.has(told)) {
      this.#reasonsTold.add(told);
      this.#options.onState({ kind: "disconnected", reason: told });
    }
    const { clock, random } = this.#options;
    const delayMs = this.#backoffMs * (0.5 + random.float() / 2);
    this.#backoffMs = Math.min(this.#backoffMs * 2, BUS_BACKOFF_MS_MAX);
    this.#cancelTimer = clock.after(delayMs, () => void this.#connect());
  }

  #tellRefused(detail: string): void {
    if (this.#closed) return;
    const told = printable(detail);
    // Forgotten with each connection, as the server's permissions may have changed.
    if (this.#reasonsTold.size >= BUS_REASONS_TOLD_MAX || this.#reasonsTold.has(told)) return;
    this.#reasonsTold.add(told);
    this.#options.onState({ kind: "refused", detail: told });
  }

  #begin(subject: string, subscription: Subscription): void {
    subscription.end = this.#link?.subscribe(subject, (payload) => {
      this.#figures.messagesReceived++;
      this.#figures.bytesReceived += payload.length;
      subscription.handler(payload);
    });
  }

  /** The server is asked also when nothing is sent: a silent connection may be a dead one. */
  #watch(link: BusLink): void {
    const { clock } = this.#options;
    this.#cancelTimer = clock.after(BUS_PING_INTERVAL_MS, () => {
      if (this.#link !== link) return;
      if (this.#askedAtMs === undefined) this.#ask();
      else if (clock.monotonicMs() - this.#askedAtMs >= BUS_ANSWER_TIMEOUT_MS) {
        this.#cut(link, "the server does not answer");
        return;
      }
      this.#watch(link);
    });
  }

  /** Nothing is sent on it any more; `ended` comes when it has closed. */
  #cut(link: BusLink, reason: string): void {
    this.#link = undefined;
    this.#cutBecause = reason;
    link.close();
  }

  #ask(): void {
    const link = this.#link;
    if (link === undefined || this.#askedAtMs !== undefined) return;
    this.#askedAtMs = this.#options.clock.monotonicMs();
    this.#asked = this.#unasked;
    this.#unasked = 0;
    link.flush().then(
      () => {
        if (this.#link !== link) return;
        this.#asked = 0;
        this.#askedAtMs = undefined;
        if (this.#unasked >= BUS_ACKNOWLEDGE_BYTES) this.#ask();
      },
      // It has ended, which `ended` tells.
      () => undefined,
    );
  }
}

/** Part of it may come from a server. */
function printable(text: string): string {
  const clean = text.replace(/[^\x20-\x7e]+/g, " ").trim();
  return clean === "" ? "connection lost" : clean.slice(0, BUS_REASON_LENGTH_MAX);
}
