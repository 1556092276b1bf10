/**
 * Notices a peer that owes answers and says nothing: a process that is stopped, or a network that
 * swallows what is sent. The connection stays open in both cases, and without this every call would
 * wait for its deadline.
 *
 * A peer that has nothing to say, because its disk is slow, is not silent: it answers when asked. So
 * calls that take long are not sent twice for nothing.
 */
import type { Clock } from "#shared/clock.ts";
import {
  STREAM_SILENCE_CHECK_MS,
  STREAM_SILENT_CHECKS_BEFORE_PROBE,
  STREAM_SILENT_CHECKS_MAX,
} from "#shared/limits.ts";

export type SilenceWatchOptions = {
  readonly clock: Clock;
  /** Whether answers are waited for. */
  readonly owes: () => boolean;
  /** Asks the peer whether it is there. */
  readonly probe: () => void;
  /** It is not. The watch has stopped. */
  readonly onSilent: () => void;
};

export class SilenceWatch {
  readonly #options: SilenceWatchOptions;
  #silentChecks = 0;
  #cancelTimer: (() => void) | undefined;

  constructor(options: SilenceWatchOptions) {
    this.#options = options;
  }

  /** An answer is owed from now on. Cheap to repeat; ends by itself when nothing is owed. */
  begin(): void {
    if (this.#cancelTimer !== undefined) return;
    this.#silentChecks = 0;
    this.#arm();
  }

  /** Anything at all came. */
  heard(): void {
    this.#silentChecks = 0;
  }

  stop(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  #arm(): void {
    this.#cancelTimer = this.#options.clock.after(STREAM_SILENCE_CHECK_MS, () => {
      this.#cancelTimer = undefined;
      this.#check();
    });
  }

  #check(): void {
    const { owes, probe, onSilent } = this.#options;
    if (!owes()) return;
    this.#silentChecks++;
    if (this.#silentChecks >= STREAM_SILENT_CHECKS_MAX) {
      onSilent();
      return;
    }
    this.#arm();
    if (this.#silentChecks === STREAM_SILENT_CHECKS_BEFORE_PROBE) probe();
  }
}
