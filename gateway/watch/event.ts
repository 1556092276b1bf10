/** One change on its way to watches, and how it reads there. */

import { keyJsonMember } from "#gateway/kv/key.ts";
import { valueJsonMember } from "#gateway/kv/row-json.ts";
import type { KeyRef } from "#gateway/storage/storage.ts";
import type { ChangeRecord } from "#proto/codec/change-messages.ts";
import { ChangeKind } from "#shared/change.ts";
import { Space, type VshardId } from "#shared/ids.ts";
import { WATCH_RECENT_TEXT_BYTES_MAX } from "#shared/limits.ts";
import type { WatchOp } from "./watches.ts";

/** As the client stored it. */
export type OpenedValue = { readonly value: Uint8Array; readonly contentType: string };

const OPS = {
  [ChangeKind.Put]: "put",
  [ChangeKind.Delete]: "delete",
  [ChangeKind.Expire]: "expire",
} as const satisfies Record<ChangeKind, WatchOp>;

/** What an event costs beside its key and value: objects, numbers. */
export const EVENT_OVERHEAD_BYTES = 256;

/** The last one that has a date. A message of the bus may say anything, and must not end the process. */
const TIME_MS_MAX = 8.64e15;

export class WatchEvent {
  readonly vshard: VshardId;
  readonly record: ChangeRecord;
  readonly op: WatchOp;
  /** `none`: it cannot be had. Undefined: nobody has asked for it yet. */
  value: OpenedValue | "none" | undefined;
  /** What it counts while it waits in line, its value with it. */
  heldBytes = 0;
  /** While the value is being fetched. */
  fetching: Promise<void> | undefined;
  #isSettled = false;
  #sizeBytes = 0;
  #plainJson: Buffer | undefined;
  #valueJson: Buffer | undefined;

  constructor(vshard: VshardId, record: ChangeRecord) {
    this.vshard = vshard;
    this.record = record;
    this.op = OPS[record.kind];
    if (record.kind !== ChangeKind.Put) this.value = "none";
  }

  /** The only changes that are for clients. */
  get isOfClients(): boolean {
    return this.record.space === Space.Kv;
  }

  get ref(): KeyRef {
    return this.record;
  }

  /** Asked from `settle` on. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Whether `json` has the value, or there is none. */
  isReady(withValue: boolean): boolean {
    return !withValue || this.value !== undefined || this.#valueJson !== undefined;
  }

  /** One text for all watches that want the same of it. Asked when ready. */
  json(withValue: boolean): Buffer {
    if (withValue && this.#valueJson !== undefined) return this.#valueJson;
    if (withValue && this.value !== undefined && this.value !== "none") {
      const json = Buffer.from(this.#text(this.value));
      if (!this.#isSettled) this.#valueJson = json;
      return json;
    }
    const json = this.#plainJson ?? Buffer.from(this.#text(undefined));
    if (!this.#isSettled) this.#plainJson = json;
    return json;
  }

  /**
   * Those who want it at once have it: from here on its size stays as it is. Small texts are kept. When many
   * clients are too slow at the same time, each goes through recent events by itself, and must not cost
   * more than it did as one of a group.
   */
  settle(): void {
    this.#isSettled = true;
    // Who needs one that is not in a text, fetches it again.
    if (this.value !== "none") this.value = undefined;
    if (this.#valueJson !== undefined && this.#valueJson.length > WATCH_RECENT_TEXT_BYTES_MAX) {
      this.#valueJson = undefined;
    }
    const { key, value: fresh } = this.record;
    const texts = (this.#plainJson?.length ?? 0) + (this.#valueJson?.length ?? 0);
    this.#sizeBytes = EVENT_OVERHEAD_BYTES + key.length + (fresh?.value.length ?? 0) + texts;
  }

  #text(opened: OpenedValue | undefined): string {
    const { key, revision, expiresAtMs, timeMs, transactionId } = this.record;
    let json = `{"op":"${this.op}",${keyJsonMember(key)},"revision":${revision}`;
    if (opened !== undefined) {
      json += `,${valueJsonMember(opened.value)}`;
      if (opened.contentType !== "") {
        json += `,"content_type":${JSON.stringify(opened.contentType)}`;
      }
    }
    // Seconds from the change on, as the writer gave them.
    if (expiresAtMs !== 0) json += `,"ttl":${Math.max(0, expiresAtMs - timeMs) / 1000}`;
    json += `,"time":"${new Date(Math.min(timeMs, TIME_MS_MAX)).toISOString()}"`;
    if (transactionId.length > 0) {
      json += `,"txn":"${Buffer.from(transactionId).toString("base64url")}"`;
    }
    return `${json}}`;
  }
}
