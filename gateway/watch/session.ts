/**
 * One watch: a client and how far it has come.
 *
 * It is either `live`, a member of its group, and stands where all watches stand that are not behind; or `behind`, with
 * positions of its own (`catch-up.ts`). What was handed to its connection while that was full counts
 * against a bound, until the connection says that it takes more.
 */
import type { CatchUp } from "./catch-up.ts";
import type { Group } from "./group.ts";
import type { Watch, WatchClient, WatchEnding } from "./watches.ts";

export type SessionOwner = {
  readonly onDrained: (session: Session) => void;
  readonly finish: (session: Session, ending: WatchEnding) => void;
  readonly remove: (session: Session) => void;
};

export class Session implements Watch {
  readonly client: WatchClient;
  readonly group: Group;
  /** In which tick it gets its heartbeat. */
  readonly slot: number;
  readonly #owner: SessionOwner;
  state: "live" | "behind" | "ended" = "behind";
  /** While it is behind. */
  catchUp: CatchUp | undefined;
  isBlocked = false;
  waitingBytes = 0;
  #isRemoved = false;

  constructor(owner: SessionOwner, group: Group, client: WatchClient, slot: number) {
    this.#owner = owner;
    this.group = group;
    this.client = client;
    this.slot = slot;
  }

  drained(): void {
    if (!this.#isRemoved) this.#owner.onDrained(this);
  }

  finish(ending: WatchEnding): void {
    if (this.state !== "ended") this.#owner.finish(this, ending);
  }

  close(): void {
    if (this.#isRemoved) return;
    this.#isRemoved = true;
    this.#owner.remove(this);
  }
}
