/**
 * Histories that a correct store could have produced, and small lies about them.
 *
 * A register is run operation by operation; each operation then spans some time around the moment of
 * its effect, so that neighbours overlap. The answers of some are lost, of applied ones too.
 */
import { SeededRandom } from "#shared/random.ts";
import type { Action, KeyOperation, Outcome, WriteCondition } from "./operation.ts";

export type RandomHistoryOptions = {
  readonly seed: number;
  readonly operations: number;
  /** How far an operation reaches before and after its effect, in operations. */
  readonly overlap: number;
  /** Of 100 writes. */
  readonly unknownPercent: number;
};

/** Of 100 operations; the rest are puts. */
const GETS = 40;
const DELETES = 12;

export function randomHistory(options: RandomHistoryOptions): KeyOperation[] {
  const random = new SeededRandom(options.seed);
  const register = new Register();
  const history: KeyOperation[] = [];
  for (let time = 1; time <= options.operations; time++) {
    // Other keys of the vshard change too.
    if (random.below(3) === 0) register.revision += 1 + random.below(2);
    const action = randomAction(random, register, time);
    const fate = action.kind === "get" ? 100 : random.below(100);
    const isLost = fate < options.unknownPercent;
    const isApplied = !isLost || random.below(2) === 0;
    const isRefusedBefore = !isLost && fate >= 97 && action.kind !== "get";
    const answer = isApplied && !isRefusedBefore ? register.apply(action) : undefined;
    const outcome: Outcome = isRefusedBefore
      ? { kind: "notApplied" }
      : isLost || answer === undefined
        ? { kind: "unknown" }
        : answer;
    const calledAt = time - random.float() * options.overlap;
    // Given up at some time, perhaps before the effect.
    const patience = random.float() * options.overlap;
    history.push({ action, outcome, calledAt, returnedAt: isLost ? calledAt : time + patience });
  }
  return history;
}

class Register {
  /** Of the vshard. */
  revision = 0;
  /** 0 while the key is absent. */
  current = 0;
  value = "";
  /** All revisions that the key ever had. */
  readonly past: number[] = [];

  apply(action: Action): Outcome {
    const { current } = this;
    if (action.kind === "get") {
      if (current === 0) return { kind: "absent" };
      return { kind: "found", revision: current, value: this.value };
    }
    const { condition } = action;
    const wanted = condition?.kind === "revision" ? condition.revision : 0;
    if (condition !== undefined && wanted !== current)
      return { kind: "refused", revision: current };
    if (action.kind === "delete") {
      if (current === 0) return { kind: "absent" };
      this.revision++;
      this.current = 0;
      return { kind: "deleted" };
    }
    this.current = ++this.revision;
    this.value = action.value;
    this.past.push(this.current);
    return { kind: "stored", revision: this.current, created: current === 0 };
  }
}

function randomAction(random: SeededRandom, register: Register, time: number): Action {
  const choice = random.below(100);
  if (choice < GETS) return { kind: "get" };
  const condition = randomCondition(random, register);
  if (choice < GETS + DELETES) {
    return condition?.kind === "revision" ? { kind: "delete", condition } : { kind: "delete" };
  }
  const value = `v${time}`;
  return condition === undefined ? { kind: "put", value } : { kind: "put", value, condition };
}

function randomCondition(random: SeededRandom, register: Register): WriteCondition | undefined {
  const choice = random.below(6);
  if (choice < 2) return undefined;
  if (choice === 2) return { kind: "absent" };
  if (choice < 5 && register.current > 0) return { kind: "revision", revision: register.current };
  const { past } = register;
  const old = past.length === 0 ? 1 : past[random.below(past.length)]!;
  return { kind: "revision", revision: old };
}

/** The same history with one answer or one time changed. */
export function mutate(history: readonly KeyOperation[], seed: number): KeyOperation[] {
  const random = new SeededRandom(seed);
  const mutated = [...history];
  const at = random.below(history.length);
  const victim = history[at]!;
  const span = victim.returnedAt - victim.calledAt;
  switch (random.below(4)) {
    case 0:
      mutated[at] = { ...victim, calledAt: victim.calledAt + span * random.float() };
      break;
    case 1:
      mutated[at] = { ...victim, returnedAt: victim.returnedAt - span * random.float() };
      break;
    default:
      mutated[at] = { ...victim, outcome: otherOutcome(random, history, victim) };
  }
  return mutated;
}

function otherOutcome(
  random: SeededRandom,
  history: readonly KeyOperation[],
  { action, outcome }: KeyOperation,
): Outcome {
  const revisions = history.flatMap((o) => ("revision" in o.outcome ? [o.outcome.revision] : []));
  const someRevision = (): number =>
    (revisions[random.below(Math.max(1, revisions.length))] ?? 1) + random.below(2);
  if (action.kind === "get") {
    const others = history.filter((operation) => operation.action.kind === "put");
    const other = others[random.below(Math.max(1, others.length))];
    if (other?.action.kind !== "put" || random.below(4) === 0) return { kind: "absent" };
    const { value } = other.action;
    const { outcome: told } = other;
    const revision = told.kind === "stored" ? told.revision : Math.max(1, someRevision());
    return { kind: "found", value, revision };
  }
  const choices: Outcome[] = [{ kind: "unknown" }, { kind: "notApplied" }];
  if (action.condition !== undefined) choices.push({ kind: "refused", revision: someRevision() });
  if (action.kind === "delete") choices.push({ kind: "deleted" }, { kind: "absent" });
  else {
    const created = random.below(2) === 0;
    choices.push({ kind: "stored", revision: Math.max(1, someRevision()), created });
    if (outcome.kind === "stored") choices.push({ ...outcome, created: !outcome.created });
  }
  return choices[random.below(choices.length)]!;
}
