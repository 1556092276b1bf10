/**
 * The rows of the directory, as the leader of the meta group keeps them in memory for gateways.
 *
 * When it begins to lead it reads all of them, once. After that it reads the rows that it has itself
 * changed, and no others, so a change costs what it changes, however large the directory is. That is enough:
 *
 * - While a node leads in one term, every entry of the group that is applied behind the first one of that
 *   term was proposed by it, in that term. And the first reading begins when that first one is applied.
 * - Commands on rows of the directory are proposed here only (`change`). Each is answered, and in the round
 *   in which it is applied, before anything can be read that holds its effects (`ApplyPump`). So at the
 *   moment of a reading the rows that differ from those known here are among the rows of commands that
 *   have been answered since the reading before, of those that are still to be answered, which are not
 *   applied yet, and of those that were answered with "unknown" and may have been applied since. The first
 *   and the last are what a reading looks at.
 *
 * Rows are read rather than taken from the commands because answers do not always come: a command whose
 * deadline passes before a quorum has it is answered then, and applied later.
 *
 * Readings run one after the other, and whatever comes meanwhile waits for the next one.
 */
import type { Command, ResultBody } from "#proto/codec/messages.ts";
import { utf8Decode } from "#shared/bytes.ts";
import type { NodeId } from "#shared/ids.ts";
import { ChangeTable } from "./change-table.ts";
import { type DirectoryValue, rowSizeBytes } from "./directory-rows.ts";

export type DirectoryReading = {
  /** Of the group, at the moment of the reading. */
  readonly revision: number;
  /** By name; undefined for a row that is not there. */
  readonly rows: ReadonlyMap<string, DirectoryValue | undefined>;
  /** These are all rows that there are. */
  readonly isAll: boolean;
};

/** The local replica of the meta group, if there is one. */
export interface DirectoryGroup {
  /** It leads, and has applied all that earlier leaders have committed. */
  readonly leads: boolean;
  /** 0 when unknown, or when this node has no replica of the group. */
  readonly leader: NodeId;
  readonly term: number;
  /** As applied. */
  readonly revision: number;
  /** Of the log, and up to where it is applied. */
  readonly lastIndex: number;
  readonly appliedIndex: number;
  /** Reads the rows that `names` asks for at the moment of the reading; undefined asks for all. */
  directory(names: () => readonly string[] | undefined): Promise<DirectoryReading>;
  propose(command: Command, done: (body: ResultBody) => void): void;
}

export type DirectoryTableOptions = {
  readonly group: DirectoryGroup;
  /** Something has changed: rows, their revision, or whether they are known at all. */
  readonly onChange: () => void;
  readonly onFatal: (error: unknown) => void;
};

/** A command that may be applied although nobody will be told. */
type Unresolved = {
  readonly names: readonly string[];
  /** In which it was proposed. */
  readonly term: number;
  readonly untilIndex: number;
};

/** Of one time in which this node leads. */
class Lead {
  readonly term: number;
  readonly rows = new ChangeTable<string, DirectoryValue>();
  sizeBytes = 0;
  isRead = false;
  /** Of the group when these rows were read. */
  revision = 0;

  constructor(term: number) {
    this.term = term;
  }

  set(name: string, row: DirectoryValue | undefined): void {
    const before = this.rows.get(name);
    if (before?.revision === row?.revision) return;
    if (before !== undefined) this.sizeBytes -= rowSizeBytes(name, before.value);
    if (row === undefined) this.rows.remove(name);
    else {
      this.sizeBytes += rowSizeBytes(name, row.value);
      this.rows.set(name, row);
    }
  }
}

export class DirectoryTable {
  readonly #options: DirectoryTableOptions;
  #lead: Lead | undefined;
  readonly #touched = new Set<string>();
  #unresolved: Unresolved[] = [];
  /** Commands that are to be answered. */
  #proposed = 0;
  #isReading = false;
  #readAgain = false;
  #stopped = false;

  constructor(options: DirectoryTableOptions) {
    this.#options = options;
  }

  /** Undefined as long as this node does not lead, or has not read them. */
  get rows(): ChangeTable<string, DirectoryValue> | undefined {
    const lead = this.#current();
    return lead?.isRead ? lead.rows : undefined;
  }

  /** Rows are complete as of this revision of the group. */
  get revision(): number {
    return this.#lead?.revision ?? 0;
  }

  get sizeBytes(): number {
    return this.#lead?.sizeBytes ?? 0;
  }

  /** To be called often, and when entries of the meta group were applied. */
  look(): void {
    const { group, onChange } = this.#options;
    if (this.#stopped) return;
    if (!group.leads) {
      if (this.#lead === undefined) return;
      this.#lead = undefined;
      onChange();
      return;
    }
    if (this.#lead?.term !== group.term) {
      this.#lead = new Lead(group.term);
      // What was proposed in an earlier term and came through is applied by now. In this term something may have been
      // proposed, and given up, before this look.
      this.#unresolved = this.#unresolved.filter(({ term }) => term === group.term);
      onChange();
      this.#read();
      return;
    }
    if (this.#unresolved.length > 0) this.#read();
    else this.#followRevision(this.#lead);
  }

  /** Commands on rows of the directory come here and nowhere else. `done` has the group's revision then. */
  change(command: Command, done: (body: ResultBody, revision: number) => void): void {
    const { group } = this.#options;
    const names = command.mutations.map(({ key }) => utf8Decode(key));
    const { term } = group;
    this.#proposed++;
    group.propose(command, (body) => {
      this.#proposed--;
      if (body.kind === "failure" && !body.notApplied) {
        this.#unresolved.push({ names, term, untilIndex: group.lastIndex });
      } else for (const name of names) this.#touched.add(name);
      done(body, group.revision);
      this.#read();
    });
  }

  stop(): void {
    this.#stopped = true;
  }

  #current(): Lead | undefined {
    const { group } = this.#options;
    const lead = this.#lead;
    return lead !== undefined && group.leads && group.term === lead.term ? lead : undefined;
  }

  /** The cluster map changes the group's revision too: rows that nobody touches are as of that as well. */
  #followRevision(lead: Lead): void {
    const isQuiet = this.#proposed === 0 && this.#touched.size === 0 && !this.#isReading;
    if (isQuiet && lead.isRead) lead.revision = this.#options.group.revision;
  }

  #read(): void {
    if (this.#isReading) {
      this.#readAgain = true;
      return;
    }
    this.#readAgain = false;
    this.#isReading = true;
    this.#readUntilQuiet().then(
      () => {
        this.#isReading = false;
        // Asked for between the last look at it and now.
        if (this.#readAgain) this.#read();
      },
      (error: unknown) => {
        this.#isReading = false;
        if (!this.#stopped) this.#options.onFatal(error);
      },
    );
  }

  async #readUntilQuiet(): Promise<void> {
    do {
      this.#readAgain = false;
      const lead = this.#current();
      if (lead === undefined || this.#stopped) return;
      // Not in the middle of a round's answers: those that are still to come belong to what is read.
      await undefined;
      const reading = await this.#options.group.directory(() => this.#takeNames(lead));
      if (lead !== this.#current()) continue;
      for (const [name, row] of reading.rows) lead.set(name, row);
      lead.isRead = true;
      lead.revision = reading.revision;
      this.#options.onChange();
    } while (this.#readAgain);
  }

  #takeNames(lead: Lead): readonly string[] | undefined {
    const { appliedIndex } = this.#options.group;
    const names = new Set(this.#touched);
    this.#touched.clear();
    for (const unresolved of this.#unresolved) for (const name of unresolved.names) names.add(name);
    this.#unresolved = this.#unresolved.filter(({ untilIndex }) => untilIndex > appliedIndex);
    return lead.isRead ? [...names] : undefined;
  }
}
