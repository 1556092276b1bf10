/**
 * What the network between processes does to the bytes that flow from one to another.
 *
 * A link is one direction: `n1>n2` is what n1 says to n2, on whichever connection. Several causes can
 * work on a link at once; each is a layer, and `merge` says what they add up to.
 */

/**
 * `silent`: nothing arrives, and nobody is told, as when packets are dropped. What was sent arrives when
 * the link is well again and the connection still there, as TCP would have it.
 * `reset`: connections between the two are broken, and new ones too.
 */
export type Block = "silent" | "reset";

export type LinkRule = {
  readonly block?: Block;
  readonly delayMs?: number;
  readonly bytesPerSecond?: number;
};

export type LinkName = `${string}>${string}`;

export type Layer = readonly (readonly [link: LinkName, rule: LinkRule])[];

export type LinkRules = ReadonlyMap<LinkName, LinkRule>;

export const FREE: LinkRule = {};

export const linkName = (from: string, to: string): LinkName => `${from}>${to}`;

/** Both directions of each pair. */
export function bothWays(pairs: readonly (readonly [string, string])[], rule: LinkRule): Layer {
  return pairs.flatMap(([a, b]) => [
    [linkName(a, b), rule] as const,
    [linkName(b, a), rule] as const,
  ]);
}

/** The worst of all blocks, all delays one after the other, the narrowest width. */
export function merge(layers: Iterable<Layer>): LinkRules {
  const rules = new Map<LinkName, LinkRule>();
  for (const layer of layers) {
    for (const [link, rule] of layer) rules.set(link, both(rules.get(link) ?? FREE, rule));
  }
  return rules;
}

function both(a: LinkRule, b: LinkRule): LinkRule {
  const block = a.block === "reset" ? a.block : (b.block ?? a.block);
  const delayMs = (a.delayMs ?? 0) + (b.delayMs ?? 0);
  const bytesPerSecond = Math.min(
    a.bytesPerSecond ?? Number.POSITIVE_INFINITY,
    b.bytesPerSecond ?? Number.POSITIVE_INFINITY,
  );
  return {
    ...(block === undefined ? {} : { block }),
    ...(delayMs === 0 ? {} : { delayMs }),
    ...(Number.isFinite(bytesPerSecond) ? { bytesPerSecond } : {}),
  };
}
