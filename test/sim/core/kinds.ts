/**
 * What can happen in one event, and what can happen to a message on its way. The numbers are
 * positions in tables of counters; the names stand in traces, options and summaries.
 */

export const EVENT_NAMES = [
  "tick",
  "deliver",
  "disk",
  "engine",
  "propose",
  "read",
  "transfer-chunk",
  "offer",
  "crash",
  "restart",
  "pause",
  "resume",
  "cut",
  "isolate",
  "heal",
  "flush",
  "compact",
  "change",
  "hand-over",
  "forget",
  "unreachable",
  "campaign",
  "retire",
  "wipe",
] as const;
export type EventName = (typeof EVENT_NAMES)[number];

/** Position of each event's name. */
export const EventKind = Object.fromEntries(EVENT_NAMES.map((name, i) => [name, i])) as Readonly<
  Record<EventName, number>
>;

/** Everything that goes wrong, counted against the state of the replica that it hits. */
export const FAULT_NAMES = [
  "crash",
  "restart",
  "pause",
  "cut",
  "isolate",
  "compact",
  "change",
  "hand-over",
  "forget",
  "unreachable",
  "campaign",
  "wipe",
  "lost message",
  "repeated message",
  "delayed message",
  "lost to a cut",
  "queue overflow",
  "lost snapshot",
] as const;
export type FaultName = (typeof FAULT_NAMES)[number];

export const Fault = Object.fromEntries(FAULT_NAMES.map((name, i) => [name, i])) as Readonly<
  Record<FaultName, number>
>;

/** States of a replica that a fault can hit; several hold at a time. */
export const STATE_NAMES = [
  "follower",
  "preCandidate",
  "candidate",
  "leader",
  "leader, probing",
  "leader, replicating",
  "leader, peer in snapshot",
  "joint",
  "installing",
  "learner",
  "writing",
] as const;
export type StateName = (typeof STATE_NAMES)[number];

export const StateIndex = Object.fromEntries(STATE_NAMES.map((name, i) => [name, i])) as Readonly<
  Record<StateName, number>
>;
