/**
 * A planted bug: a small change of the source that brings back a mistake which hand-written replicated
 * stores have made. It is applied to a copy of the tree, never here, and a simulator must find it.
 */
import type { SimulationName } from "./simulations.ts";

export type Edit = {
  readonly file: string;
  /** Occurs exactly once in the file. */
  readonly find: string;
  readonly replace: string;
};

export type Mutation = {
  /** Unique; begins with the number of the bug in the list of bugs.ts. */
  readonly name: string;
  /** What goes wrong, in a sentence. */
  readonly what: string;
  readonly edits: readonly Edit[];
  readonly simulation: SimulationName;
  /** Why it is not found yet, for one that is known not to be. */
  readonly open?: string;
};

export const bugOf = (mutation: Mutation): number => Number.parseInt(mutation.name, 10);

/** @throws Error when an edit does not fit the text exactly once */
export function edited(text: string, { file, find, replace }: Edit): string {
  const parts = text.split(find);
  if (parts.length !== 2) {
    throw new Error(`${file}: found ${parts.length - 1} times: ${find}`);
  }
  return parts.join(replace);
}
