/** Writes that a replica has taken and not proposed yet. */
import type { Command, Reply } from "#proto/codec/messages.ts";
import {
  COMMANDS_PER_ENTRY_MAX,
  ENTRY_SIZE_BYTES_MAX,
  PROPOSALS_PENDING_BYTES_MAX,
  PROPOSALS_PENDING_PER_GROUP_MAX,
} from "#shared/limits.ts";
import type { NodeBudget } from "./budget.ts";
import { commandSizeBytes } from "./command-size.ts";
import { type PendingWrite, refusePast, type WriteTrace } from "./waiting.ts";

export class PendingWrites {
  readonly #budget: NodeBudget;
  #writes: PendingWrite[] = [];
  /** Monotonic: when the first of them came; 0 before anybody looked. */
  #sinceMs = 0;
  #hasTraced = false;

  constructor(budget: NodeBudget) {
    this.#budget = budget;
  }

  get length(): number {
    return this.#writes.length;
  }

  get sinceMs(): number {
    return this.#sinceMs;
  }

  /** One of them is traced, or of those that came with them and have been proposed. */
  get hasTraced(): boolean {
    return this.#hasTraced;
  }

  /** @returns why there is no room for it, if so */
  add(command: Command, reply: Reply, trace: WriteTrace | undefined): string | undefined {
    if (this.#writes.length >= PROPOSALS_PENDING_PER_GROUP_MAX) {
      this.#budget.rejected++;
      return "too many writes wait for this vshard";
    }
    const sizeBytes = commandSizeBytes(command);
    if (this.#budget.pendingBytes + sizeBytes > PROPOSALS_PENDING_BYTES_MAX) {
      this.#budget.rejected++;
      return "too many bytes wait on this node";
    }
    this.#hasTraced ||= trace !== undefined;
    this.#writes.push({ command, sizeBytes, reply, trace });
    this.#budget.pendingBytes += sizeBytes;
    return undefined;
  }

  /** Those that are there have come since `sinceMs`, unless that is known better. */
  noteSince(sinceMs: number): void {
    if (this.#sinceMs === 0 && this.#writes.length > 0) this.#sinceMs = sinceMs;
  }

  /** As many as one entry holds, behind the first `from`. */
  batch(from: number): PendingWrite[] {
    const until = Math.min(this.#writes.length, from + COMMANDS_PER_ENTRY_MAX);
    let sizeBytes = 0;
    let end = from;
    while (end < until) {
      sizeBytes += this.#writes[end]!.sizeBytes;
      if (end > from && sizeBytes > ENTRY_SIZE_BYTES_MAX) break;
      end++;
    }
    return this.#writes.slice(from, end);
  }

  /** Some of them were: they are counted, and dropped later. */
  noteProposed(count: number): void {
    this.#budget.proposed += count;
  }

  /** The first `count` are pending no more. */
  drop(count: number): void {
    if (count === 0) return;
    if (count === this.#writes.length) {
      this.takeAll();
      return;
    }
    for (let at = 0; at < count; at++) this.#budget.pendingBytes -= this.#writes[at]!.sizeBytes;
    this.#writes = this.#writes.slice(count);
  }

  takeAll(): readonly PendingWrite[] {
    const writes = this.#writes;
    for (const { sizeBytes } of writes) this.#budget.pendingBytes -= sizeBytes;
    this.#writes = [];
    this.#sinceMs = 0;
    this.#hasTraced = false;
    return writes;
  }

  /** Refuses those whose deadline has passed. */
  refusePast(nowMs: number): void {
    const left = refusePast(this.#writes, nowMs);
    if (left === this.#writes) return;
    const { sinceMs, hasTraced } = this;
    this.takeAll();
    if (left.length === 0) return;
    this.#sinceMs = sinceMs;
    this.#hasTraced = hasTraced;
    for (const { sizeBytes } of left) this.#budget.pendingBytes += sizeBytes;
    this.#writes = left;
  }
}
