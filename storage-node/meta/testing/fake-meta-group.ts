/** A meta group in a test's hands: it applies commands as the machine would, at once. Used by tests only. */
import { type Mutation, MutationStatus, type ResultBody } from "#proto/codec/messages.ts";
import { utf8Decode } from "#shared/bytes.ts";
import type { NodeId, Revision } from "#shared/ids.ts";
import type { MetaRow } from "#storage-node/meta/map-rows.ts";
import type { MetaGroup } from "#storage-node/meta/meta-store.ts";

export class FakeMetaGroup implements MetaGroup {
  leads = true;
  leader = 1 as NodeId;
  revision = 0 as Revision;
  readonly #rows = new Map<string, MetaRow>();
  /** Called before a write is applied. */
  onWrite: () => void = () => {};
  answer: ResultBody | undefined;

  async rows() {
    return [...this.#rows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
  }

  async clusterRevision() {
    return this.#rows.get("cluster")?.revision ?? (0 as Revision);
  }

  write(mutations: readonly Mutation[], _deadlineMs: number, done: (body: ResultBody) => void) {
    this.onWrite();
    if (this.answer !== undefined) {
      done(this.answer);
      return;
    }
    const holds = mutations.every(({ key, condition }) => {
      const row = this.#rows.get(utf8Decode(key));
      if (condition === undefined) return true;
      if (condition.mustBeAbsent) return row === undefined;
      return row !== undefined && condition.revisionIs.includes(row.revision);
    });
    const results = mutations.map(({ key, action }) => {
      if (!holds)
        return { status: MutationStatus.Skipped, revision: 0 as Revision, created: false };
      this.revision = (this.revision + 1) as Revision;
      if (action.kind === "put") {
        this.#rows.set(utf8Decode(key), { key, value: action.value, revision: this.revision });
      } else this.#rows.delete(utf8Decode(key));
      return { status: MutationStatus.Applied, revision: this.revision, created: false };
    });
    done({ kind: "write", applied: holds, mutations: results });
  }
}
