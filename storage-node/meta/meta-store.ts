/**
 * Reads the cluster map from the local replica of the meta group, and changes it where that leads.
 *
 * Changes are computed by functions from the state to what is to be written, and run one after the
 * other. Each is one conditional command (map-rows.ts): if another leader has changed the map since,
 * the function is asked again with the newer state.
 */
import { failureOf } from "#proto/codec/failure.ts";
import type { Mutation, ResultBody } from "#proto/codec/messages.ts";
import type { Clock } from "#shared/clock.ts";
import { errorCodeFromWire, KvError } from "#shared/errors.ts";
import type { NodeId, Revision } from "#shared/ids.ts";
import {
  changeMutations,
  type MetaChange,
  type MetaRow,
  type MetaState,
  readMetaState,
} from "./map-rows.ts";

/** The local replica of the meta group, if there is one. */
export interface MetaGroup {
  /** It leads, and has applied all that earlier leaders have committed. */
  readonly leads: boolean;
  /** 0 when unknown, or when this node has no replica of the group. */
  readonly leader: NodeId;
  /** All rows of the map. */
  rows(): Promise<readonly MetaRow[]>;
  /** Of the row `cluster`, which every change of the map writes; 0 without one. */
  clusterRevision(): Promise<Revision>;
  write(mutations: readonly Mutation[], deadlineMs: number, done: (body: ResultBody) => void): void;
}

export type ChangeOutcome =
  | { readonly kind: "changed"; readonly change: MetaChange; readonly revision: Revision }
  /** There was nothing to write. */
  | { readonly kind: "unchanged" };

/** Lost races with other leaders are rare; more in a row than this are none. */
const ATTEMPTS_MAX = 8;
const CHANGE_TIMEOUT_MS = 5_000;
/** Beyond that nobody would ever answer, and all later changes would wait for this one. */
const ANSWER_TIMEOUT_MS = 2 * CHANGE_TIMEOUT_MS;

export class MetaStore {
  readonly #group: MetaGroup;
  readonly #clock: Clock;
  #last: Promise<unknown> = Promise.resolve();
  #lastRevision = 0 as Revision;

  constructor(group: MetaGroup, clock: Clock) {
    this.#group = group;
    this.#clock = clock;
  }

  get leads(): boolean {
    return this.#group.leads;
  }

  get leader(): NodeId {
    return this.#group.leader;
  }

  /** As applied here, which may lag. Undefined when no map is here, or none was written yet. */
  async read(): Promise<MetaState | undefined> {
    return readMetaState(await this.#group.rows());
  }

  /**
   * As `read`, but undefined when the map is the one of the last call too. One row is read to find out:
   * most of what the meta group applies are changes of the directory.
   */
  async readChanged(): Promise<MetaState | undefined> {
    if ((await this.#group.clusterRevision()) === this.#lastRevision) return undefined;
    const state = await this.read();
    if (state !== undefined) this.#lastRevision = state.clusterRevision;
    return state;
  }

  /**
   * Writes what `compute` makes of the state, which is undefined before the first write; undefined
   * for nothing to do. `compute` may throw a KvError to refuse.
   *
   * @throws KvError NOT_LEADER; UNAVAILABLE with its outcome: ask again, changes are such that a
   * repetition does no harm
   */
  change(
    compute: (state: MetaState | undefined) => { state: MetaState; change: MetaChange } | undefined,
  ): Promise<ChangeOutcome> {
    const result = this.#last.then(() => this.#attempts(compute));
    this.#last = result.catch(() => {});
    return result;
  }

  async #attempts(compute: Parameters<MetaStore["change"]>[0]): Promise<ChangeOutcome> {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      if (!this.leads) throw new KvError("NOT_LEADER", "this node does not lead the meta group");
      const computed = compute(await this.read());
      if (computed === undefined) return { kind: "unchanged" };
      const { state, change } = computed;
      const revision = await this.#write(changeMutations(state, change));
      if (revision !== undefined) return { kind: "changed", change, revision };
    }
    const detail = "the cluster map changes too fast; try again";
    throw new KvError("UNAVAILABLE", detail, { outcome: "not_applied" });
  }

  /** The group's revision after the write; undefined when the map had changed meanwhile. */
  async #write(mutations: readonly Mutation[]): Promise<Revision | undefined> {
    const body = await new Promise<ResultBody>((resolve) => {
      const late = failureOf("UNAVAILABLE", "the meta group does not answer", {
        notApplied: false,
      });
      const cancel = this.#clock.after(ANSWER_TIMEOUT_MS, () => resolve(late));
      this.#group.write(mutations, this.#clock.nowMs() + CHANGE_TIMEOUT_MS, (answer) => {
        cancel();
        resolve(answer);
      });
    });
    if (body.kind === "failure") {
      const code = errorCodeFromWire(body.code);
      const isRefused = code === "NOT_LEADER" && body.notApplied;
      const outcome = body.notApplied ? "not_applied" : "unknown";
      throw new KvError(isRefused ? "NOT_LEADER" : "UNAVAILABLE", body.detail, { outcome });
    }
    if (body.kind !== "write") throw new KvError("INTERNAL", "a write was answered with a read");
    if (!body.applied) return undefined;
    const revisions = body.mutations.map(({ revision }) => revision);
    return Math.max(...revisions) as Revision;
  }
}
