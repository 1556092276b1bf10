/**
 * Runs that once broke a rule. A seed means the same run only as long as the simulator draws the same
 * dice: what a run has taught belongs into a unit test as well.
 */
export type KnownSeed = { readonly seed: number; readonly found: string };

export const KNOWN: readonly KnownSeed[] = [
  { seed: 6, found: "a replaced node watched the map of its own address" },
  { seed: 9, found: "a state was hashed while a snapshot took its place" },
  {
    seed: 15,
    found: "the simulator itself: a drain that left too few nodes to replace a lost one",
  },
  { seed: 21, found: "a founder that died before it told the others: none of them got a cluster" },
  { seed: 5007, found: "a node could not join through seeds that had left the meta group" },
];
