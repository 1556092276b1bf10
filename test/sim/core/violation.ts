/**
 * The rules that a run is checked against, and what is thrown when one is broken. Rules have names,
 * so that a shortened run can be required to break the same one.
 */

export type Rule =
  /** One leader at most in a term. */
  | "election safety"
  /** One vote of a replica in a term, crash or not. */
  | "one vote per term"
  /** One entry per index and term, with one predecessor. */
  | "log matching"
  /** A leader's log holds everything committed so far. */
  | "leader completeness"
  /** One entry per index is ever committed and applied, in order. */
  | "state machine safety"
  /** What is committed is on the disks of a quorum of the configuration in force. */
  | "committed is durable on a quorum"
  /** Votes and acknowledgements leave only when the sender's disk holds what they promise. */
  | "durable before acknowledged"
  /** Only what is committed, and on the own disk, is applied. */
  | "applied is committed and durable"
  /** Nobody stands under a configuration that it knows to be outdated. */
  | "campaign"
  | "commit never goes back"
  | "term never goes back"
  /** What a leader knows of a follower only grows in its term, and it sends what lies behind. */
  | "progress never goes back"
  /** A read is at least as new as everything committed before it began. */
  | "linearizable read"
  /** An answered proposal is the one that was committed, and it is committed once. */
  | "answered is committed"
  /** Quorums of successive configurations share a member. */
  | "configurations overlap"
  /** A change is proposed only when all before it are applied. */
  | "one change at a time"
  | "replica ids are never reused"
  /** A snapshot holds the state as of its index, and replaces nothing newer. */
  | "snapshot"
  /** A log comes back from a crash as a state it had, not older than what was durable. */
  | "recovery"
  /** The healed cluster makes progress. */
  | "liveness"
  /** An assertion of the core itself, or any other error that it throws. */
  | "core";

export class Violation extends Error {
  readonly rule: Rule;

  constructor(rule: Rule, message: string, options?: ErrorOptions) {
    super(`${rule}: ${message}`, options);
    this.name = "Violation";
    this.rule = rule;
  }
}

/** Apart from its condition, so that no text is built while all is well. */
export function violated(rule: Rule, message: string): never {
  throw new Violation(rule, message);
}
