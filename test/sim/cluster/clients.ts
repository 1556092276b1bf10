/** Clients of the simulated cluster: each asks one thing after the other, through some gateway. */
import type { PutOutcome } from "#gateway/storage/storage.ts";
import type { Condition } from "#proto/codec/messages.ts";
import { utf8, utf8Decode } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import type { SeededRandom } from "#shared/random.ts";
import type { Action, Outcome, WriteCondition } from "#test/linearizability/operation.ts";
import type { Agenda } from "./agenda.ts";
import type { Gateway } from "./gateway.ts";
import type { Asked, History } from "./history.ts";
import type { LoadOptions } from "./options.ts";

/** What a client last saw of a key. */
type Seen = { readonly revision: number; readonly value: string | undefined };

export type ClientParts = {
  readonly name: string;
  readonly gateway: Gateway;
  readonly random: SeededRandom;
  readonly agenda: Agenda;
  readonly history: History;
  readonly load: LoadOptions;
  readonly keys: readonly string[];
  /** Something that no client is prepared for. */
  readonly onError: (error: unknown) => void;
};

const ABSENT: Condition = {
  mustBeAbsent: true,
  mustExist: false,
  revisionIs: [],
  revisionIsNot: [],
};

const conditionOn = ({ revision }: Seen): Condition =>
  revision === 0 ? ABSENT : { ...ABSENT, mustBeAbsent: false, revisionIs: [revision] };

export class Client {
  readonly #parts: ClientParts;
  readonly #seen = new Map<string, Seen>();
  #values = 0;
  #stopped = false;
  /** One request is under way. */
  busy = false;
  /** The last put was carried out. */
  stored = false;

  constructor(parts: ClientParts) {
    this.#parts = parts;
  }

  start(): void {
    const { agenda, random, load } = this.#parts;
    agenda.after(random.below(load.thinkMsMax + 1), () => this.#next());
  }

  stop(): void {
    this.#stopped = true;
  }

  #next(): void {
    const { random, history, load, keys, onError } = this.#parts;
    if (this.#stopped) return;
    const key = keys[random.below(keys.length)]!;
    if (history.count(key) >= load.operationsPerKeyMax) {
      this.start();
      return;
    }
    this.busy = true;
    this.#ask(key, random.float()).then(
      () => {
        this.busy = false;
        this.start();
      },
      (error: unknown) => onError(error),
    );
  }

  #ask(key: string, dice: number): Promise<void> {
    if (dice < 0.3) return this.get(key);
    if (dice < 0.36) return this.#staleGet(key);
    if (dice < 0.62) return this.put(key, undefined);
    if (dice < 0.84) return this.put(key, this.#seen.get(key) ?? { revision: 0, value: undefined });
    if (dice < 0.93) return this.#delete(key, undefined);
    return this.#delete(key, this.#seen.get(key));
  }

  #deadlineMs(): number {
    const { random, load, gateway } = this.#parts;
    const spread = Math.max(1, load.deadlineMsMax - load.deadlineMsMin);
    return gateway.party.clock.nowMs() + load.deadlineMsMin + random.below(spread);
  }

  #begin(key: string): { asked: Asked; ref: { tenant: typeof DEFAULT_TENANT; key: Uint8Array } } {
    const { history, agenda } = this.#parts;
    const ref = { tenant: DEFAULT_TENANT, key: utf8(key) };
    return { asked: history.begin(key, agenda.nowMs), ref };
  }

  #note(key: string, revision: number, value: string | undefined): void {
    if (revision > 0) this.#parts.history.saw(key, revision, value);
    this.#seen.set(key, { revision: value === undefined ? 0 : revision, value });
  }

  async get(key: string): Promise<void> {
    const { history, gateway } = this.#parts;
    const { asked, ref } = this.#begin(key);
    try {
      const found = await gateway.storage.get(ref, { deadlineMs: this.#deadlineMs() });
      const value = found && utf8Decode(found.value);
      history.answer(asked, { kind: "get" }, readOutcome(found?.revision ?? 0, value));
      this.#note(key, found?.revision ?? 0, value);
    } catch (error) {
      failureOf(error);
      history.refuse();
    }
  }

  async #staleGet(key: string): Promise<void> {
    const { history, gateway, random } = this.#parts;
    const { asked, ref } = this.#begin(key);
    const maxStalenessMs = 1 + random.below(2_000);
    const options = { deadlineMs: this.#deadlineMs(), maxStalenessMs };
    try {
      const found = await gateway.storage.get(ref, options);
      if (found) history.saw(key, found.revision, utf8Decode(found.value));
      history.staleRead(asked, found?.revision ?? 0, maxStalenessMs);
    } catch (error) {
      failureOf(error);
      history.refuse();
    }
  }

  /** `stored` tells whether it was. */
  async put(
    key: string,
    expected: Seen | undefined,
    deadlineMs = this.#deadlineMs(),
  ): Promise<void> {
    const { history, gateway, agenda, random, load, name } = this.#parts;
    const padding = "x".repeat(random.below(load.valueSizeBytesMax));
    const value = `${name}/${++this.#values}/${padding}`;
    const condition = expected && conditionOn(expected);
    const { asked, ref } = this.#begin(key);
    const input = {
      value: utf8(value),
      contentType: "",
      ttlMs: 0,
      ...(condition && { condition }),
    };
    const action: Action = { kind: "put", value, ...conditionOf(expected) };
    let outcome: PutOutcome;
    this.stored = false;
    try {
      outcome = await gateway.storage.put(ref, input, { deadlineMs });
    } catch (error) {
      this.#failed(asked, error, action);
      return;
    }
    if (outcome.kind === "conditionFailed") {
      history.answer(asked, action, { kind: "refused", revision: outcome.revision });
      return;
    }
    const { revision, created } = outcome;
    history.answer(asked, action, { kind: "stored", revision, created });
    this.stored = true;
    history.acknowledged(asked, outcome.revision, agenda.nowMs);
    this.#note(key, outcome.revision, value);
  }

  async #delete(key: string, expected: Seen | undefined): Promise<void> {
    const { history, gateway, agenda } = this.#parts;
    // A delete on condition that the key is absent makes no sense.
    const known = expected?.revision === 0 ? undefined : expected;
    const condition = known && conditionOn(known);
    const { asked, ref } = this.#begin(key);
    const options = { deadlineMs: this.#deadlineMs() };
    const action: Action = { kind: "delete", ...conditionOf(known) };
    try {
      const outcome = await gateway.storage.delete(ref, condition, options);
      if (outcome.kind !== "deleted") {
        const { kind } = outcome;
        const isRefused = kind === "conditionFailed";
        const told = isRefused
          ? { kind: "refused", revision: outcome.revision }
          : { kind: "absent" };
        history.answer(asked, action, told as Outcome);
        return;
      }
      history.answer(asked, action, { kind: "deleted" });
      history.acknowledged(asked, outcome.revision, agenda.nowMs);
      this.#note(key, outcome.revision, undefined);
    } catch (error) {
      this.#failed(asked, error, action);
    }
  }

  #failed(asked: Asked, error: unknown, action: Action): void {
    if (failureOf(error).outcome === "not_applied") this.#parts.history.refuse();
    else this.#parts.history.doubt(asked, action);
  }
}

export const readOutcome = (revision: number, value: string | undefined): Outcome =>
  value === undefined ? { kind: "absent" } : { kind: "found", revision, value };

function conditionOf(expected: Seen | undefined): { readonly condition?: WriteCondition } {
  if (expected === undefined) return {};
  const { revision } = expected;
  return { condition: revision === 0 ? { kind: "absent" } : { kind: "revision", revision } };
}

/** @throws what is no answer of storage */
function failureOf(error: unknown): KvError {
  if (error instanceof KvError && error.code !== "INTERNAL") return error;
  throw error;
}
