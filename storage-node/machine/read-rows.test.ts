/** Reading in portions, from engines that answer at once and from those that do not. */
import { describe, expect, it } from "vitest";
import { isPromise } from "#shared/maybe-promise.ts";
import type { Engine, EngineIterator, IterateOptions, Row } from "#storage-node/engine/engine.ts";
import { RowKind } from "#storage-node/engine/layout.ts";
import { DEDUPE_BUCKET_MS } from "./dedupe.ts";
import { expiredKeys } from "./expiry.ts";
import { RETENTION_DEFAULT, trimJournal } from "./journal-trim.ts";
import { loadMachine } from "./load.ts";
import { readRows } from "./read-rows.ts";
import { Driver, GROUP, mutation, put, requestId, START_MS, system } from "./testing.ts";

const row = (byte: number): Row => ({ key: Uint8Array.of(byte), value: Uint8Array.of() });

class Source {
  closed = 0;
  readonly #answers: readonly (() => readonly Row[])[];
  readonly #later: boolean;

  constructor(later: boolean, ...answers: (() => readonly Row[])[]) {
    this.#later = later;
    this.#answers = answers;
  }

  iterate(): EngineIterator {
    let at = 0;
    return {
      next: () => {
        const answer = this.#answers[at++]!;
        return this.#later ? Promise.resolve().then(answer) : answer();
      },
      close: () => {
        this.closed++;
      },
    };
  }
}

const fail = (): never => {
  throw new Error("disk");
};

describe.each([
  ["at once", false],
  ["later", true],
])("readRows() from a source that answers %s", (_, later) => {
  it("hands over all rows in order, then closes", async () => {
    const source = new Source(
      later,
      () => [row(1), row(2)],
      () => [row(3)],
      () => [],
    );
    const seen: number[] = [];
    const reading = readRows(source, {}, 2, ({ key }) => seen.push(key[0]!) > 0);
    expect(isPromise(reading)).toBe(later);
    await reading;
    expect([seen, source.closed]).toEqual([[1, 2, 3], 1]);
  });

  it("stops when told to, then closes", async () => {
    const source = new Source(later, () => [row(1), row(2)], fail);
    const seen: number[] = [];
    await readRows(source, {}, 2, ({ key }) => seen.push(key[0]!) < 1);
    expect([seen, source.closed]).toEqual([[1], 1]);
  });

  it("closes after an error and passes it on", async () => {
    const source = new Source(later, () => [row(1)], fail);
    await expect(async () => readRows(source, {}, 2, () => true)).rejects.toThrow("disk");
    expect(source.closed).toBe(1);
  });
});

/** The same engine, which answers later. */
function slow(engine: Engine): Pick<Engine, "iterate" | "batch" | "write"> {
  return {
    batch: () => engine.batch(),
    write: (batch) => Promise.resolve().then(() => engine.write(batch)),
    iterate: (options: IterateOptions) => {
      const iterator = engine.iterate(options);
      return {
        next: (rowsMax) => Promise.resolve().then(() => iterator.next(rowsMax)),
        close: () => iterator.close(),
      };
    },
  };
}

describe("loading, sweeping and trimming over an engine that answers later", () => {
  it("do what they do over one that answers at once", async () => {
    const driver = new Driver();
    const command = {
      requestId: requestId(1),
      deadlineMs: START_MS,
      mutations: [mutation("named", put("v"))],
    };
    driver.one(START_MS - 2 * DEDUPE_BUCKET_MS, system(mutation("old", put("v"))));
    const answer = driver.one(START_MS, command);
    driver.one(START_MS, system(mutation("short", put("v", 1))));

    const { engine } = driver;
    driver.machine = await loadMachine(GROUP, slow(engine));
    expect(driver.machine.appliedIndex).toBe(3);
    expect(driver.machine.nextExpiryAtMs).toBe(START_MS + 1);
    expect(driver.one(START_MS, command)).toEqual(answer);

    const expired = await expiredKeys(driver.machine, slow(engine), START_MS + 1, 10);
    expect(expired.map(({ key }) => Buffer.from(key).toString())).toEqual(["short"]);

    const limits = {
      ...RETENTION_DEFAULT,
      ...{ revisionsKept: 2, revisionsPerLookMin: 1, rowsMax: 10 },
    };
    expect(await trimJournal(driver.machine, slow(engine), START_MS, limits)).toBe(1);
    expect(driver.rows(RowKind.Journal)).toHaveLength(3);
  });
});
