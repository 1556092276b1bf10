/**
 * What to move next so that replicas are spread and loads are even.
 *
 * Three aims, in this order; none is pursued at the cost of one before it:
 *
 * 1. Spread: a group whose set of nodes can be made cheaper (spread.ts) by one move.
 * 2. Count: replicas per node differ by one at most, as far as the spread allows (chain.ts).
 * 3. Bytes: they differ by the largest vshard at most, or by `BALANCE_BYTES_MIN`. Two nodes that differ
 *    by more exchange a large vshard for a small one; or one is moved, where the counts allow it. With
 *    equal counts such a pair always exists: if each of the one node's vshards were as small as the
 *    other's that it is paired with, there would be no difference.
 *
 * Every move lowers one aim's measure and leaves those before it alone, so a cluster left in peace comes
 * to rest. That every step is worth a whole replica, for bytes more than the largest vshard, is what
 * keeps sizes that change all the time from moving anything.
 */
import { type GroupId, VSHARD_COUNT } from "#shared/ids.ts";
import { BALANCE_BYTES_MIN } from "#shared/limits.ts";
import { shortestChain } from "./chain.ts";
import type { Loads, Move, Share } from "./loads.ts";
import { bestSpreadCost, exchangeCost, spreadCost } from "./spread.ts";

export type Improvement = {
  /** Any first part of them is no loss either, unless `together`. */
  readonly moves: readonly Move[];
  /** They make sense only if all of them begin. */
  readonly together: boolean;
  readonly reason: string;
};

/** The best next improvement with at most `movesMax` moves; undefined when there is none. */
export function nextImprovement(loads: Loads, movesMax: number): Improvement | undefined {
  if (movesMax < 1) return undefined;
  return spreadMove(loads) ?? countMoves(loads) ?? byteMoves(loads, movesMax);
}

const givers = ({ nodes }: Loads): number[] =>
  nodes.filter(({ stays, answering }) => stays && answering).map(({ index }) => index);

/** Nothing is put on a slow node that need not be. */
const takers = ({ nodes }: Loads): number[] =>
  nodes.filter(({ receives, slow }) => receives && !slow).map(({ index }) => index);

/** Whether `to` may take the place of `from` without a loss of spread. */
function canMove(loads: Loads, share: Share, from: number, to: number): boolean {
  return (
    share.movable &&
    !share.members.includes(to) &&
    loads.hasRoom(to, share.sizeBytes) &&
    exchangeCost(loads.nodes, share.members, from, to) <= 0
  );
}

function spreadMove(loads: Loads): Improvement | undefined {
  const staying = loads.nodes.filter(({ stays }) => stays).map(({ index }) => index);
  const from = givers(loads);
  const to = takers(loads);
  const best = new Map<number, number>();
  for (const share of loads.shares) {
    if (!share.movable) continue;
    const size = share.members.length;
    const possible = best.get(size) ?? bestSpreadCost(loads.nodes, staying, size);
    best.set(size, possible);
    if (spreadCost(loads.nodes, share.members) <= possible) continue;
    const move = bestExchangeOf(loads, share, from, to);
    if (move !== undefined) return { moves: [move], together: false, reason: "spread" };
  }
  return undefined;
}

function bestExchangeOf(
  loads: Loads,
  share: Share,
  givers: readonly number[],
  takers: readonly number[],
): Move | undefined {
  const { counts, nodes } = loads;
  let best: Move | undefined;
  let bestCost = 0;
  let bestGain = 0;
  for (const from of share.members) {
    if (!givers.includes(from)) continue;
    for (const to of takers) {
      if (share.members.includes(to) || !loads.hasRoom(to, share.sizeBytes)) continue;
      const cost = exchangeCost(nodes, share.members, from, to);
      const gain = counts[from]! - counts[to]!;
      if (cost > bestCost || cost >= 0 || (cost === bestCost && gain <= bestGain)) continue;
      best = { group: share.group, from, to };
      bestCost = cost;
      bestGain = gain;
    }
  }
  return best;
}

function countMoves(loads: Loads): Improvement | undefined {
  const { counts, bytes } = loads;
  const heavyFirst = givers(loads).sort((a, b) => bytes[b]! - bytes[a]!);
  const lightFirst = takers(loads).sort((a, b) => bytes[a]! - bytes[b]!);
  const chain = shortestChain({
    counts,
    givers: heavyFirst,
    takers: lightFirst,
    canMove: (from, to) => firstMovable(loads, from, to) !== undefined,
  });
  if (chain === undefined) return undefined;
  const moves: Move[] = [];
  const used = new Set<GroupId>();
  // From the end: what has begun then always ends on a node with less.
  for (let i = chain.length - 1; i > 0; i--) {
    const [from, to] = [chain[i - 1]!, chain[i]!];
    const group = fittingGroup(loads, from, to, used);
    if (group === undefined) break;
    used.add(group);
    moves.push({ group, from, to });
  }
  return moves.length === 0 ? undefined : { moves, together: false, reason: "count" };
}

function firstMovable(loads: Loads, from: number, to: number): GroupId | undefined {
  for (const group of loads.groupsOn(from)) {
    if (canMove(loads, loads.share(group), from, to)) return group;
  }
  return undefined;
}

/** The vshard whose size suits the bytes that should go along, if all missing ones were like it. */
function fittingGroup(
  loads: Loads,
  from: number,
  to: number,
  used: ReadonlySet<GroupId>,
): GroupId | undefined {
  const { counts, bytes } = loads;
  const wanted = Math.max(0, bytes[from]! - bytes[to]!) / Math.max(2, counts[from]! - counts[to]!);
  let best: GroupId | undefined;
  let bestError = Number.POSITIVE_INFINITY;
  for (const group of loads.groupsOn(from)) {
    const share = loads.share(group);
    if (used.has(group) || !canMove(loads, share, from, to)) continue;
    const error = Math.abs(share.sizeBytes - wanted);
    if (error < bestError) [best, bestError] = [group, error];
  }
  return best;
}

function byteMoves(loads: Loads, movesMax: number): Improvement | undefined {
  if (!loads.sizesKnown) return undefined;
  const { bytes } = loads;
  let worth = BALANCE_BYTES_MIN;
  for (const { group, sizeBytes } of loads.shares) {
    if (group < VSHARD_COUNT) worth = Math.max(worth, sizeBytes);
  }
  const to = takers(loads);
  const pairs: [number, number][] = [];
  for (const high of givers(loads)) {
    for (const low of to) if (bytes[high]! - bytes[low]! > worth) pairs.push([high, low]);
  }
  pairs.sort(([a, b], [c, d]) => bytes[c]! - bytes[d]! - (bytes[a]! - bytes[b]!));
  for (const [high, low] of pairs) {
    const moves = bestExchange(loads, { high, low, worth, movesMax });
    if (moves !== undefined) return { moves, together: true, reason: "bytes" };
  }
  return undefined;
}

type Exchange = {
  readonly high: number;
  readonly low: number;
  readonly worth: number;
  readonly movesMax: number;
};

/** Of the moves between two nodes the ones that leave the smallest difference. */
function bestExchange(
  loads: Loads,
  { high, low, worth, movesMax }: Exchange,
): readonly Move[] | undefined {
  const { counts, bytes, nodes } = loads;
  const difference = bytes[high]! - bytes[low]!;
  const sharesOf = (from: number, to: number): Share[] =>
    [...loads.groupsOn(from)]
      .map((group) => loads.share(group))
      .filter((share) => canMove(loads, share, from, to));
  const down = sharesOf(high, low);
  const takesBack = movesMax >= 2 && nodes[high]!.receives && !nodes[high]!.slow;
  const up = takesBack ? sharesOf(low, high) : [];
  let best: readonly Move[] | undefined;
  // A copy is not worth less than this; the pair that the header speaks of brings more.
  let bestLeft = difference - worth / 64;
  const consider = (moved: number, moves: () => readonly Move[]): void => {
    const left = Math.abs(difference - 2 * moved);
    if (left < bestLeft) [best, bestLeft] = [moves(), left];
  };
  for (const { group, sizeBytes } of down) {
    const move: Move = { group, from: high, to: low };
    if (counts[high]! > counts[low]!) consider(sizeBytes, () => [move]);
    for (const back of up) {
      consider(sizeBytes - back.sizeBytes, () => [
        move,
        { group: back.group, from: low, to: high },
      ]);
    }
  }
  return best;
}
