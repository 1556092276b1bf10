/** The rules that a run of several real replicas is checked against, and what is thrown for one. */

export type Rule =
  /** Rows of the group are the same, byte for byte, on all replicas that have applied as much. */
  | "replicas are equal"
  /** What was answered as applied is in the journal, with the revisions that were answered. */
  | "acknowledged is there"
  /** A request has one effect at most, however often it was sent. */
  | "one effect per request"
  /** A request that every answer called not applied has had no effect. */
  | "not applied is true"
  /** Reads and writes of a key fit one order that agrees with time. */
  | "linearizable"
  /** Rows, journal and counters of a replica describe the same state. */
  | "state fits its journal"
  /** A node that could not write its log stops. */
  | "write errors end the node"
  /** A node starts on what a power loss leaves. */
  | "start after a power loss"
  /** A log that is gone, or damaged where it was durable, is refused. */
  | "damage is noticed"
  /** A connected majority takes writes again. */
  | "liveness"
  /** A node stopped by itself, or threw an error. */
  | "node";

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
