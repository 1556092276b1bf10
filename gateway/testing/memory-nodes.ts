/**
 * Storage nodes in memory, behind the channels of a `StorageClient`, for tests of what the client makes
 * of many vshards: real conditions, revisions and steps of scans, and answers that come when they like.
 */
import type { Channel, Readiness } from "#gateway/storage/channel.ts";
import { StorageClient } from "#gateway/storage/client.ts";
import { failureOf } from "#proto/codec/failure.ts";
import {
  type Command,
  type Condition,
  type Get,
  type Mutation,
  type MutationResult,
  MutationStatus,
  type Operation,
  type ResultBody,
  type Scan,
  type ScanRow,
} from "#proto/codec/messages.ts";
import { refusalOf } from "#proto/codec/operation-rules.ts";
import { compareBytes, concatBytes, EMPTY_BYTES, latin1 } from "#shared/bytes.ts";
import { type Clock, systemClock } from "#shared/clock.ts";
import { fullyReplicatedMap } from "#shared/cluster-map.ts";
import { type NodeId, type Revision, VSHARD_COUNT } from "#shared/ids.ts";
import { type Random, SeededRandom } from "#shared/random.ts";

type Row = Omit<ScanRow, "valueOmitted">;

type Vshard = { readonly rows: Map<string, Row>; revision: number };

/** Instead of carrying an operation out; undefined lets it pass. */
export type Intercept = (operation: Operation, node: NodeId) => ResultBody | "never" | undefined;

export class MemoryNodes {
  /** Every operation that reached a node, in order. */
  readonly asked: { readonly node: NodeId; readonly operation: Operation }[] = [];
  readonly cancelled: number[] = [];
  intercept: Intercept = () => undefined;
  /** Rows that one step of a scan looks at. */
  stepRowsMax = Number.POSITIVE_INFINITY;
  readonly client: StorageClient;
  readonly clock: Clock;
  readonly #random: Random;
  readonly #vshards: readonly Vshard[];

  /**
   * Vshard v is led by node `v % nodes + 1`. With a clock that stands still answers come at the end of
   * the turn; `seed` draws their order.
   */
  constructor(options: { readonly nodes?: number; readonly seed?: number; clock?: Clock } = {}) {
    const { nodes = 1, seed = 1, clock = systemClock() } = options;
    this.clock = clock;
    this.#random = new SeededRandom(seed);
    this.#vshards = Array.from({ length: VSHARD_COUNT }, () => ({ rows: new Map(), revision: 0 }));
    const ids = Array.from({ length: nodes }, (_, i) => (i + 1) as NodeId);
    const map = fullyReplicatedMap(
      "test",
      ids.map((id) => ({
        ...{ id, address: `node-${id}:1`, zone: "", host: "", state: "up", capacityBytes: 0 },
      })),
    );
    this.client = new StorageClient({
      map: {
        ...map,
        placements: map.placements.map((placement) => ({
          ...placement,
          preferredLeader: ids[placement.group % nodes]!,
        })),
      },
      connect: ({ id }) => this.#channel(id),
      clock: this.clock,
      random: new SeededRandom(seed + 1),
    });
  }

  /** Rows of all vshards, in byte order. */
  rows(): readonly Row[] {
    const rows = this.#vshards.flatMap((vshard) => [...vshard.rows.values()]);
    return rows.sort((a, b) => compareBytes(a.key, b.key));
  }

  #channel(node: NodeId): Channel {
    const readiness: Readiness = { ready: true, reason: "" };
    const withdrawn = new Set<number>();
    return {
      send: (operation, reply) => {
        this.asked.push({ node, operation });
        const answer = this.#answer(operation, node);
        if (answer === "never") return;
        const turns = this.#random.below(3);
        later(turns, () => {
          if (!withdrawn.has(operation.callId)) reply(answer);
        });
      },
      cancel: ({ callId }) => {
        this.cancelled.push(callId);
        withdrawn.add(callId);
        return false;
      },
      readiness: () => readiness,
      figures: () => ({ isUp: true, inFlight: 0, inFlightBytes: 0, windowBytes: 0 }),
      close: async () => {},
    };
  }

  #answer(operation: Operation, node: NodeId): ResultBody | "never" {
    const answer = this.intercept(operation, node);
    if (answer !== undefined) return answer;
    const refusal = refusalOf(operation, this.clock.nowMs());
    if (refusal !== undefined) return refusal;
    const { body } = operation;
    const vshard = this.#vshards[operation.vshard]!;
    switch (body.kind) {
      case "get":
        return get(vshard, body);
      case "scan":
        return this.#scan(vshard, body);
      case "write":
        return this.#write(vshard, body.command);
      case "cancel":
        return failureOf("INTERNAL", "a channel cancels by itself", { notApplied: true });
    }
  }

  #write(vshard: Vshard, { mutations, independent }: Command): ResultBody {
    if (!independent && mutations.length > 1) throw new Error("the client sends no such command");
    const results = mutations.map((mutation) => mutate(vshard, mutation, this.clock.nowMs()));
    const applied = results.every(({ status }) => status !== MutationStatus.ConditionFailed);
    return { kind: "write", applied, mutations: results };
  }

  #scan({ rows }: Vshard, scan: Scan): ResultBody {
    const { start, end, reverse, rowsMax, countOnly, keysOnly } = scan;
    const inRange = [...rows.values()]
      .filter(({ key }) => compareBytes(key, start) >= 0)
      .filter(({ key }) => end.length === 0 || compareBytes(key, end) < 0)
      .sort((a, b) => compareBytes(a.key, b.key) * (reverse ? -1 : 1));
    const most = countOnly ? inRange.length : Math.min(rowsMax, inRange.length);
    const read = Math.min(most, this.stepRowsMax);
    const last = inRange[read - 1]?.key ?? EMPTY_BYTES;
    const isCut = read < inRange.length;
    const next = reverse ? last : concatBytes(last, new Uint8Array(1));
    let bytesLeft = keysOnly ? 0 : scan.valueBytesMax;
    const found = inRange.slice(0, read).map((row): ScanRow => {
      const valueOmitted = keysOnly || row.value.length > bytesLeft;
      if (!valueOmitted) bytesLeft -= row.value.length;
      return { ...row, valueOmitted, value: valueOmitted ? EMPTY_BYTES : row.value };
    });
    return {
      kind: "scan",
      rows: countOnly ? [] : found,
      count: countOnly ? read : 0,
      next: isCut ? next : EMPTY_BYTES,
    };
  }
}

function later(turns: number, run: () => void): void {
  if (turns === 0) setImmediate(run);
  else setImmediate(() => later(turns - 1, run));
}

function get({ rows }: Vshard, { key, metadataOnly }: Get): ResultBody {
  const row = rows.get(latin1(key));
  const absent = { revision: 0 as Revision, contentType: "", expiresAtMs: 0, modifiedAtMs: 0 };
  if (row === undefined) {
    return { kind: "get", found: false, ...absent, value: EMPTY_BYTES, valueSizeBytes: 0 };
  }
  const { key: _, value, ...rest } = row;
  return { kind: "get", found: true, ...rest, value: metadataOnly ? EMPTY_BYTES : value };
}

function mutate(vshard: Vshard, mutation: Mutation, nowMs: number): MutationResult {
  const { key, condition, action } = mutation;
  const name = latin1(key);
  const current = vshard.rows.get(name);
  const revision = current?.revision ?? (0 as Revision);
  if (!holds(condition, current?.revision)) {
    return { status: MutationStatus.ConditionFailed, revision, created: false };
  }
  if (action.kind === "reseal" && current !== undefined) {
    const { kind: _, logicalSizeBytes, ...content } = action;
    vshard.rows.set(name, { ...current, ...content, valueSizeBytes: logicalSizeBytes });
    return { status: MutationStatus.Applied, revision, created: false };
  }
  if (action.kind !== "put") {
    if (current === undefined) return { status: MutationStatus.NotFound, revision, created: false };
    vshard.rows.delete(name);
    const after = ++vshard.revision as Revision;
    return { status: MutationStatus.Applied, revision: after, created: false };
  }
  const { value, contentType, encoding = 0, logicalSizeBytes = 0 } = action;
  const after = ++vshard.revision as Revision;
  vshard.rows.set(name, {
    ...{ key: key.slice(), revision: after, value: value.slice(), contentType },
    ...{ expiresAtMs: 0, modifiedAtMs: nowMs, encoding },
    valueSizeBytes: encoding === 0 ? value.length : logicalSizeBytes,
  });
  return { status: MutationStatus.Applied, revision: after, created: current === undefined };
}

function holds(condition: Condition | undefined, revision: number | undefined): boolean {
  if (condition === undefined) return true;
  const { mustBeAbsent, mustExist, revisionIs, revisionIsNot } = condition;
  if (mustBeAbsent && revision !== undefined) return false;
  if (mustExist && revision === undefined) return false;
  const isNamed = revision !== undefined && revisionIs.includes(revision);
  if (revisionIs.length > 0 && !isNamed) return false;
  return revision === undefined || !revisionIsNot.includes(revision);
}
