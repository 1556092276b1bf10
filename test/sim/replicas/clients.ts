/**
 * Clients of the simulated group: each has one request under way, sends it again under the same
 * request id when the answer is lost or doubtful, to whichever node may lead, and at some time gives
 * up. What they asked, and what they were told, is what a run is judged by.
 */
import type { Condition, MutationAction, ResultBody, WriteResult } from "#proto/codec/messages.ts";
import { utf8, utf8Decode } from "#shared/bytes.ts";
import { DEFAULT_TENANT, Space, type VshardId } from "#shared/ids.ts";
import type { SeededRandom } from "#shared/random.ts";
import type { StorageNode } from "#storage-node/node.ts";
import { GROUP } from "./node.ts";
import { violated } from "./violation.ts";

const NEVER = Number.MAX_SAFE_INTEGER;

export type Key = {
  readonly name: string;
  /** Some of its values expire: when it is found absent, nobody wrote that. */
  readonly expires: boolean;
  /** The last revision that anybody saw. */
  seen: number;
};

/** What a read or a failed condition found: 0 for an absent key. */
type Found = { readonly revision: number; readonly value: string | undefined };

export type Request = {
  readonly key: Key;
  /** 16 bytes; a read has none. */
  readonly id: Uint8Array;
  readonly action: MutationAction | undefined;
  readonly condition: Condition | undefined;
  readonly value: string | undefined;
  readonly deadlineMs: number;
  readonly begunStep: number;
  /** When its first good answer came; `NEVER` before. */
  endedStep: number;
  /** Copies that nobody has answered. */
  open: number;
  /** A copy was answered with "unknown". */
  doubtful: boolean;
  /** Nothing more will be sent. */
  over: boolean;
  readonly results: WriteResult[];
  found: Found | undefined;
};

/** Every answer to every copy said that it was not applied, and none is missing. */
export const wasRefused = (request: Request): boolean =>
  request.over && request.results.length === 0 && request.open === 0 && !request.doubtful;

export type Now = { readonly step: number; readonly ms: number };

/** Where a copy goes; undefined when there is no node to take it. */
export type PickNode = (
  tries: number,
) => { readonly node: StorageNode; isAlive(): boolean } | undefined;

export type Load = {
  readonly valueSizeBytesMax: number;
  /** Steps after which an answer is given up. */
  readonly patienceSteps: number;
  readonly deadlineMsMax: number;
};

const PLAIN_KEYS = 3;
const EXPIRING_KEYS = 1;

export function makeKeys(): readonly Key[] {
  const keys: Key[] = [];
  for (let i = 0; i < PLAIN_KEYS + EXPIRING_KEYS; i++) {
    keys.push({ name: `key ${i}`, expires: i >= PLAIN_KEYS, seen: 0 });
  }
  return keys;
}

export class Client {
  readonly #random: SeededRandom;
  readonly #keys: readonly Key[];
  readonly #load: Load;
  readonly #requests: Request[];
  readonly #name: number;
  #current: Request | undefined;
  #sentStep = 0;
  #tries = 0;
  /** The last copy was answered with a failure. */
  #failed = false;
  #values = 0;

  constructor(parts: {
    readonly name: number;
    readonly random: SeededRandom;
    readonly keys: readonly Key[];
    readonly load: Load;
    /** Collects the requests of all clients. */
    readonly requests: Request[];
  }) {
    this.#name = parts.name;
    this.#random = parts.random;
    this.#keys = parts.keys;
    this.#load = parts.load;
    this.#requests = parts.requests;
  }

  /** Asks something new, asks again, gives up, or goes on waiting. */
  step(now: Now, pick: PickNode): void {
    const current = this.#current;
    if (current === undefined) {
      this.#tries = 0;
      this.#current = this.#newRequest(now);
      this.#send(this.#current, now, pick);
      return;
    }
    const waited = now.step - this.#sentStep;
    if (!this.#failed && waited < this.#load.patienceSteps) return;
    if (this.#failed && waited < this.#random.below(60)) return;
    const late = now.ms > current.deadlineMs + 3000;
    if (current.action === undefined || late || this.#random.below(20) === 0) {
      current.over = true;
      this.#current = undefined;
      return;
    }
    this.#send(current, now, pick);
  }

  #newRequest(now: Now): Request {
    const random = this.#random;
    const key = this.#keys[random.below(this.#keys.length)]!;
    const dice = random.float();
    let action: MutationAction | undefined;
    let value: string | undefined;
    if (dice < 0.5) {
      const sizeBytes = random.below(1 + this.#load.valueSizeBytesMax);
      value = `${this.#name}:${++this.#values}:${"x".repeat(sizeBytes)}`;
      const ttlMs = key.expires && random.below(2) === 0 ? 200 + random.below(4000) : 0;
      action = { kind: "put", value: utf8(value), contentType: "", ttlMs };
    } else if (dice < 0.6) action = { kind: "delete" };
    const request: Request = {
      key,
      id: action === undefined ? new Uint8Array(0) : random.fill(new Uint8Array(16)),
      action,
      condition: action !== undefined && random.below(3) === 0 ? this.#condition(key) : undefined,
      value,
      deadlineMs: now.ms + 500 + random.below(this.#load.deadlineMsMax),
      begunStep: now.step,
      endedStep: NEVER,
      open: 0,
      doubtful: false,
      over: false,
      results: [],
      found: undefined,
    };
    this.#requests.push(request);
    return request;
  }

  #condition(key: Key): Condition {
    const none = { mustBeAbsent: false, mustExist: false, revisionIs: [], revisionIsNot: [] };
    const dice = this.#random.below(6);
    if (dice === 0) return { ...none, mustBeAbsent: true };
    if (dice === 1) return { ...none, mustExist: true };
    if (key.seen === 0) return none;
    return { ...none, revisionIs: [key.seen] };
  }

  #send(request: Request, now: Now, pick: PickNode): void {
    this.#sentStep = now.step;
    this.#failed = false;
    const target = pick(this.#tries++);
    if (target === undefined) {
      this.#failed = true;
      return;
    }
    const { key, action, id, deadlineMs, condition } = request;
    const address = { tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8(key.name) };
    request.open++;
    let answered = false;
    target.node.operate(
      {
        callId: 1,
        vshard: GROUP as number as VshardId,
        deadlineMs,
        traceContext: new Uint8Array(0),
        body:
          action === undefined
            ? { kind: "get", ...address, maxStalenessMs: 0, metadataOnly: false }
            : {
                kind: "write",
                command: {
                  requestId: id,
                  deadlineMs,
                  mutations: [{ ...address, condition, action }],
                },
              },
      },
      (body) => {
        if (!target.isAlive()) return;
        if (answered) violated("node", "a request was answered twice");
        answered = true;
        request.open--;
        this.#answered(request, body);
      },
    );
  }

  /** Set by the world before each step: answers come within one. */
  nowStep = 0;

  #answered(request: Request, body: ResultBody): void {
    const isCurrent = this.#current === request;
    if (body.kind === "failure") {
      if (!body.notApplied) request.doubtful = true;
      if (isCurrent) this.#failed = true;
      return;
    }
    request.endedStep = Math.min(request.endedStep, this.nowStep);
    if (body.kind === "get") {
      const { found, revision, value } = body;
      request.found = found
        ? { revision, value: utf8Decode(value) }
        : { revision: 0, value: undefined };
      if (found) request.key.seen = revision;
    } else if (body.kind === "write") {
      request.results.push(body);
      const { revision } = body.mutations[0]!;
      if (revision > 0) request.key.seen = revision;
    }
    if (!isCurrent) return;
    request.over = true;
    this.#current = undefined;
  }
}
