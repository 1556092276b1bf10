/** The replicas that live on this node, by group. They come and go while it runs. */
import { type GroupId, META_GROUP, VSHARD_COUNT } from "#shared/ids.ts";
import type { Replica } from "./replica.ts";

/** Index of a group in the table; the meta group stands behind the vshards. -1 for no group. */
function slotOf(group: number): number {
  if (group < VSHARD_COUNT) return group;
  return group === META_GROUP ? VSHARD_COUNT : -1;
}

export class HostedReplicas {
  readonly #slots = new Array<Replica | undefined>(VSHARD_COUNT + 1).fill(undefined);
  #list: readonly Replica[] = [];

  get(group: GroupId | number): Replica | undefined {
    return this.#slots[slotOf(group)];
  }

  /** In order of their groups. Another list after each change. */
  get list(): readonly Replica[] {
    return this.#list;
  }

  add(replica: Replica): void {
    this.#set(replica.group, replica);
  }

  remove(group: GroupId): void {
    this.#set(group, undefined);
  }

  #set(group: GroupId, replica: Replica | undefined): void {
    this.#slots[slotOf(group)] = replica;
    this.#list = this.#slots.filter((slot) => slot !== undefined);
  }
}
