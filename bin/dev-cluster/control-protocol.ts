/**
 * What `minikv dev kill` and the like say to the supervisor: one JSON object on one line each way, then
 * the connection ends. Bounded in size; what is not understood is refused.
 */
import type { ProcessEnd } from "./processes.ts";

/** A storage node by name or id, or a gateway by number, from 1. */
export type Target =
  | { readonly kind: "node"; readonly node: string }
  | { readonly kind: "gateway"; readonly number: number };

export const KILL_SIGNALS = ["KILL", "TERM"] as const;
export type KillSignal = (typeof KILL_SIGNALS)[number];

export type Command =
  | { readonly kind: "status" }
  | { readonly kind: "kill"; readonly target: Target; readonly signal: KillSignal }
  /** `forMs` null: until it is resumed. */
  | { readonly kind: "pause"; readonly target: Target; readonly forMs: number | null }
  | { readonly kind: "resume"; readonly target: Target }
  | { readonly kind: "restart"; readonly target: Target }
  | { readonly kind: "add-node" }
  | { readonly kind: "forget"; readonly target: Target };

export type MemberStatus = {
  readonly name: string;
  readonly phase: string;
  readonly paused: boolean;
  readonly pid: number | null;
  /** Null before the first end. */
  readonly lastEnd: ProcessEnd | null;
  readonly logPath: string;
};

export type ClusterStatus = {
  readonly directory: string;
  readonly supervisorPid: number;
  readonly gateways: readonly (MemberStatus & { readonly url: string })[];
  readonly storageNodes: readonly (MemberStatus & {
    /** In the cluster; null while it is not known. */
    readonly id: number | null;
    readonly address: string;
    /** Of its metrics and health; null while it is not known. */
    readonly httpUrl: string | null;
    readonly dataDir: string;
  })[];
};

export type Answer =
  | { readonly kind: "done"; readonly message: string }
  | { readonly kind: "status"; readonly status: ClusterStatus }
  /** Nothing was done, or not all: the message says what is wrong. */
  | { readonly kind: "refused"; readonly message: string };

type Fields = Readonly<Record<string, unknown>>;

const isFields = (value: unknown): value is Fields => typeof value === "object" && value !== null;

/** @returns undefined when it is none */
export function parseCommand(line: string): Command | undefined {
  const fields = parseFields(line);
  if (fields === undefined) return undefined;
  const { kind, signal, forMs } = fields;
  if (kind === "status" || kind === "add-node") return { kind };
  const target = parseTarget(fields.target);
  if (target === undefined) return undefined;
  switch (kind) {
    case "resume":
    case "restart":
    case "forget":
      return { kind, target };
    case "kill": {
      const known = KILL_SIGNALS.find((name) => name === signal);
      return known === undefined ? undefined : { kind, target, signal: known };
    }
    case "pause":
      if (forMs === null) return { kind, target, forMs };
      return typeof forMs === "number" && forMs >= 0 ? { kind, target, forMs } : undefined;
    default:
      return undefined;
  }
}

function parseTarget(value: unknown): Target | undefined {
  if (!isFields(value)) return undefined;
  const { kind, node, number } = value;
  if (kind === "node" && typeof node === "string") return { kind, node };
  if (kind === "gateway" && typeof number === "number") return { kind, number };
  return undefined;
}

/** @returns undefined when it is none. The supervisor is of the same version: a status is trusted. */
export function parseAnswer(line: string): Answer | undefined {
  const fields = parseFields(line);
  if (fields === undefined) return undefined;
  const { kind, message, status } = fields;
  if ((kind === "done" || kind === "refused") && typeof message === "string") {
    return { kind, message };
  }
  return kind === "status" && isFields(status)
    ? { kind, status: status as unknown as ClusterStatus }
    : undefined;
}

function parseFields(line: string): Fields | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isFields(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
