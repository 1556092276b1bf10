/**
 * Replicas that come and go while the node runs.
 *
 * Destroying one: nothing of it is done any more, then the log forgets the group (durably), then the
 * engine's rows are deleted. After a crash in between, rows are left that the log does not know; they
 * are deleted before the group gets a replica here again, and at the next start (`open-groups.ts`).
 * In the other order, a crash could leave a replica whose state is gone and whose votes are not. The same
 * goes for the file of a snapshot that was being installed: until the log has forgotten the replica, the
 * file is its state.
 */
import type { GroupId } from "#shared/ids.ts";
import type { HostedReplicas } from "./hosted-replicas.ts";
import { createGroups, type NewReplica, type ReplicaParts } from "./open-groups.ts";
import { purgeGroup } from "./purge-group.ts";
import type { ReadyLoop } from "./ready-loop.ts";
import type { Replica } from "./replica.ts";

export type HostingOptions = {
  readonly hosted: HostedReplicas;
  readonly parts: ReplicaParts;
  readonly loop: ReadyLoop;
  /** Resolves when no snapshot of the replica is sent, received or installed any more. */
  readonly forget: (replica: Replica) => Promise<void>;
  /** The log has forgotten the replica, durably. */
  readonly forgotten: (replica: Replica) => Promise<void>;
};

export class Hosting {
  readonly #options: HostingOptions;

  constructor(options: HostingOptions) {
    this.#options = options;
  }

  get hosted(): readonly Replica[] {
    return this.#options.hosted.list;
  }

  replicaOf(group: GroupId): Replica | undefined {
    return this.#options.hosted.get(group);
  }

  markDirty(replica: Replica): void {
    this.#options.loop.markDirty(replica);
  }

  /** Makes replicas of groups that have none here. Resolves when they take part. */
  async create(specs: readonly NewReplica[]): Promise<void> {
    const { hosted, parts } = this.#options;
    for (const replica of await createGroups(parts, specs)) {
      hosted.add(replica);
      this.begin(replica);
    }
  }

  begin(replica: Replica): void {
    // Nobody else can lead a group of one, so it need not wait for a timeout.
    if (replica.alone) replica.raft.campaign();
    this.#options.loop.markDirty(replica);
  }

  /** See the head of this module. The group must be able to do without the replica. */
  async destroy(replica: Replica): Promise<void> {
    const { hosted, parts, loop, forget, forgotten } = this.#options;
    hosted.remove(replica.group);
    replica.leave();
    loop.pump.discard(replica);
    // A round that runs may hold entries of it.
    await loop.pump.between(() => {});
    await forget(replica);
    const record = { kind: "removeGroup", group: replica.group } as const;
    await new Promise<void>((resolve) => parts.wal.append([record], resolve));
    await forgotten(replica);
    await purgeGroup(parts.engine, replica.group);
  }
}
