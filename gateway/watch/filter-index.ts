/**
 * Which groups of watches want an event, found without looking at the others.
 *
 * Keys and prefixes are texts of one character per byte, in a map each, per tenant. A key is looked up at each
 * length that some prefix of the tenant has, but only where a hash of its first bytes is that of some prefix: the hash
 * goes along the key once. To cut and look up a text costs as much as it is long, so that watches of a thousand
 * lengths would cost each event of their tenant a millisecond, which all tenants of the gateway would wait for. The
 * hash begins with a secret, so that nobody can look for prefixes that have the hashes of his keys; it saves work
 * and decides nothing.
 */
import { equalBytes, latin1 } from "#shared/bytes.ts";
import type { TenantId } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import type { WatchFilter } from "./watches.ts";

type Indexed = { readonly query: { readonly tenant: TenantId; readonly filter: WatchFilter } };

type TenantIndex<G> = {
  readonly keys: Map<string, G[]>;
  readonly prefixes: Map<string, G[]>;
  /** How many prefixes there are of each length. */
  readonly counts: Map<number, number>;
  /** Ascending. */
  lengths: readonly number[];
  /** How many prefixes there are of each hash. */
  readonly hashes: Map<number, number>;
};

export class FilterIndex<G extends Indexed> {
  readonly #tenants = new Map<TenantId, TenantIndex<G>>();
  readonly #seed: number;
  readonly #factor: number;
  /** How often a prefix was looked up. */
  lookups = 0;

  constructor(random: Pick<Random, "below">) {
    this.#seed = random.below(2 ** 32) | 0;
    this.#factor = random.below(2 ** 32) | 1;
  }

  add(group: G): void {
    const { tenant, filter } = group.query;
    const index = this.#tenants.get(tenant) ?? {
      keys: new Map<string, G[]>(),
      prefixes: new Map<string, G[]>(),
      counts: new Map<number, number>(),
      lengths: [],
      hashes: new Map<number, number>(),
    };
    this.#tenants.set(tenant, index);
    if (filter.kind === "key") {
      put(index.keys, latin1(filter.key), group);
      return;
    }
    if (put(index.prefixes, latin1(filter.prefix), group)) this.#count(index, filter.prefix, 1);
  }

  remove(group: G): void {
    const { tenant, filter } = group.query;
    const index = this.#tenants.get(tenant);
    if (index === undefined) return;
    if (filter.kind === "key") take(index.keys, latin1(filter.key), group);
    else if (take(index.prefixes, latin1(filter.prefix), group)) {
      this.#count(index, filter.prefix, -1);
    }
    if (index.keys.size === 0 && index.prefixes.size === 0) this.#tenants.delete(tenant);
  }

  /** Appends to `found` those whose filter has the key. */
  find(tenant: TenantId, key: Uint8Array, found: G[]): void {
    const index = this.#tenants.get(tenant);
    if (index === undefined) return;
    const text = latin1(key);
    const exact = index.keys.get(text);
    if (exact !== undefined) for (const group of exact) found.push(group);
    let hash = this.#seed;
    let hashed = 0;
    for (const length of index.lengths) {
      if (length > text.length) break;
      while (hashed < length) hash = this.#hashed(hash, key[hashed++]!);
      if (!index.hashes.has(hash)) continue;
      this.lookups++;
      const groups = index.prefixes.get(text.slice(0, length));
      if (groups !== undefined) for (const group of groups) found.push(group);
    }
  }

  #hashed(hash: number, byte: number): number {
    const product = Math.imul(hash ^ byte, this.#factor);
    // What differs high up in the product is to differ everywhere.
    return product ^ (product >>> 15);
  }

  #count(index: TenantIndex<G>, prefix: Uint8Array, by: 1 | -1): void {
    const { length } = prefix;
    let hash = this.#seed;
    for (const byte of prefix) hash = this.#hashed(hash, byte);
    const hashCount = (index.hashes.get(hash) ?? 0) + by;
    if (hashCount === 0) index.hashes.delete(hash);
    else index.hashes.set(hash, hashCount);
    const count = (index.counts.get(length) ?? 0) + by;
    if (count === 0) index.counts.delete(length);
    else index.counts.set(length, count);
    if (count === 0 || (count === 1 && by === 1)) {
      index.lengths = [...index.counts.keys()].sort((a, b) => a - b);
    }
  }
}

/** Whether one filter has the key. */
export function matches(
  { tenant, filter }: Indexed["query"],
  change: { readonly tenant: TenantId; readonly key: Uint8Array },
): boolean {
  if (change.tenant !== tenant) return false;
  if (filter.kind === "key") return equalBytes(filter.key, change.key);
  const { length } = filter.prefix;
  return change.key.length >= length && equalBytes(filter.prefix, change.key.subarray(0, length));
}

/** Returns whether it is the first one there. */
function put<G>(map: Map<string, G[]>, text: string, group: G): boolean {
  const groups = map.get(text);
  if (groups === undefined) {
    map.set(text, [group]);
    return true;
  }
  groups.push(group);
  return false;
}

/** Returns whether it was the last one there. */
function take<G>(map: Map<string, G[]>, text: string, group: G): boolean {
  const groups = map.get(text);
  if (groups === undefined) return false;
  const place = groups.indexOf(group);
  if (place >= 0) groups.splice(place, 1);
  if (groups.length > 0) return false;
  map.delete(text);
  return true;
}
