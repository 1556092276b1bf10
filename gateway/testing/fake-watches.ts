/** Watches for tests of the routes: they deliver what they are told to. */
import type { ResumeToken } from "#gateway/watch/resume-token.ts";
import type {
  Watch,
  WatchClient,
  WatchEnding,
  Watches,
  WatchQuery,
} from "#gateway/watch/watches.ts";
import { utf8 } from "#shared/bytes.ts";

export class FakeWatch implements Watch {
  readonly query: WatchQuery;
  readonly from: { readonly since: ResumeToken | undefined; readonly isReconnect: boolean };
  readonly client: WatchClient;
  drains = 0;
  ending: WatchEnding | undefined;
  closes = 0;

  constructor(query: WatchQuery, from: FakeWatch["from"], client: WatchClient) {
    this.query = query;
    this.from = from;
    this.client = client;
  }

  /** An event as the hub writes it. */
  event(event: string, data: object, token = "dG9rZW4"): boolean {
    return this.client.write(
      this.query.format === "sse"
        ? utf8(`event: ${event}\ndata: ${JSON.stringify(data)}\nid: ${token}\n\n`)
        : textFrame(JSON.stringify({ event, data, token })),
    );
  }

  drained(): void {
    this.drains++;
  }

  finish(ending: WatchEnding): void {
    if (this.ending !== undefined || this.closes > 0) return;
    this.ending = ending;
    const { kind, ...data } = ending;
    this.event(kind, data);
  }

  close(): void {
    this.closes++;
  }
}

export class FakeWatches implements Watches {
  /** Every watch that was begun, oldest first. */
  readonly all: FakeWatch[] = [];
  /** Thrown by each `open` while set. */
  failure: unknown;
  /** Each `open` waits for it. */
  gate: Promise<void> = Promise.resolve();
  isDraining = false;
  opening = 0;

  async open(
    query: WatchQuery,
    from: FakeWatch["from"],
    client: WatchClient,
    _deadlineMs: number,
  ): Promise<Watch> {
    this.opening++;
    await this.gate;
    this.opening--;
    if (this.failure !== undefined) throw this.failure;
    const watch = new FakeWatch(query, from, client);
    this.all.push(watch);
    return watch;
  }

  get newest(): FakeWatch {
    return this.all.at(-1)!;
  }

  get running(): readonly FakeWatch[] {
    return this.all.filter(({ closes }) => closes === 0);
  }

  drain(): void {
    this.isDraining = true;
    for (const watch of this.running) {
      watch.finish({ kind: "drain" });
      watch.client.end();
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** RFC 6455, 5.2: one unmasked text frame. */
export function textFrame(text: string): Uint8Array {
  const payload = utf8(text);
  const { length } = payload;
  const head =
    length < 126
      ? Uint8Array.of(0x81, length)
      : length < 65_536
        ? Uint8Array.of(0x81, 126, length >> 8, length & 0xff)
        : Uint8Array.of(
            0x81,
            127,
            0,
            0,
            0,
            0,
            length >>> 24,
            (length >> 16) & 0xff,
            (length >> 8) & 0xff,
            length & 0xff,
          );
  const frame = new Uint8Array(head.length + length);
  frame.set(head);
  frame.set(payload, head.length);
  return frame;
}
