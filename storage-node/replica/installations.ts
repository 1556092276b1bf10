/**
 * Replicas whose engine rows are being replaced by a snapshot: what their cores hand out waits.
 *
 * A Ready that asks for an installation may be written to the log only when the engine holds the
 * snapshot, and every later one behind it. So from that Ready on all of them queue here, while the other
 * groups go on. What they say that needs no write (heartbeats) has left before.
 */
import type { ReplicaId } from "#shared/ids.ts";
import type { Machine } from "#storage-node/machine/machine.ts";
import type { LogReset, Ready } from "#storage-node/raft/types.ts";
import type { ApplyPump } from "./apply-pump.ts";
import type { Replica } from "./replica.ts";

/** What the ready loop needs of whoever sends and receives snapshots. */
export interface Snapshots {
  /** `to`, a member of the group that `replica` leads, needs one. */
  due(replica: Replica, to: ReplicaId): void;
  /**
   * Replaces the rows of the group by those of the snapshot received for `reset.start`, durably.
   * Resolves with the machine that stands on them; with undefined when it was stopped: the node ends,
   * or the replica leaves it.
   */
  install(replica: Replica, reset: LogReset): Promise<Machine | undefined>;
  /** The group's log begins behind `reset.start`, durably. */
  resetDurable(replica: Replica, reset: LogReset): void;
}

/** A Ready to be written; of one that asked for it, the installation is done. */
export type Issued = {
  readonly replica: Replica;
  readonly ready: Ready;
  readonly machine?: Machine | undefined;
};

export type InstallationsOptions = {
  readonly snapshots: Snapshots;
  readonly pump: ApplyPump;
  /** Writes them as one batch of the log. */
  readonly issue: (issued: readonly Issued[]) => void;
  readonly onFatal: (error: unknown) => void;
};

export class Installations {
  readonly #options: InstallationsOptions;
  readonly #held = new Map<Replica, Ready[]>();

  constructor(options: InstallationsOptions) {
    this.#options = options;
  }

  /** Takes charge of a Ready that has to wait; false when there is nothing to wait for. */
  hold(replica: Replica, ready: Ready): boolean {
    const held = this.#held.get(replica);
    if (held !== undefined) {
      held.push(ready);
      return true;
    }
    if (ready.reset?.install !== true) return false;
    const queue = [ready];
    this.#held.set(replica, queue);
    replica.installationBegins();
    this.#install(replica, queue).catch(this.#options.onFatal);
    return true;
  }

  async #install(replica: Replica, queue: Ready[]): Promise<void> {
    const { pump, snapshots, issue } = this.#options;
    // Nothing handed out earlier may be applied any more, and what is being applied must have ended.
    pump.discard(replica);
    await pump.between(() => {});
    while (queue.length > 0) {
      const ready = queue[0]!;
      const machine = ready.reset?.install
        ? await snapshots.install(replica, ready.reset)
        : undefined;
      // Stopped: nothing of this replica is written any more, and so nothing is promised. Of one that
      // is gone nothing may be: a record of it would bring it back into the log.
      if (replica.isGone || (ready.reset?.install && machine === undefined)) break;
      queue.shift();
      const issued: Issued[] = [{ replica, ready, machine }];
      while (queue.length > 0 && !queue[0]!.reset?.install) {
        issued.push({ replica, ready: queue.shift()! });
      }
      issue(issued);
    }
    this.#held.delete(replica);
  }
}

/** Of a node that takes no part in snapshots: its groups have no other members, or no transport. */
export const noSnapshots: Snapshots = {
  due: (replica, to) => {
    replica.raft.reportSnapshot(to, "failed");
  },
  install: () => {
    throw new Error("no snapshot was received: there is nothing to install");
  },
  resetDurable: () => {},
};
