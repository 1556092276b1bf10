/**
 * Signals that do not end a server: SIGHUP makes it read again what it has, and others mean nothing here. By default
 * each of them would end the process, or open Node's debugger (SIGUSR1), which lets every user of the machine run code
 * in it. Under `bin/minikv` Node ignores SIGUSR1 from the beginning; here it is taken for what is started another way.
 *
 * Installed before anything is loaded. What comes during the start is answered when it is complete: what was read
 * before a SIGHUP may be old. SIGPIPE needs nothing, Node ignores it; SIGTERM and SIGINT: shutdown.ts.
 */
import type { Logger } from "./log.ts";

const WITHOUT_MEANING = ["SIGUSR1", "SIGUSR2"] as const;

/** What is used of `process`. */
export type SignalEvents = {
  on(event: "SIGHUP" | (typeof WITHOUT_MEANING)[number], listener: () => void): unknown;
};

type Up = { readonly logger: Pick<Logger, "warn">; readonly reload: (() => void) | undefined };

export class ServerSignals {
  #up: Up | undefined;
  /** Those that came during the start. */
  readonly #early = new Set<string>();

  constructor(events: SignalEvents = process) {
    for (const signal of ["SIGHUP", ...WITHOUT_MEANING] as const) {
      events.on(signal, () => this.#take(signal));
    }
  }

  /** The start is complete. `reload` is undefined for a server that has nothing to read again. */
  serve(logger: Pick<Logger, "warn">, reload: (() => void) | undefined): void {
    this.#up = { logger, reload };
    for (const signal of this.#early) this.#take(signal);
    this.#early.clear();
  }

  #take(signal: string): void {
    if (this.#up === undefined) {
      this.#early.add(signal);
      return;
    }
    const { logger, reload } = this.#up;
    if (signal !== "SIGHUP") logger.warn({ signal }, `${signal}: means nothing here, going on`);
    else if (reload === undefined) logger.warn({ signal }, "SIGHUP: nothing to reload, going on");
    else reload();
  }
}
