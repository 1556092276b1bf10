/**
 * One client that watches for a whole round: it reads, sometimes slowly, loses its connection or gives it up, and
 * goes on at whatever gateway with the last token it has got, as a browser's EventSource would.
 *
 * It writes down what it was told, in the order in which it was told.
 */
import type { SeededRandom } from "#shared/random.ts";
import { EventStream, type StreamEnd, type StreamEvent } from "./event-stream.ts";

export type SeenChange = {
  readonly op: "put" | "delete" | "expire";
  readonly key: string;
  readonly revision: number;
  /** Absent where the event had none. */
  readonly value: string | undefined;
};

export type WatcherOptions = {
  readonly name: string;
  readonly urls: readonly string[];
  readonly random: SeededRandom;
  /** Query of the watch. */
  readonly query: Readonly<Record<string, string>>;
  /** Begins here, and not with what comes from now on. */
  readonly since?: string;
  /** Gives its connection up now and then, and stays at no gateway. */
  readonly isRestless: boolean;
  /** Stops reading for a while now and then. */
  readonly isSlow: boolean;
};

/** More than the heartbeat of the server (15 s), so that only a dead connection is given up. */
const SILENCE_MS_MAX = 25_000;
const RETRY_MS_MAX = 400;
const RESTLESS_MS_MAX = 6_000;
const SLOW_EVERY_MS_MAX = 5_000;
const SLOW_FOR_MS_MAX = 3_000;
const CHANGES = new Set(["put", "delete", "expire"]);
/** Said without a change; anything else is no event of the contract. */
const SIGNALS = new Set(["progress", "resync", "drain"]);

export class Watcher {
  readonly name: string;
  readonly seen: SeenChange[] = [];
  /** What no watcher may be told. */
  readonly complaints: string[] = [];
  connections = 0;
  resyncs = 0;
  readonly #options: WatcherOptions;
  #stream: EventStream | undefined;
  #token: string;
  #timers: NodeJS.Timeout[] = [];
  #isOver = false;
  #begun = Promise.withResolvers<void>();

  constructor(options: WatcherOptions) {
    this.#options = options;
    this.name = options.name;
    this.#token = options.since ?? "";
  }

  /** The last token: where another watch may go on. */
  get token(): string {
    return this.#token;
  }

  /** Resolves when it has a token: from then on it has to see every change. */
  start(): Promise<void> {
    this.#connect();
    return this.#begun.promise;
  }

  stop(): void {
    this.#isOver = true;
    this.#disconnect();
  }

  #disconnect(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers = [];
    this.#stream?.close();
    this.#stream = undefined;
  }

  #connect(): void {
    if (this.#isOver) return;
    const { urls, random, query, isRestless, isSlow } = this.#options;
    const url = urls[random.below(urls.length)]!;
    const parameters = new URLSearchParams(query);
    // The first time as `since`, then as an EventSource does it.
    const isFirst = this.connections++ === 0;
    if (isFirst && this.#token !== "") parameters.set("since", this.#token);
    const headers: Record<string, string> =
      !isFirst && this.#token !== "" ? { "Last-Event-ID": this.#token } : {};
    const stream: EventStream = new EventStream({
      url: `${url}/v1/watch?${parameters}`,
      headers,
      silenceMsMax: SILENCE_MS_MAX,
      onEvent: (event) => this.#take(event),
      onEnd: (end) => {
        if (this.#stream === stream) this.#ended(end);
      },
    });
    this.#stream = stream;
    if (isRestless) this.#after(random.below(RESTLESS_MS_MAX), () => stream.close());
    if (isSlow) this.#slowDown(stream);
  }

  #slowDown(stream: EventStream): void {
    const { random } = this.#options;
    this.#after(random.below(SLOW_EVERY_MS_MAX), () => {
      stream.pause();
      this.#after(random.below(SLOW_FOR_MS_MAX), () => {
        stream.resume();
        this.#slowDown(stream);
      });
    });
  }

  #after(delayMs: number, work: () => void): void {
    this.#timers.push(setTimeout(work, delayMs));
  }

  #ended(end: StreamEnd): void {
    this.#disconnect();
    if (this.#isOver) return;
    // A gateway that cannot serve now says so; anything else means that the watch itself was refused.
    if (end.kind === "refused" && end.status !== 503 && end.status !== 504) {
      this.complaints.push(`refused with ${end.status}: ${end.body.slice(0, 200)}`);
    }
    this.#after(this.#options.random.below(RETRY_MS_MAX), () => this.#connect());
  }

  #take({ event, data, lastId }: StreamEvent): void {
    if (CHANGES.has(event)) this.#change(event as SeenChange["op"], data);
    else if (!SIGNALS.has(event)) this.complaints.push(`told ${event}: ${data.slice(0, 200)}`);
    if (event === "resync") this.resyncs++;
    if (lastId === "" || lastId === this.#token) return;
    this.#token = lastId;
    this.#begun.resolve();
  }

  #change(op: SeenChange["op"], data: string): void {
    const change = JSON.parse(data) as {
      readonly op: string;
      readonly key?: string;
      readonly revision: number;
      readonly value?: string;
    };
    const { key, revision, value } = change;
    if (change.op !== op || key === undefined || !Number.isSafeInteger(revision)) {
      this.complaints.push(`an event ${op} with ${data.slice(0, 200)}`);
      return;
    }
    this.seen.push({ op, key, revision, value });
  }
}
