/** Every file operation of a log's life fails, fills the disk, stops half way, or is the last one. */
import { describe, expect, it } from "vitest";
import { MISHAP_NAMES, operationsOfLife, tryMishap } from "./wal/every-operation.ts";

describe("a write-ahead log", () => {
  it.each(MISHAP_NAMES)(
    "keeps what it acknowledged after %s, at every operation",
    async (mishap) => {
      const operations = await operationsOfLife();
      let tried = 0;
      for (let number = 1; number <= operations.length; number++) {
        if (await tryMishap(mishap, number)) tried++;
      }
      const kinds = new Set(operations.map(({ kind }) => kind));
      expect(kinds.size).toBe(12);
      expect(tried).toBeGreaterThan(15);
      console.log(`${mishap}: tried at ${tried} of ${operations.length} operations`);
    },
  );
});
