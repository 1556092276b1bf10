/** What clients asked and what they were told, and the judgement over it at the end of a run. */
import { checkKey, explain } from "#test/linearizability/check.ts";
import type { Action, KeyOperation, Outcome } from "#test/linearizability/operation.ts";
import { violated } from "./violation.ts";

export type Asked = {
  readonly key: string;
  readonly startedAt: number;
  readonly startedMs: number;
};

/** Revision 0 stands for an absent key. */
type StaleRead = {
  readonly key: string;
  readonly revision: number;
  readonly startedMs: number;
  readonly maxStalenessMs: number;
};
export type Acknowledged = {
  readonly key: string;
  readonly revision: number;
  readonly endedMs: number;
};

/** Clocks differ by less than that, and an answer is that old at most when it is noted. */
const STALENESS_SLACK_MS = 50;

export class History {
  readonly #operations = new Map<string, KeyOperation[]>();
  readonly #values = new Map<string, string>();
  readonly #staleReads: StaleRead[] = [];
  readonly #acknowledged: Acknowledged[] = [];
  #order = 0;
  asked = 0;
  answered = 0;
  unknown = 0;
  refused = 0;

  begin(key: string, nowMs: number): Asked {
    this.asked++;
    return { key, startedAt: this.#order++, startedMs: nowMs };
  }

  count(key: string): number {
    return this.#operations.get(key)?.length ?? 0;
  }

  answer({ key, startedAt }: Asked, action: Action, outcome: Outcome): void {
    this.answered++;
    this.#add(key, { action, outcome, calledAt: startedAt, returnedAt: this.#order++ });
  }

  /** It may have taken effect, or may yet. */
  doubt({ key, startedAt }: Asked, action: Action): void {
    this.unknown++;
    const outcome: Outcome = { kind: "unknown" };
    this.#add(key, { action, outcome, calledAt: startedAt, returnedAt: startedAt });
  }

  refuse(): void {
    this.refused++;
  }

  #add(key: string, operation: KeyOperation): void {
    const operations = this.#operations.get(key);
    if (operations === undefined) this.#operations.set(key, [operation]);
    else operations.push(operation);
  }

  /** A revision was seen with a value; undefined for a deletion. */
  saw(key: string, revision: number, value: string | undefined): void {
    const name = `${key}@${revision}`;
    const text = value ?? "(deleted)";
    const known = this.#values.get(name);
    if (known === undefined) this.#values.set(name, text);
    else if (known !== text) {
      violated("one value per revision", `${name} was ${known}, and is ${text}`);
    }
  }

  acknowledged({ key }: Asked, revision: number, nowMs: number): void {
    this.#acknowledged.push({ key, revision, endedMs: nowMs });
  }

  get acknowledgedWrites(): readonly Acknowledged[] {
    return this.#acknowledged;
  }

  staleRead({ key, startedMs }: Asked, revision: number, maxStalenessMs: number): void {
    this.answered++;
    this.#staleReads.push({ key, revision, startedMs, maxStalenessMs });
  }

  /** @throws Violation */
  check(): void {
    for (const [key, operations] of this.#operations) {
      const verdict = checkKey(operations);
      if (verdict.kind === "linearizable") continue;
      violated("linearizable", `key ${key}\n${explain(operations, verdict)}`);
    }
    for (const read of this.#staleReads) {
      const asOfMs = read.startedMs - read.maxStalenessMs * 1.05 - STALENESS_SLACK_MS;
      const missed = this.#acknowledged.find(
        ({ key, revision, endedMs }) =>
          key === read.key && revision > read.revision && endedMs < asOfMs,
      );
      if (missed === undefined || read.revision === 0) continue;
      const detail = `${read.key}: revision ${read.revision} was read at ${read.startedMs} ms`;
      violated("staleness", `${detail}, but ${missed.revision} was there at ${missed.endedMs} ms`);
    }
  }
}
