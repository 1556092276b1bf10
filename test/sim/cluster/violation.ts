/** The rules of the simulated cluster, and how a broken one is reported. */

export type Rule =
  /** Clients see one register per key, whatever happens to nodes and replicas. */
  | "linearizable"
  /** A read that may be stale is not staler than it was allowed to be. */
  | "staleness"
  /** A revision of a key names one value. */
  | "one value per revision"
  | "one leader per term"
  /** A node never goes back to an older map, and a version is one map. */
  | "maps go forward"
  /** A replica id belongs to one replica in one data directory, once. */
  | "replica ids are never reused"
  /** A replica is destroyed only when its group votes without it. */
  | "destroyed when out of the group"
  /** At equal applied index. */
  | "replicas are equal"
  /** Gateways see rows of the directory go forward, changed together, and as was answered. */
  | "one directory"
  /** Followers of change logs: each acknowledged change, once, in order, and the same for all. */
  | "watchers see every change"
  /** Healed: keys are writable, and the cluster settles as its map says. */
  | "liveness"
  /** A node ended by itself, or threw an error. */
  | "node"
  /** The simulator itself is wrong. */
  | "simulator";

export class Violation extends Error {
  readonly rule: Rule;

  constructor(rule: Rule, detail: string, options?: ErrorOptions) {
    super(`${rule}: ${detail}`, options);
    this.name = "Violation";
    this.rule = rule;
  }
}

export function violated(rule: Rule, detail: string, cause?: unknown): never {
  throw new Violation(rule, detail, cause === undefined ? undefined : { cause });
}
