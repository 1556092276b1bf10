/** One change on its way to watches, and how it reads there. */

import { keyJsonMember } from "#gateway/kv/key.ts";
import { valueJsonMember } from "#gateway/kv/row-json.ts";
import type { KeyRef } from "#gateway/storage/storage.ts";
import type { ChangeRecord } from "#proto/codec/change-messages.ts";
import { ChangeKind } from "#shared/change.ts";
import { Space, type VshardId } from "#shared/ids.ts";
import { CHANGE_VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import type { WatchOp } from "./watches.ts";

/** As the client stored it. */
export type OpenedValue = { readonly value: Uint8Array; readonly contentType: string };

const OPS = {
  [ChangeKind.Put]: "put",
  [ChangeKind.Delete]: "delete",
  [ChangeKind.Expire]: "expire",
} as const satisfies Record<ChangeKind, WatchOp>;

/** What an event costs beside its key and value: objects, numbers. */
const OVERHEAD_BYTES = 256;

export class WatchEvent {
  readonly vshard: VshardId;
  readonly record: ChangeRecord;
  readonly op: WatchOp;
  /** `none`: it cannot be had. Undefined: nobody has asked for it yet. */
  value: OpenedValue | "none" | undefined;
  /** While the value is being fetched. */
  fetching: Promise<void> | undefined;
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

  /** One text for all watches that want the same of it. */
  json(withValue: boolean): Buffer {
    if (withValue && this.value !== undefined && this.value !== "none") {
      this.#valueJson ??= Buffer.from(this.#text(this.value));
      return this.#valueJson;
    }
    this.#plainJson ??= Buffer.from(this.#text(undefined));
    return this.#plainJson;
  }

  dropTexts(): void {
    this.#plainJson = undefined;
    this.#valueJson = undefined;
  }

  /** Those who want it have it: what is kept of the event from here on is small. */
  settle(): void {
    this.dropTexts();
    const { key, value: fresh } = this.record;
    this.#sizeBytes = OVERHEAD_BYTES + key.length + (fresh?.value.length ?? 0);
    if (this.value === undefined || this.value === "none") return;
    // One that was decompressed or read may be large. Who needs it again, gets it again.
    const { length } = this.value.value;
    if (length > CHANGE_VALUE_SIZE_BYTES_MAX) this.value = undefined;
    else this.#sizeBytes += length;
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
    json += `,"time":"${new Date(timeMs).toISOString()}"`;
    if (transactionId.length > 0) {
      json += `,"txn":"${Buffer.from(transactionId).toString("base64url")}"`;
    }
    return `${json}}`;
  }
}
