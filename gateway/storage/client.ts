/**
 * `Storage` over channels to storage nodes: finds the vshard and its leader, gives every write its
 * request id, and waits. `call.ts` has the retries and what may be said of a write that failed.
 *
 * Buffers handed in (keys, values) must not change any more: a copy may be sent again, even after the
 * call was given up. Values handed out are
 * views of received messages; whoever keeps one for long copies it.
 */
import type { Command, Condition, MutationAction, OperationBody } from "#proto/codec/messages.ts";
import { assert } from "#shared/assert.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { Clock } from "#shared/clock.ts";
import type { ClusterMap, ClusterNode } from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import { FEATURE_VERSION } from "#shared/features.ts";
import { type NodeId, Space, type TenantId } from "#shared/ids.ts";
import {
  REQUEST_ID_SIZE_BYTES,
  STORAGE_BYTES_BETWEEN_ATTEMPTS_MAX,
  STORAGE_CALLS_BETWEEN_ATTEMPTS_MAX,
  STORAGE_CALLS_MAX,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import { noTracing, type Tracing } from "#shared/tracing.ts";
import { vshardOf } from "#shared/vshard.ts";
import { runBatch } from "./batch.ts";
import { type AnyResult, Call, type CallContext, type CallRequest } from "./call.ts";
import { CallFigures, kindOf } from "./call-figures.ts";
import { CallGroup } from "./call-group.ts";
import { CallList } from "./call-list.ts";
import type { Channel, ChannelFigures, Readiness } from "./channel.ts";
import { featureRefusal } from "./feature-use.ts";
import {
  deleteOutcomeOf,
  onlyMutation,
  putActionOf,
  putOutcomeOf,
  resealOutcomeOf,
  toStoredValue,
} from "./results.ts";
import { Router } from "./router.ts";
import { countKeys, MergedScan } from "./scan.ts";
import { ScanLanes } from "./scan-slots.ts";
import type {
  BatchOperation,
  BatchOptions,
  BatchOutcome,
  CallOptions,
  DeleteOutcome,
  GetOptions,
  KeyRef,
  PutInput,
  PutOutcome,
  ResealableStorage,
  ResealInput,
  ResealOutcome,
  RowsQuery,
  Scan,
  ScanQuery,
  StoredValue,
} from "./storage.ts";
import { WaitingRoom } from "./waiting-room.ts";

export type StorageClientOptions = {
  /** Where it is known from the start; else, and for later ones, see `setMap`. */
  readonly map?: ClusterMap;
  /** Opens the channel to a node of the map. The client closes it. */
  readonly connect: (node: ClusterNode, clusterId: string) => Channel;
  readonly clock: Clock;
  readonly random: Random;
  readonly tracing?: Tracing;
  /** A storage node names a node that the map does not have: there must be a newer map. */
  readonly onUnknownNode?: () => void;
  /** Why there is no map yet, for people. */
  readonly whyNoMap?: () => string;
};

export class StorageClient implements ResealableStorage {
  /** Of all calls since the start. */
  readonly figures = new CallFigures();
  readonly #context: CallContext;
  readonly #scanLanes: ScanLanes;
  /** There are features that the cluster does not have yet. Until then each call is looked at for them. */
  #isBehind = false;
  #closing: Promise<void> | undefined;

  constructor(options: StorageClientOptions) {
    const { map, connect, clock, random } = options;
    let lastCallId = 0;
    this.#context = {
      router: new Router({
        connect,
        onUnknownNode: options.onUnknownNode ?? (() => {}),
        whyNoMap: options.whyNoMap ?? (() => "the cluster map is not known yet"),
      }),
      calls: new CallList(clock),
      waitingRoom: new WaitingRoom({
        callsMax: STORAGE_CALLS_BETWEEN_ATTEMPTS_MAX,
        bytesMax: STORAGE_BYTES_BETWEEN_ATTEMPTS_MAX,
      }),
      clock,
      random,
      tracing: options.tracing ?? noTracing,
      nextCallId: () => ++lastCallId,
      figures: this.figures,
    };
    this.#scanLanes = new ScanLanes(clock);
    if (map !== undefined) this.setMap(map);
  }

  /** From now on calls are routed by `map`, unless a newer one is known. */
  setMap(map: ClusterMap): void {
    if (this.#closing !== undefined) return;
    const { router } = this.#context;
    router.setMap(map);
    this.#isBehind = router.map !== undefined && router.map.featureVersion < FEATURE_VERSION;
  }

  /** The newest map known. */
  get map(): ClusterMap | undefined {
    return this.#context.router.map;
  }

  /** Who leads, as far as calls have found out. Others who ask leaders add what they find. */
  get leaders(): Pick<Router, "leaderOf" | "prove" | "redirect" | "passOver"> {
    return this.#context.router;
  }

  /** Whether a node of the map can be asked. */
  isReachable(node: NodeId): boolean {
    return this.#context.router.isReachable(node);
  }

  /** Of each node of the map: whether its stream is up, and what is in flight there. */
  channels(): readonly (ChannelFigures & { readonly node: NodeId })[] {
    return this.#context.router.channels();
  }

  get({ tenant, key }: KeyRef, options: GetOptions): Promise<StoredValue | undefined> {
    const maxStalenessMs = options.maxStalenessMs ?? 0;
    assertEncodable(maxStalenessMs, "maxStalenessMs");
    const body: OperationBody = {
      kind: "get",
      tenant,
      space: Space.Kv,
      key,
      maxStalenessMs,
      metadataOnly: options.metadataOnly ?? false,
    };
    return this.#call({ tenant, key }, body, options, toStoredValue);
  }

  put(ref: KeyRef, input: PutInput, options: CallOptions): Promise<PutOutcome> {
    assertEncodable(input.ttlMs, "ttlMs");
    const body = this.#write(ref, putActionOf(input), input.condition, options);
    return this.#call(ref, body, options, toPutOutcome);
  }

  delete(
    ref: KeyRef,
    condition: Condition | undefined,
    options: CallOptions,
  ): Promise<DeleteOutcome> {
    const action = { kind: "delete" } as const;
    return this.#call(ref, this.#write(ref, action, condition, options), options, toDeleteOutcome);
  }

  reseal(ref: KeyRef, input: ResealInput, options: CallOptions): Promise<ResealOutcome> {
    const { revision, ...content } = input;
    const action = { kind: "reseal", ...content } as const;
    const condition = { ...NO_CONDITION, revisionIs: [revision] };
    return this.#call(ref, this.#write(ref, action, condition, options), options, toResealOutcome);
  }

  async claim(ref: KeyRef, ttlMs: number, options: CallOptions): Promise<boolean> {
    assertEncodable(ttlMs, "ttlMs");
    const action = putActionOf({ value: EMPTY_BYTES, contentType: "", ttlMs });
    const condition = { ...NO_CONDITION, mustBeAbsent: true };
    const body = this.#write(ref, action, condition, options, Space.Ticket);
    const outcome = await this.#call(ref, body, options, toPutOutcome, Space.Ticket);
    return outcome.kind === "stored";
  }

  async batch(
    tenant: TenantId,
    operations: readonly BatchOperation[],
    options: BatchOptions,
  ): Promise<readonly BatchOutcome[]> {
    assertEncodable(options.deadlineMs, "deadlineMs");
    const refusal = this.#refusal(true);
    if (refusal !== undefined) throw refusal;
    const group = new CallGroup(this.#start, options);
    return runBatch({ tenant, operations, options, group, random: this.#context.random });
  }

  scan(query: RowsQuery): Scan {
    return new MergedScan({
      query,
      slots: this.#scanLanes.of(query),
      startCall: this.#start,
    });
  }

  count(query: ScanQuery, options: GetOptions): Promise<number> {
    const slots = this.#scanLanes.of(query);
    return countKeys({ query, options, slots, startCall: this.#start });
  }

  readiness(): Readiness {
    if (this.#closing) return { ready: false, reason: "the gateway is stopping" };
    return this.#context.router.readiness();
  }

  close(timeoutMs: number): Promise<void> {
    this.#closing ??= this.#close(timeoutMs);
    return this.#closing;
  }

  #write(
    { tenant, key }: KeyRef,
    action: MutationAction,
    condition: Condition | undefined,
    { deadlineMs }: CallOptions,
    space: Space = Space.Kv,
  ): OperationBody {
    const requestId = this.#context.random.fill(new Uint8Array(REQUEST_ID_SIZE_BYTES));
    const mutations = [{ tenant, space, key, condition, action }];
    const command: Command = { requestId, deadlineMs, mutations };
    return { kind: "write", command };
  }

  #call<T>(
    { tenant, key }: KeyRef,
    body: OperationBody,
    options: CallOptions,
    convert: (result: AnyResult) => T,
    space: Space = Space.Kv,
  ): Promise<T> {
    assertEncodable(options.deadlineMs, "deadlineMs");
    return new Promise((resolve, reject) => {
      const vshard = vshardOf({ tenant, space, key });
      this.#start({ vshard, body, options, convert, resolve, reject });
    });
  }

  readonly #start = <T>(request: CallRequest<T>): Call<T> | undefined => {
    const { body } = request;
    const refusal =
      this.#refusal(body.kind === "write") ??
      (this.#isBehind ? featureRefusal(body, this.map!) : undefined);
    if (refusal !== undefined) {
      this.figures.ended(kindOf(body), refusal.code, 0);
      request.reject(refusal);
      return undefined;
    }
    const call = new Call(this.#context, request);
    call.start();
    return call;
  };

  #refusal(isWrite: boolean): KvError | undefined {
    const outcome = isWrite ? { outcome: "not_applied" as const } : {};
    if (this.#closing) return new KvError("UNAVAILABLE", "the gateway is stopping", outcome);
    // The streams' windows bound what is in flight at each node; this bounds what all can add up to.
    if (this.#context.calls.size < STORAGE_CALLS_MAX) return undefined;
    return new KvError("OVERLOADED", "too many calls wait for storage", outcome);
  }

  async #close(timeoutMs: number): Promise<void> {
    const { calls, clock, router } = this.#context;
    const untilMs = clock.monotonicMs() + timeoutMs;
    let cancelTimer = (): void => {};
    await new Promise<void>((resolve) => {
      calls.whenEmpty(resolve);
      if (calls.size > 0) cancelTimer = clock.after(timeoutMs, resolve);
    });
    cancelTimer();
    calls.stopAll();
    await router.close(Math.max(0, untilMs - clock.monotonicMs()));
  }
}

/** Here, and not in the codec, where it would strike all operations of a batch. */
function assertEncodable(value: number, name: string): void {
  assert(Number.isSafeInteger(value) && value >= 0, `${name} is a safe integer from 0`);
}

const NO_CONDITION: Condition = {
  mustBeAbsent: false,
  mustExist: false,
  revisionIs: [],
  revisionIsNot: [],
};

const toPutOutcome = (result: AnyResult): PutOutcome => putOutcomeOf(onlyMutation(result));

const toDeleteOutcome = (result: AnyResult): DeleteOutcome => deleteOutcomeOf(onlyMutation(result));

const toResealOutcome = (result: AnyResult): ResealOutcome => resealOutcomeOf(onlyMutation(result));
