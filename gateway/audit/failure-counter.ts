/**
 * Authentication failures, bounded (and exchanges of keys for tokens, with principals in place of
 * addresses): a flood of them neither fills the disk nor hides anything.
 *
 * In each second a few failures from each address, and a few altogether, have lines of their own. The rest is
 * counted, and one line at the end of the second says how many there were, and from which addresses most of
 * them. So a second costs about a dozen lines, however many failures it has.
 */

import {
  AUDIT_ADDRESSES_NAMED_MAX,
  AUDIT_ADDRESSES_TRACKED_MAX,
  AUDIT_FAILURES_PER_ADDRESS_MAX,
  AUDIT_FAILURES_PER_SECOND_MAX,
  AUDIT_FAILURES_WINDOW_MS,
} from "#shared/audit-limits.ts";
import type { Clock } from "#shared/clock.ts";

export type FailureSummary = {
  /** Failures without a line of their own. */
  readonly count: number;
  /** Those of the addresses that had most. */
  readonly clients: Readonly<Record<string, number>>;
};

type Counts = { all: number; withoutLine: number };

export class FailureCounter {
  readonly #clock: Clock;
  readonly #onSummary: (summary: FailureSummary) => void;
  #byAddress = new Map<string, Counts>();
  #lines = 0;
  #withoutLine = 0;
  #cancelTimer: (() => void) | undefined;

  constructor(clock: Clock, onSummary: (summary: FailureSummary) => void) {
    this.#clock = clock;
    this.#onSummary = onSummary;
  }

  /** Whether this failure has a line of its own; otherwise it is counted. */
  admits(address: string): boolean {
    this.#cancelTimer ??= this.#clock.after(AUDIT_FAILURES_WINDOW_MS, () => this.flush());
    let counts = this.#byAddress.get(address);
    if (counts === undefined && this.#byAddress.size < AUDIT_ADDRESSES_TRACKED_MAX) {
      counts = { all: 0, withoutLine: 0 };
      this.#byAddress.set(address, counts);
    }
    const hasLine =
      counts !== undefined &&
      counts.all < AUDIT_FAILURES_PER_ADDRESS_MAX &&
      this.#lines < AUDIT_FAILURES_PER_SECOND_MAX;
    if (counts !== undefined) counts.all++;
    if (hasLine) {
      this.#lines++;
      return true;
    }
    this.#withoutLine++;
    if (counts !== undefined) counts.withoutLine++;
    return false;
  }

  /** Ends the second. */
  flush(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    const count = this.#withoutLine;
    const clients = this.#named();
    this.#byAddress = new Map();
    this.#lines = 0;
    this.#withoutLine = 0;
    if (count > 0) this.#onSummary({ count, clients });
  }

  #named(): Readonly<Record<string, number>> {
    const counted = [...this.#byAddress].filter(([, { withoutLine }]) => withoutLine > 0);
    counted.sort(([, a], [, b]) => b.withoutLine - a.withoutLine);
    const most = counted.slice(0, AUDIT_ADDRESSES_NAMED_MAX);
    return Object.fromEntries(most.map(([address, { withoutLine }]) => [address, withoutLine]));
  }
}
