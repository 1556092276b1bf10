/**
 * When a leader may try to hand its group over. While it tries, the group takes no writes, and a replica
 * whose disk hangs answers heartbeats and never takes over: so after an attempt comes a pause in which
 * the group serves. A leader that succeeded has no more to ask.
 */
import type { Clock } from "#shared/clock.ts";
import type { GroupId } from "#shared/ids.ts";
import { LEADER_TRANSFER_PAUSE_MS } from "#shared/limits.ts";

export class TransferPace {
  readonly #clock: Clock;
  readonly #notBeforeMs = new Map<GroupId, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  allows(group: GroupId): boolean {
    return this.#clock.monotonicMs() >= (this.#notBeforeMs.get(group) ?? 0);
  }

  begun(group: GroupId): void {
    this.#notBeforeMs.set(group, this.#clock.monotonicMs() + LEADER_TRANSFER_PAUSE_MS);
  }
}
