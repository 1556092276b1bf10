/**
 * When keys were last used: written in the background, together, and seldom.
 *
 * A use that is lost (the gateway ends, the meta group has no leader, the line is full) costs only that a
 * key looks older than it is; requests never wait for it.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Directory } from "#gateway/directory/directory.ts";
import { KeyUseRecordSchema } from "#proto/gen/minikv/v1/directory_pb.ts";
import type { Clock } from "#shared/clock.ts";
import {
  DEADLINE_MS_DEFAULT,
  KEY_USE_INTERVAL_MS,
  KEY_USE_WRITE_DELAY_MS,
  KEY_USES_PER_CHANGE_MAX,
  KEY_USES_WAITING_MAX,
} from "#shared/limits.ts";
import { findKey, keyUseRowName } from "./key-records.ts";

/** 0 when the key was never used, as far as is known. */
export function lastUsedAtMs(directory: Directory, id: string): number {
  const row = directory.get(keyUseRowName(id));
  if (row === undefined) return 0;
  try {
    return Number(fromBinary(KeyUseRecordSchema, row.value).lastUsedAtMs);
  } catch {
    return 0;
  }
}

export class KeyUses {
  readonly #directory: Directory;
  readonly #clock: Clock;
  readonly #waiting = new Map<string, number>();
  #cancelTimer: (() => void) | undefined;
  #isClosed = false;

  constructor(options: { readonly directory: Directory; readonly clock: Clock }) {
    this.#directory = options.directory;
    this.#clock = options.clock;
  }

  note(id: string, atMs: number): void {
    if (this.#isClosed || this.#waiting.size >= KEY_USES_WAITING_MAX) return;
    this.#waiting.set(id, atMs);
    this.#cancelTimer ??= this.#clock.after(KEY_USE_WRITE_DELAY_MS, () => void this.#write());
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelTimer?.();
    this.#waiting.clear();
  }

  /** Never rejects. */
  async #write(): Promise<void> {
    const uses = [...this.#waiting].slice(0, KEY_USES_PER_CHANGE_MAX);
    for (const [id] of uses) this.#waiting.delete(id);
    // Another gateway may have written it, and the key may be gone.
    const news = uses.filter(
      ([id, atMs]) =>
        findKey(this.#directory, id) !== undefined &&
        atMs - lastUsedAtMs(this.#directory, id) >= KEY_USE_INTERVAL_MS,
    );
    const mutations = news.map(([id, atMs]) => ({
      name: keyUseRowName(id),
      value: toBinary(
        KeyUseRecordSchema,
        create(KeyUseRecordSchema, { lastUsedAtMs: BigInt(atMs) }),
      ),
    }));
    const deadlineMs = this.#clock.nowMs() + DEADLINE_MS_DEFAULT;
    if (mutations.length > 0) {
      await this.#directory.change(mutations, { deadlineMs }).catch(() => false);
    }
    this.#cancelTimer =
      this.#waiting.size === 0 || this.#isClosed
        ? undefined
        : this.#clock.after(KEY_USE_WRITE_DELAY_MS, () => void this.#write());
  }
}
