/** A meta group in a test's hands, with rows of the directory: it applies a command when told. Used by tests only. */
import { failureOf } from "#proto/codec/failure.ts";
import { type Command, MutationStatus, type ResultBody } from "#proto/codec/messages.ts";
import { utf8Decode } from "#shared/bytes.ts";
import type { NodeId, Revision } from "#shared/ids.ts";
import type { DirectoryValue } from "#storage-node/meta/directory-rows.ts";
import type { DirectoryGroup, DirectoryReading } from "#storage-node/meta/directory-table.ts";

/** Without a command: a change of the cluster map. */
type Proposed = {
  readonly command: Command | undefined;
  done: ((body: ResultBody) => void) | undefined;
};

export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export class FakeDirectoryGroup implements DirectoryGroup {
  leads = true;
  leader = 1 as NodeId;
  term = 1;
  revision = 5;
  appliedIndex = 10;
  readonly rows = new Map<string, DirectoryValue>();
  /** Proposed and not applied, oldest first. */
  readonly log: Proposed[] = [];
  /** Of rows that were read, one number for each reading; all for undefined. */
  readonly readings: (number | undefined)[] = [];
  /** Applied at once when nobody holds them back. */
  appliesAtOnce = true;

  get lastIndex(): number {
    return this.appliedIndex + this.log.length;
  }

  propose(command: Command, done: (body: ResultBody) => void): void {
    if (!this.leads) {
      done(failureOf("NOT_LEADER", "it does not lead", { notApplied: true }));
      return;
    }
    this.log.push({ command, done });
    if (this.appliesAtOnce) this.apply();
  }

  /** The oldest command that is not applied. */
  apply(): void {
    const next = this.log.shift();
    if (next === undefined) return;
    const body = next.command && this.#carryOut(next.command);
    this.appliedIndex++;
    if (body === undefined) this.revision++;
    else next.done?.(body);
  }

  /** Answers a command before it is applied, as when its deadline has passed. */
  giveUp(index: number): void {
    const proposed = this.log[index];
    const { done } = proposed ?? {};
    if (proposed === undefined || done === undefined) return;
    proposed.done = undefined;
    done(failureOf("DEADLINE_EXCEEDED", "the deadline passed", { notApplied: false }));
  }

  /** Another term begins; what was proposed before comes through, or not. */
  elect({ survives }: { readonly survives: boolean }): void {
    const answers = this.log.map(({ done }) => done);
    for (const proposed of this.log) proposed.done = undefined;
    if (!survives) this.log.splice(0);
    this.leads = false;
    for (const done of answers) {
      done?.(failureOf("NOT_LEADER", "it has lost the lead", { notApplied: false }));
    }
    while (this.log.length > 0) this.apply();
    this.term++;
    this.appliedIndex++;
    this.leads = true;
  }

  /** The cluster map changes, which takes a revision too, behind what was proposed before. */
  changeMap(): void {
    this.log.push({ command: undefined, done: undefined });
    if (this.appliesAtOnce) this.apply();
  }

  async directory(names: () => readonly string[] | undefined): Promise<DirectoryReading> {
    await turn();
    const taken = names();
    this.readings.push(taken?.length);
    const { revision } = this;
    const found = (taken ?? [...this.rows.keys()]).map(
      (name) => [name, this.rows.get(name)] as const,
    );
    await turn();
    return { isAll: taken === undefined, revision, rows: new Map(found) };
  }

  #carryOut({ mutations }: Command): ResultBody {
    const holds = mutations.every(({ key, condition }) => {
      const row = this.rows.get(utf8Decode(key));
      if (condition === undefined) return true;
      if (condition.mustBeAbsent) return row === undefined;
      return row !== undefined && condition.revisionIs.includes(row.revision);
    });
    const results = mutations.map(({ key, action }) => {
      const name = utf8Decode(key);
      const isThere = this.rows.has(name);
      if (!holds || (action.kind !== "put" && !isThere)) {
        return { status: MutationStatus.Skipped, revision: 0 as Revision, created: false };
      }
      this.revision++;
      const { revision } = this;
      if (action.kind === "put") this.rows.set(name, { value: action.value, revision });
      else this.rows.delete(name);
      return { status: MutationStatus.Applied, revision: revision as Revision, created: !isThere };
    });
    return { kind: "write", applied: holds, mutations: results };
  }
}
