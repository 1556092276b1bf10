/**
 * A batch of operations on any keys: one command for each vshard that is written to, and a read for
 * each key that is read.
 *
 * The writes to a vshard travel as one command of independent mutations, so that one request id, one
 * entry of the log and one answer serve all of them. Storage carries them out in their order, so writes
 * to one key keep theirs.
 *
 * **Waves.** A read does not travel with the writes, and a command has its bounds. So the operations on
 * a vshard are put into waves, each of which begins when the one before it has ended: an operation
 * comes into a later wave than those before it on the same key, unless they share a command or both
 * read. Mostly there is one wave. Vshards do not wait for one another.
 *
 * When it is not known whether a wave was applied, a copy of it may still be under way, and whatever
 * came later could be overtaken by it: the waves behind it are not begun.
 */
import type { Mutation, OperationBody } from "#proto/codec/messages.ts";
import { mutationCost, WRITE_COST_MIN } from "#proto/codec/operation-rules.ts";
import { latin1 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import { Space, type TenantId, VSHARD_COUNT, type VshardId } from "#shared/ids.ts";
import {
  BATCH_READ_BYTES_MAX,
  BATCH_READS_IN_FLIGHT_MAX,
  COMMAND_SIZE_BYTES_MAX,
  MUTATIONS_PER_COMMAND_MAX,
  REQUEST_ID_SIZE_BYTES,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import { vshardOf } from "#shared/vshard.ts";
import type { CallGroup } from "./call-group.ts";
import {
  deleteOutcomeOf,
  putActionOf,
  putOutcomeOf,
  toStoredValue,
  toWriteResult,
} from "./results.ts";
import type { BatchOperation, BatchOptions, BatchOutcome, StoredValue } from "./storage.ts";

export type BatchInput = {
  readonly tenant: TenantId;
  readonly operations: readonly BatchOperation[];
  readonly options: BatchOptions;
  readonly group: CallGroup;
  readonly random: Random;
};

/** Never rejects: each operation has its own outcome. Releases the group. */
export function runBatch(input: BatchInput): Promise<readonly BatchOutcome[]> {
  return new Promise((resolve) => new Batch(input, resolve).start());
}

const NOT_BEGUN: BatchOutcome = { kind: "absent" };

/** Operations by their place in the batch. */
type Wave = {
  readonly mutations: Mutation[];
  /** Beside `mutations`. */
  readonly writes: number[];
  readonly reads: number[];
  costBytes: number;
};

const newWave = (): Wave => ({ mutations: [], writes: [], reads: [], costBytes: WRITE_COST_MIN });

/** The last operation on a key so far. */
type Last = { readonly wave: number; readonly isWrite: boolean };

/** The operations on one vshard. */
class Lane {
  readonly vshard: VshardId;
  readonly waves: Wave[] = [newWave()];
  nextWave = 0;
  /** Calls of the running wave that are not answered. */
  open = 0;
  isStarting = false;
  /** Why the waves that are left must not begin. */
  doubt: KvError | undefined;
  /** By key, once both reads and writes have come; until then there is no need to tell keys apart. */
  #lastOf: Map<string, Last> | undefined;

  constructor(vshard: VshardId) {
    this.vshard = vshard;
  }

  addRead(place: number, operations: readonly BatchOperation[]): void {
    const hasWrites = this.waves[0]!.writes.length > 0 || this.waves.length > 1;
    const last = hasWrites ? this.#last(place, operations) : undefined;
    const wave = last === undefined ? 0 : last.isWrite ? last.wave + 1 : last.wave;
    this.#wave(wave).reads.push(place);
    this.#lastOf?.set(latin1(operations[place]!.key), { wave, isWrite: false });
  }

  addWrite(place: number, mutation: Mutation, operations: readonly BatchOperation[]): void {
    const cost = mutationCost(mutation);
    const hasReads = this.#lastOf !== undefined || this.waves[0]!.reads.length > 0;
    let at = this.waves.length - 1;
    if (hasReads) {
      const last = this.#last(place, operations);
      at = last === undefined ? 0 : last.isWrite ? last.wave : last.wave + 1;
    }
    while (!hasRoom(this.#wave(at), cost)) at++;
    const wave = this.#wave(at);
    wave.mutations.push(mutation);
    wave.writes.push(place);
    wave.costBytes += cost;
    this.#lastOf?.set(latin1(mutation.key), { wave: at, isWrite: true });
  }

  #wave(number: number): Wave {
    if (number === this.waves.length) this.waves.push(newWave());
    return this.waves[number]!;
  }

  #last(place: number, operations: readonly BatchOperation[]): Last | undefined {
    if (this.#lastOf === undefined) {
      this.#lastOf = new Map();
      for (const [wave, { reads, writes }] of this.waves.entries()) {
        for (const read of reads) this.#note(operations[read]!.key, { wave, isWrite: false });
        for (const write of writes) this.#note(operations[write]!.key, { wave, isWrite: true });
      }
    }
    return this.#lastOf.get(latin1(operations[place]!.key));
  }

  #note(key: Uint8Array, last: Last): void {
    this.#lastOf!.set(latin1(key), last);
  }
}

function hasRoom({ mutations, costBytes }: Wave, cost: number): boolean {
  if (mutations.length === 0) return true;
  return mutations.length < MUTATIONS_PER_COMMAND_MAX && costBytes + cost <= COMMAND_SIZE_BYTES_MAX;
}

class Batch {
  readonly #input: BatchInput;
  readonly #resolve: (outcomes: readonly BatchOutcome[]) => void;
  readonly #outcomes: BatchOutcome[];
  readonly #lanes: Lane[] = [];
  #lanesOpen = 0;
  /** Reads whose turn has not come. */
  #readsWaiting: { readonly lane: Lane; readonly place: number }[] = [];
  #nextRead = 0;
  #readsInFlight = 0;
  #isStartingReads = false;
  /** Of values that were read for nothing. */
  #refusedBytes = 0;
  #refusal: KvError | undefined;

  constructor(input: BatchInput, resolve: (outcomes: readonly BatchOutcome[]) => void) {
    this.#input = input;
    this.#resolve = resolve;
    this.#outcomes = new Array(input.operations.length).fill(NOT_BEGUN);
    this.#plan();
  }

  start(): void {
    this.#lanesOpen = this.#lanes.length;
    if (this.#lanesOpen === 0) this.#end();
    for (const lane of this.#lanes) this.#advance(lane);
    this.#startReads();
  }

  #plan(): void {
    const { tenant, operations } = this.#input;
    const lanes: (Lane | undefined)[] = new Array(VSHARD_COUNT).fill(undefined);
    for (let place = 0; place < operations.length; place++) {
      const operation = operations[place]!;
      const { key } = operation;
      const vshard = vshardOf({ tenant, space: Space.Kv, key });
      let lane = lanes[vshard];
      if (lane === undefined) {
        lane = new Lane(vshard);
        lanes[vshard] = lane;
        this.#lanes.push(lane);
      }
      if (operation.kind === "get") lane.addRead(place, operations);
      else lane.addWrite(place, mutationOf(operation, tenant), operations);
    }
  }

  #end(): void {
    this.#input.group.release();
    this.#resolve(this.#outcomes);
  }

  /** Begins waves of `lane` until one has to be waited for. A loop: calls may fail at once. */
  #advance(lane: Lane): void {
    if (lane.isStarting) return;
    lane.isStarting = true;
    while (lane.open === 0 && lane.nextWave < lane.waves.length) {
      const wave = lane.waves[lane.nextWave++]!;
      if (lane.doubt === undefined) this.#startWave(lane, wave);
      else this.#refuse(wave, lane.doubt);
    }
    lane.isStarting = false;
    if (lane.open === 0 && --this.#lanesOpen === 0) this.#end();
  }

  #startWave(lane: Lane, wave: Wave): void {
    lane.open = wave.reads.length + (wave.mutations.length > 0 ? 1 : 0);
    for (const place of wave.reads) this.#readsWaiting.push({ lane, place });
    if (wave.mutations.length > 0) this.#write(lane, wave);
    if (wave.reads.length > 0) this.#startReads();
  }

  #callEnded(lane: Lane): void {
    if (--lane.open === 0) this.#advance(lane);
  }

  #refuse({ writes, reads }: Wave, doubt: KvError): void {
    const detail = `not begun: the outcome of an earlier operation of the batch is unknown`;
    const error = new KvError(doubt.code, detail, { outcome: "not_applied" });
    for (const place of writes) this.#outcomes[place] = { kind: "failed", error };
    for (const place of reads) this.#outcomes[place] = { kind: "failed", error };
  }

  #write(lane: Lane, { mutations, writes }: Wave): void {
    const { group, random, options } = this.#input;
    const requestId = random.fill(new Uint8Array(REQUEST_ID_SIZE_BYTES));
    const { deadlineMs } = options;
    const command = { requestId, deadlineMs, mutations, independent: true };
    group.start(
      lane.vshard,
      { kind: "write", command },
      // Converted here and not behind it, so that a result which does not fit fails the call.
      (result) =>
        toWriteResult(result, mutations.length).mutations.map((mutation, i) =>
          mutations[i]!.action.kind === "put" ? putOutcomeOf(mutation) : deleteOutcomeOf(mutation),
        ),
      (outcomes) => {
        for (let i = 0; i < writes.length; i++) this.#outcomes[writes[i]!] = outcomes[i]!;
        this.#callEnded(lane);
      },
      (error) => {
        const failed: BatchOutcome = { kind: "failed", error };
        for (const place of writes) this.#outcomes[place] = failed;
        if (error.outcome !== "not_applied") lane.doubt = error;
        this.#callEnded(lane);
      },
    );
  }

  /** As many reads as may be in flight. A loop: calls may fail at once. */
  #startReads(): void {
    if (this.#isStartingReads) return;
    this.#isStartingReads = true;
    while (
      this.#nextRead < this.#readsWaiting.length &&
      this.#readsInFlight < BATCH_READS_IN_FLIGHT_MAX
    ) {
      const { lane, place } = this.#readsWaiting[this.#nextRead++]!;
      this.#readsInFlight++;
      this.#read(lane, place);
    }
    this.#isStartingReads = false;
  }

  #read(lane: Lane, place: number): void {
    const { group, tenant, operations, options } = this.#input;
    const end = (outcome: BatchOutcome): void => {
      this.#outcomes[place] = outcome;
      this.#readsInFlight--;
      this.#startReads();
      this.#callEnded(lane);
    };
    // A thousand reads of a megabyte cost a small request, and would be thrown away one after the other.
    if (this.#refusal !== undefined && this.#refusedBytes >= BATCH_READ_BYTES_MAX) {
      end({ kind: "failed", error: this.#refusal });
      return;
    }
    const body: OperationBody = {
      kind: "get",
      tenant,
      space: Space.Kv,
      key: operations[place]!.key,
      maxStalenessMs: options.maxStalenessMs ?? 0,
      metadataOnly: options.metadataOnly ?? false,
    };
    group.start(
      lane.vshard,
      body,
      toStoredValue,
      (stored) => end(this.#admitted(stored)),
      (error) => end({ kind: "failed", error }),
    );
  }

  #admitted(stored: StoredValue | undefined): BatchOutcome {
    if (stored === undefined) return { kind: "absent" };
    // As the client will get it, which may be more than what was stored.
    const sizeBytes = stored.value.length === 0 ? 0 : stored.valueSizeBytes;
    const error = this.#input.options.admitValue(sizeBytes);
    if (error === undefined) return { kind: "found", stored };
    this.#refusal = error;
    this.#refusedBytes += sizeBytes;
    return { kind: "failed", error };
  }
}

function mutationOf(
  operation: Exclude<BatchOperation, { readonly kind: "get" }>,
  tenant: TenantId,
): Mutation {
  const { key, condition } = operation;
  if (operation.kind === "delete") {
    return { tenant, space: Space.Kv, key, condition, action: { kind: "delete" } };
  }
  return { tenant, space: Space.Kv, key, condition, action: putActionOf(operation) };
}
