/** A NATS server in memory, as the bus sees it: one connection at a time, which tests break and hang. */
import type { BusDial, BusHandler, BusLink, BusLinkEvents } from "#shared/runtime/bus.ts";

type Connection = {
  readonly subscriptions: Map<string, BusHandler>;
  readonly end: (reason: string) => void;
  readonly events: BusLinkEvents;
  isOpen: boolean;
};

export class FakeNats {
  /** Attempts fail with this reason. */
  refusal: string | undefined;
  onAttempt: () => void = () => {};
  readonly dialled: string[] = [];
  readonly published: { readonly subject: string; readonly payload: Uint8Array }[] = [];
  payloadBytesMax = 1_000_000;
  #answers = true;
  #waiting: (() => void)[] = [];
  #connection: Connection | undefined;

  readonly dial: BusDial = async (server, events) => {
    this.onAttempt();
    this.dialled.push(server);
    if (this.refusal !== undefined) throw new Error(this.refusal);
    return this.#connect(events);
  };

  get attempts(): number {
    return this.dialled.length;
  }

  /** Open connections. */
  get open(): number {
    return this.#connection?.isOpen ? 1 : 0;
  }

  get answers(): boolean {
    return this.#answers;
  }

  /** Whether it says that it has what was sent. */
  set answers(answers: boolean) {
    this.#answers = answers;
    if (answers) for (const resolve of this.#waiting.splice(0)) resolve();
  }

  texts(): readonly string[] {
    return this.published.map(({ payload }) => Buffer.from(payload).toString());
  }

  subjects(): readonly string[] {
    return [...(this.#connection?.subscriptions.keys() ?? [])];
  }

  deliver(subject: string, payload: Uint8Array): void {
    this.#connection?.subscriptions.get(subject)?.(payload);
  }

  break(reason: string): void {
    this.#connection?.end(reason);
  }

  refuse(detail: string): void {
    this.#connection?.events.onRefused(detail);
  }

  #connect(events: BusLinkEvents): BusLink {
    const subscriptions = new Map<string, BusHandler>();
    const { promise: ended, resolve } = Promise.withResolvers<string>();
    const connection: Connection = {
      subscriptions,
      events,
      isOpen: true,
      end: (reason) => {
        connection.isOpen = false;
        resolve(reason);
      },
    };
    this.#connection = connection;
    return {
      payloadBytesMax: this.payloadBytesMax,
      publish: (subject, payload) => {
        if (!connection.isOpen) return;
        this.published.push({ subject, payload });
        this.onPublished(subject, payload);
      },
      flush: () => {
        if (this.#answers) return Promise.resolve();
        return new Promise((answered) => this.#waiting.push(answered));
      },
      subscribe: (subject, handler) => {
        // The first one would go on beside the second, and never end.
        if (subscriptions.has(subject)) throw new Error(`${subject} is subscribed to already`);
        subscriptions.set(subject, handler);
        return () => subscriptions.delete(subject);
      },
      ended,
      close: () => connection.end("closed"),
    };
  }

  /** For tests that pass on what is published. */
  onPublished: (subject: string, payload: Uint8Array) => void = () => {};
}
