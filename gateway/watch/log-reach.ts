/**
 * How far the change logs reach back, for watches that bring a token. What was heard a moment ago is good enough to
 * let a watch in, and for ever good to refuse it: logs lose their oldest changes, and never get them back.
 */
import type { Clock } from "#shared/clock.ts";
import type { VshardId } from "#shared/ids.ts";
import type { ChangeLog } from "./change-source.ts";

const FRESH_MS = 2_000;

type Known = { readonly atMs: number; readonly oldest: Promise<number> };

export class LogReach {
  readonly #log: ChangeLog;
  readonly #clock: Clock;
  readonly #known = new Map<VshardId, Known>();

  constructor(log: ChangeLog, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  /** Whether the log has all changes behind this revision. @throws KvError */
  async hasAllBehind(vshard: VshardId, revision: number, deadlineMs: number): Promise<boolean> {
    const nowMs = this.#clock.monotonicMs();
    let known = this.#known.get(vshard);
    if (known === undefined || nowMs - known.atMs > FRESH_MS) {
      const head = this.#log.head(vshard, { deadlineMs });
      const asked = { atMs: nowMs, oldest: head.then(({ oldestRevision }) => oldestRevision) };
      this.#known.set(vshard, asked);
      asked.oldest.catch(() => {
        if (this.#known.get(vshard) === asked) this.#known.delete(vshard);
      });
      known = asked;
    }
    return revision + 1 >= (await known.oldest);
  }
}
