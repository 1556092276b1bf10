/**
 * Evening out counts over nodes where not every thing can go everywhere: replicas over nodes, leaders
 * over voters.
 *
 * As long as two counts differ by two or more, one thing less on the higher node and one more on the
 * lower is better, by a whole thing. The way need not be direct: u may give to x, and x another thing to
 * v. `shortestChain` finds the shortest such way, by breadth-first search from each node in turn. When
 * there is none, no distribution is more even (an assignment without a cost-reducing path is optimal).
 * Each chain lowers the sum of squared counts, so that whoever repeats this comes to an end.
 */

export type ChainQuestion = {
  readonly counts: readonly number[];
  /** Nodes that may give, and nodes that may take, in order of preference among equals. */
  readonly givers: readonly number[];
  readonly takers: readonly number[];
  /** Whether some thing on `from` may go to `to`. */
  readonly canMove: (from: number, to: number) => boolean;
};

/** Nodes from the one that is relieved to the one that is loaded; undefined when all is even. */
export function shortestChain(question: ChainQuestion): readonly number[] | undefined {
  const { counts, takers } = question;
  const lowest = takers.reduce((low, node) => Math.min(low, counts[node]!), Number.MAX_VALUE);
  const sources = question.givers
    .filter((node) => counts[node]! - lowest >= 2)
    .sort((a, b) => counts[b]! - counts[a]!);
  if (sources.length === 0) return undefined;
  const sorted = takers.toSorted((a, b) => counts[a]! - counts[b]!);
  let best: readonly number[] | undefined;
  for (const source of sources) {
    const chain = chainFrom(source, { ...question, takers: sorted });
    if (chain === undefined || (best !== undefined && chain.length >= best.length)) continue;
    best = chain;
    if (best.length === 2) break;
  }
  return best;
}

function chainFrom(
  source: number,
  { counts, givers, takers, canMove }: ChainQuestion,
): readonly number[] | undefined {
  const mayGive = new Set(givers);
  const cameFrom = new Map<number, number>([[source, source]]);
  const queue = [source];
  for (const node of queue) {
    for (const taker of takers) {
      if (cameFrom.has(taker) || !canMove(node, taker)) continue;
      cameFrom.set(taker, node);
      if (counts[source]! - counts[taker]! >= 2) return pathTo(taker, source, cameFrom);
      if (mayGive.has(taker)) queue.push(taker);
    }
  }
  return undefined;
}

function pathTo(end: number, source: number, cameFrom: ReadonlyMap<number, number>): number[] {
  const path = [end];
  while (path[0] !== source) path.unshift(cameFrom.get(path[0]!)!);
  return path;
}
