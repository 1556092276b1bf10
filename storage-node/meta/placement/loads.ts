/**
 * What each node will hold when all moves under way have come to their end.
 *
 * The planner judges everything by this projection and never by what is there at the moment: a move that
 * has begun counts as done, so it is not begun twice, and the halves of an exchange do not look like
 * mistakes while one of them is ahead.
 */
import type { GroupId } from "#shared/ids.ts";
import { VSHARD_COUNT } from "#shared/ids.ts";
import type { NodeView } from "./nodes.ts";

/** The nodes that will hold one group. */
export type Share = {
  readonly group: GroupId;
  readonly sizeBytes: number;
  /** Positions of nodes that stay. */
  readonly members: readonly number[];
  /** Healthy and at rest: it may be moved for the sake of balance. */
  readonly movable: boolean;
};

export type Move = { readonly group: GroupId; readonly from: number; readonly to: number };

export class Loads {
  readonly nodes: readonly NodeView[];
  /** Sizes of all vshards are known; otherwise bytes are not compared. */
  readonly sizesKnown: boolean;
  /** Vshard replicas of each node; the meta group is small, and counts nowhere. */
  readonly counts: number[];
  readonly bytes: number[];
  readonly #roomBytes: number[];
  readonly #shares = new Map<GroupId, Share>();
  readonly #on: Set<GroupId>[];

  constructor(nodes: readonly NodeView[], sizesKnown: boolean) {
    this.nodes = nodes;
    this.sizesKnown = sizesKnown;
    this.counts = nodes.map(() => 0);
    this.bytes = nodes.map(() => 0);
    this.#roomBytes = nodes.map(({ roomBytes }) => roomBytes);
    this.#on = nodes.map(() => new Set());
  }

  get shares(): Iterable<Share> {
    return this.#shares.values();
  }

  share(group: GroupId): Share {
    return this.#shares.get(group)!;
  }

  groupsOn(node: number): ReadonlySet<GroupId> {
    return this.#on[node]!;
  }

  /** Adds a group, or puts it elsewhere. */
  set(share: Share): void {
    this.#weigh(this.#shares.get(share.group), -1);
    this.#shares.set(share.group, share);
    this.#weigh(share, 1);
  }

  move({ group, from, to }: Move): void {
    const share = this.share(group);
    const members = share.members.map((member) => (member === from ? to : member));
    this.set({ ...share, members, movable: false });
    this.reserve(to, share.sizeBytes);
  }

  hasRoom(node: number, sizeBytes: number): boolean {
    return this.#roomBytes[node]! >= sizeBytes;
  }

  /** A replica that is on its way will need this space. */
  reserve(node: number, sizeBytes: number): void {
    this.#roomBytes[node]! -= sizeBytes;
  }

  #weigh(share: Share | undefined, sign: 1 | -1): void {
    if (share === undefined || share.group >= VSHARD_COUNT) return;
    for (const member of share.members) {
      this.counts[member]! += sign;
      this.bytes[member]! += sign * share.sizeBytes;
      if (sign === 1) this.#on[member]!.add(share.group);
      else this.#on[member]!.delete(share.group);
    }
  }
}
