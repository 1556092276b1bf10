/**
 * What the engine suite compares an engine with: a sorted list of rows, plainly written.
 */

import { compareBytes, utf8 } from "#shared/bytes.ts";
import type { Engine, EngineIterator, IterateOptions, Row } from "#storage-node/engine/engine.ts";

export type Change = { readonly key: Uint8Array; readonly value: Uint8Array | undefined };

/** A row with its bytes as text, which the test runner compares and prints well. */
export type TextRow = { readonly key: string; readonly value: string };

/** The engine of the running test, and the way to open it again. */
export type Bench = { engine: Engine; reopen(): Promise<void> };

export const put = (key: Uint8Array, value: Uint8Array): Change => ({ key, value });
export const text = (value: Uint8Array | undefined) => value && Buffer.from(value).toString();
export const del = (key: Uint8Array): Change => ({ key, value: undefined });

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

const textRow = ({ key, value }: Row): TextRow => ({ key: hex(key), value: hex(value) });

export class EngineModel {
  readonly #rows = new Map<string, Row>();

  apply(changes: readonly Change[]): void {
    for (const { key, value } of changes) {
      if (value === undefined) this.#rows.delete(hex(key));
      else this.#rows.set(hex(key), { key: key.slice(), value: value.slice() });
    }
  }

  copy(): EngineModel {
    const copy = new EngineModel();
    copy.apply([...this.#rows.values()]);
    return copy;
  }

  get(key: Uint8Array): string | undefined {
    const row = this.#rows.get(hex(key));
    return row && hex(row.value);
  }

  rows({ start, end, reverse, keysOnly }: IterateOptions = {}): readonly TextRow[] {
    const rows = [...this.#rows.values()]
      .filter(({ key }) => start === undefined || compareBytes(key, start) >= 0)
      .filter(({ key }) => end === undefined || compareBytes(key, end) < 0)
      .sort((a, b) => compareBytes(a.key, b.key))
      .map(textRow);
    if (reverse === true) rows.reverse();
    return keysOnly === true ? rows.map(({ key }) => ({ key, value: "" })) : rows;
  }
}

export async function writeChanges(engine: Engine, changes: readonly Change[]): Promise<void> {
  const batch = engine.batch();
  for (const { key, value } of changes) {
    if (value === undefined) batch.delete(key);
    else batch.put(key, value);
  }
  await engine.write(batch);
}

/** Reads to the end and closes. */
export async function readAll(
  iterator: EngineIterator,
  chunkRows = 100,
): Promise<readonly TextRow[]> {
  const rows: TextRow[] = [];
  try {
    while (true) {
      const chunk = await iterator.next(chunkRows);
      if (chunk.length > chunkRows) throw new Error(`${chunk.length} rows instead of ${chunkRows}`);
      if (chunk.length === 0) return rows;
      rows.push(...chunk.map(textRow));
    }
  } finally {
    await iterator.close();
  }
}

/** What a call throws, at once or by its promise; undefined if it does not. */
export async function failureOf(call: () => unknown): Promise<unknown> {
  try {
    await call();
  } catch (error) {
    return error;
  }
  return undefined;
}

/** Keys where an order by signed bytes, by text or by length would differ from the right one. */
export const TRICKY_KEYS = [
  [],
  [0],
  [0, 0],
  [0, 255],
  [1],
  [97],
  [97, 0],
  [97, 0, 0],
  [97, 98],
  [97, 255],
  [98],
  [127],
  [128],
  [128, 0],
  [254, 255],
  [255],
  [255, 0],
  [255, 255],
  [255, 255, 255],
].map((bytes) => Uint8Array.from(bytes));

export const TRICKY_BOUNDS = [
  undefined,
  ...[
    [],
    [0],
    [0, 1],
    [97],
    [97, 0],
    [97, 1],
    [128],
    [129],
    [255],
    [255, 255, 255],
    [255, 255, 255, 0],
  ].map((bytes) => Uint8Array.from(bytes)),
];

/** Writes the tricky keys, last one first, and gives the model of it. */
export async function writeTrickyKeys(engine: Engine): Promise<EngineModel> {
  const changes = TRICKY_KEYS.map((key) => put(key, utf8(`v${hex(key)}`))).reverse();
  await writeChanges(engine, changes);
  const model = new EngineModel();
  model.apply(changes);
  return model;
}
