import { Writable } from "node:stream";
import { describe, expect, it } from "vitest";
import { sendLatest } from "./send-latest.ts";

/** A reader that takes one value each time it is told to. */
function setUp() {
  const taken: string[] = [];
  let takeNext = (): void => {};
  const stream = new Writable({
    objectMode: true,
    highWaterMark: 2,
    write: (value: string, _encoding, done) => {
      takeNext = () => {
        taken.push(value);
        done();
      };
    },
  });
  const encoded: number[] = [];
  const send = sendLatest(stream, (value: number) => {
    encoded.push(value);
    return `v${value}`;
  });
  const read = async (): Promise<void> => {
    const take = takeNext;
    takeNext = () => {};
    take();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { stream, send, read, taken, encoded };
}

describe("sendLatest()", () => {
  it("sends all to a reader that keeps up", async () => {
    const { send, read, taken } = setUp();
    for (const value of [1, 2, 3]) {
      send(value);
      await read();
    }
    expect(taken).toEqual(["v1", "v2", "v3"]);
  });

  it("keeps only the newest for one that does not, and sends it in the end", async () => {
    const { stream, send, read, taken, encoded } = setUp();
    for (let value = 1; value <= 1000; value++) send(value);
    expect(encoded.length).toBeLessThanOrEqual(2);
    expect(stream.writableLength).toBeLessThanOrEqual(2);
    for (let i = 0; i < 4; i++) await read();
    expect(taken.at(-1)).toBe("v1000");
    expect(taken.length).toBeLessThanOrEqual(3);
  });

  it("sends nothing to one that has gone", () => {
    const { stream, send, encoded } = setUp();
    stream.destroy();
    send(1);
    expect(encoded).toEqual([]);
  });
});
