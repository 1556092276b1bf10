/** Change logs, news and clients that do what the test says. Used by tests only. */
import type { KeyRef, StoredValue } from "#gateway/storage/storage.ts";
import type { ChangeBatch, ChangeRecord } from "#proto/codec/change-messages.ts";
import { EMPTY_BYTES, latin1, utf8 } from "#shared/bytes.ts";
import { ChangeKind } from "#shared/change.ts";
import { ManualClock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT, type Revision, Space, type TenantId, type VshardId } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { vshardOf } from "#shared/vshard.ts";
import type { ChangeLog, LiveChanges, LiveListener, LogHead, LogPiece } from "./change-source.ts";
import { Hub, type WatchBounds } from "./hub.ts";
import type { ResumeToken } from "./resume-token.ts";
import type { OpenValue } from "./values.ts";
import type { WatchClient, WatchQuery } from "./watches.ts";

export type Written = { readonly vshard: VshardId; readonly record: ChangeRecord };
type Write = {
  readonly key: string;
  readonly kind?: ChangeKind;
  readonly value?: string;
  readonly tenant?: TenantId;
  readonly space?: Space;
};

/** What storage nodes have: the log, and the keys. */
export class FakeHistory {
  readonly all: Written[] = [];
  readonly #byVshard = new Map<VshardId, ChangeRecord[]>();
  readonly #floors = new Map<VshardId, number>();
  readonly #keys = new Map<string, ChangeRecord>();
  readonly #clock: ManualClock;

  constructor(clock: ManualClock) {
    this.#clock = clock;
  }

  write(write: Write): Written {
    const { kind = ChangeKind.Put, tenant = DEFAULT_TENANT, space = Space.Kv } = write;
    const key = utf8(write.key);
    const vshard = vshardOf({ tenant, space, key });
    const records = this.of(vshard);
    const value = utf8(write.value ?? "");
    const record: ChangeRecord = {
      ...{ kind, tenant, space, key },
      revision: (records.length + 1) as Revision,
      previousRevision: 0 as Revision,
      valueSizeBytes: kind === ChangeKind.Put ? value.length : 0,
      expiresAtMs: 0,
      timeMs: this.#clock.nowMs(),
      transactionId: EMPTY_BYTES,
      value: kind === ChangeKind.Put ? { value, encoding: 0, contentType: "" } : undefined,
      traceContext: EMPTY_BYTES,
    };
    records.push(record);
    this.#byVshard.set(vshard, records);
    this.#keys.set(nameOf(record), record);
    const written = { vshard, record };
    this.all.push(written);
    return written;
  }

  of(vshard: VshardId): ChangeRecord[] {
    return this.#byVshard.get(vshard) ?? [];
  }

  floorOf(vshard: VshardId): number {
    return this.#floors.get(vshard) ?? 0;
  }

  /** The log loses all up to this revision. */
  compact(vshard: VshardId, revision: number): void {
    this.#floors.set(vshard, Math.max(this.floorOf(vshard), revision));
  }

  /** As it is pushed while it is fresh. */
  batch(vshard: VshardId, after: number, until: number): ChangeBatch {
    const changes = this.of(vshard).slice(after, until);
    return { vshard, previousRevision: after as Revision, changes };
  }

  get(ref: KeyRef): StoredValue | undefined {
    const record = this.#keys.get(nameOf({ ...ref, space: Space.Kv }));
    if (record?.value === undefined) return undefined;
    return {
      revision: record.revision,
      value: record.value.value,
      contentType: "",
      expiresAtMs: 0,
      modifiedAtMs: record.timeMs,
      valueSizeBytes: record.valueSizeBytes,
    };
  }
}

const nameOf = ({ tenant, space, key }: { tenant: number; space: number; key: Uint8Array }) =>
  `${tenant} ${space} ${latin1(key)}`;

export class FakeLog implements ChangeLog {
  readonly #history: FakeHistory;
  /** What each read must wait for, if anything. */
  gate: ((vshard: VshardId) => Promise<void> | undefined) | undefined;
  isFailing = false;
  reads = 0;
  /** Changes of one piece. */
  pieceMax = 8;
  /** So many of the newest changes of each vshard are not known there yet: a leader of old, or a new one. */
  lag = 0;

  constructor(history: FakeHistory) {
    this.#history = history;
  }

  async read(vshard: VshardId, afterRevision: Revision): Promise<LogPiece> {
    await this.#pass(vshard);
    const headRevision = this.#headOf(vshard);
    const floor = this.#history.floorOf(vshard);
    if (afterRevision < floor) {
      return { kind: "compacted", oldestRevision: (floor + 1) as Revision, headRevision };
    }
    const until = Math.min(headRevision, afterRevision + this.pieceMax);
    const batch = this.#history.batch(vshard, afterRevision, Math.max(afterRevision, until));
    const changes = batch.changes.map((record) => ({ ...record, value: undefined }));
    return { kind: "changes", batch: { ...batch, changes }, headRevision };
  }

  async head(vshard: VshardId): Promise<LogHead> {
    await this.#pass(vshard);
    return {
      headRevision: this.#headOf(vshard),
      oldestRevision: (this.#history.floorOf(vshard) + 1) as Revision,
    };
  }

  close(): void {}

  #headOf(vshard: VshardId): Revision {
    const known = this.#history.of(vshard).length - this.lag;
    return Math.max(known, this.#history.floorOf(vshard)) as Revision;
  }

  async #pass(vshard: VshardId): Promise<void> {
    this.reads++;
    await this.gate?.(vshard);
    if (this.isFailing) throw new KvError("UNAVAILABLE", "the log cannot be reached");
  }
}

/** Carries what the test hands to it. */
export class FakeLive implements LiveChanges {
  listener: LiveListener | undefined;
  readonly listened = new Map<VshardId, () => Revision>();
  isSilent = false;

  start(listener: LiveListener): void {
    this.listener = listener;
  }
  listen(vshard: VshardId, position: () => Revision): void {
    this.listened.set(vshard, position);
  }
  unlisten(vshard: VshardId): void {
    this.listened.delete(vshard);
  }
  silenceMs(): number {
    return this.isSilent ? Number.POSITIVE_INFINITY : 0;
  }
  async close(): Promise<void> {
    this.listened.clear();
  }
}

/** For tests that watch nothing. */
export function noChanges(clock: ManualClock) {
  const log = new FakeLog(new FakeHistory(clock));
  const live = new FakeLive();
  const changes: ChangeLog & LiveChanges = {
    read: (vshard, revision) => log.read(vshard, revision),
    head: (vshard) => log.head(vshard),
    start: (listener) => live.start(listener),
    listen: (vshard, position) => live.listen(vshard, position),
    unlisten: (vshard) => live.unlisten(vshard),
    silenceMs: () => live.silenceMs(),
    close: () => live.close(),
  };
  return { changes, clusterId: () => "test" };
}

export type SeenEvent = {
  readonly name: string;
  readonly data: Record<string, unknown>;
  readonly token: string | undefined;
};

/** Takes text/event-stream, or frames. */
export class FakeClient implements WatchClient {
  readonly format: WatchQuery["format"];
  readonly chunks: Uint8Array[] = [];
  isFull = false;
  hasEnded = false;

  constructor(format: WatchQuery["format"] = "sse") {
    this.format = format;
  }

  write(bytes: Uint8Array): boolean {
    this.chunks.push(bytes);
    return !this.isFull;
  }

  end(): void {
    this.hasEnded = true;
  }

  get bytes(): number {
    return this.chunks.reduce((sum, { length }) => sum + length, 0);
  }

  get heartbeats(): number {
    return this.format === "sse" ? this.#text.split(/^:$/m).length - 1 : 0;
  }

  get #text(): string {
    return Buffer.concat(this.chunks).toString("utf8");
  }

  /** All that came, and of it what is no heartbeat. */
  events(): SeenEvent[] {
    return this.format === "sse" ? eventsOfSse(this.#text) : eventsOfFrames(this.chunks);
  }

  names(): string[] {
    return this.events().map(({ name, data }) => (data.key ? `${name} ${data.key}` : name));
  }

  lastToken(): ResumeToken | undefined {
    return this.events().findLast(({ token }) => token !== undefined)?.token as
      | ResumeToken
      | undefined;
  }
}

function eventsOfSse(text: string): SeenEvent[] {
  const events: SeenEvent[] = [];
  for (const block of text.split("\n\n")) {
    const fields = new Map<string, string>();
    for (const line of block.split("\n")) {
      const colon = line.indexOf(": ");
      if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 2));
    }
    const name = fields.get("event");
    if (name === undefined) continue;
    events.push({ name, data: JSON.parse(fields.get("data")!), token: fields.get("id") });
  }
  return events;
}

function eventsOfFrames(chunks: readonly Uint8Array[]): SeenEvent[] {
  const bytes = Buffer.concat(chunks);
  const events: SeenEvent[] = [];
  for (let at = 0; at < bytes.length; ) {
    const opcode = bytes[at]!;
    let size = bytes[at + 1]!;
    at += 2;
    if (size === 126) {
      size = bytes.readUInt16BE(at);
      at += 2;
    } else if (size === 127) {
      size = Number(bytes.readBigUInt64BE(at));
      at += 8;
    }
    if (opcode === 0x81) {
      const { event, data, token } = JSON.parse(bytes.toString("utf8", at, at + size));
      events.push({ name: event, data, token });
    }
    at += size;
  }
  return events;
}

export const query = (
  more: Partial<WatchQuery> & { readonly prefix?: string } = {},
): WatchQuery => {
  const { prefix = "", ...rest } = more;
  return {
    tenant: DEFAULT_TENANT,
    filter: { kind: "prefix", prefix: utf8(prefix) },
    ops: ["put", "delete", "expire"],
    values: false,
    format: "sse",
    ...rest,
  };
};

/** Lets everything run that waits for promises only. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 40; i++) await Promise.resolve();
}

type HubWorld = { readonly clock: ManualClock; readonly history: FakeHistory };

/** A hub over a history of its own, or over that of another one. */
export function openTestHub(
  options: {
    readonly world?: HubWorld;
    readonly bounds?: WatchBounds;
    readonly open?: OpenValue;
    /** In place of the history's. */
    readonly get?: (ref: KeyRef) => Promise<StoredValue | undefined>;
  } = {},
) {
  const clock = options.world?.clock ?? new ManualClock();
  const history = options.world?.history ?? new FakeHistory(clock);
  const log = new FakeLog(history);
  const live = new FakeLive();
  const hub = new Hub({
    ...{ log, live, clock },
    random: new SeededRandom(1),
    clusterId: () => "cluster",
    open: options.open ?? ((_, { value }) => value),
    storage: { get: options.get ?? (async (ref) => history.get(ref)) },
    ...(options.bounds === undefined ? {} : { bounds: options.bounds }),
  });
  const advance = async (ms: number, stepMs = 25): Promise<void> => {
    for (let passed = 0; passed < ms; passed += stepMs) {
      await settle();
      clock.advance(stepMs);
    }
    await settle();
  };
  const open = async (
    watched: WatchQuery,
    client: WatchClient,
    since?: ResumeToken,
    isReconnect = true,
  ) => {
    const opening = hub.open(watched, { since, isReconnect }, client, clock.nowMs() + 5_000);
    let isDone = false;
    const done = opening.finally(() => {
      isDone = true;
    });
    done.catch(() => {});
    for (let i = 0; i < 400 && !isDone; i++) await advance(25);
    return opening;
  };
  /** Writes, and has the news of it come at once. */
  const write = (what: Write): Written => {
    const written = history.write(what);
    const { vshard, record } = written;
    live.listener!.onBatch(history.batch(vshard, record.revision - 1, record.revision));
    return written;
  };
  return { clock, history, log, live, hub, advance, open, write };
}
