/** The end of a process, on a process that is not real. */
import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import { createLogger } from "./log.ts";
import { runUntilSignal, type StopStep, stopWithParent } from "./shutdown.ts";

/** A process that notes how it ended; `ended` resolves at the first `exit`. */
function start(steps: readonly StopStep[], timeoutMs = 60_000) {
  const listeners = new Map<string, (...values: readonly unknown[]) => void>();
  const codes: number[] = [];
  /** Those of them that waited for nothing. */
  const atOnce: number[] = [];
  const messages: string[] = [];
  const { promise: ended, resolve } = Promise.withResolvers<number>();
  let nowMs = 0;
  const write = (line: string) => {
    messages.push((JSON.parse(line) as { msg: string }).msg);
  };
  runUntilSignal({
    logger: createLogger({ level: "debug", program: "test", write }),
    steps,
    timeoutMs,
    monotonicMs: () => nowMs,
    process: {
      on: (event, listener) => listeners.set(event, listener),
      exit: (code) => {
        codes.push(code);
        resolve(code);
      },
      endAtOnce: (code) => {
        codes.push(code);
        atOnce.push(code);
        resolve(code);
      },
    },
  });
  return {
    codes,
    atOnce,
    messages,
    ended,
    emit: (event: string, value?: unknown) => listeners.get(event)!(value),
    advance: (byMs: number) => {
      nowMs += byMs;
    },
  };
}

const never = () => new Promise<void>(() => {});

describe("runUntilSignal()", () => {
  it.each(["SIGTERM", "SIGINT"])(
    "runs the steps in order on %s and exits with 0",
    async (signal) => {
      const order: string[] = [];
      const { emit, ended, atOnce } = start([
        {
          name: "first",
          run: async () => {
            await Promise.resolve();
            order.push("first");
          },
        },
        { name: "second", run: () => void order.push("second") },
      ]);
      emit(signal);
      expect(await ended).toBe(0);
      expect(order).toEqual(["first", "second"]);
      expect(atOnce).toEqual([]);
    },
  );

  it("exits with 1 when a step fails, after running the others", async () => {
    let closed = false;
    const { emit, ended, messages } = start([
      { name: "bad", run: () => Promise.reject(new Error("no")) },
      { name: "good", run: () => void (closed = true) },
    ]);
    emit("SIGTERM");
    expect(await ended).toBe(1);
    expect(closed).toBe(true);
    expect(messages).toContain("failed while stopping");
  });

  it("exits with 1 when time runs out", async () => {
    const { emit, ended, messages, atOnce } = start([{ name: "stuck", run: never }], 1);
    emit("SIGTERM");
    expect(await ended).toBe(1);
    expect(atOnce).toEqual([1]);
    expect(messages).toContain("did not stop in time");
  });

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ])("exits at once on %s as the second signal with %i", (signal, code) => {
    const { emit, atOnce, advance } = start([{ name: "slow", run: never }]);
    emit("SIGTERM");
    advance(600);
    emit(signal);
    expect(atOnce).toEqual([code]);
  });

  it("takes repeats within half a second for one signal", () => {
    const { emit, codes, advance } = start([{ name: "slow", run: never }]);
    emit("SIGINT");
    advance(400);
    emit("SIGINT");
    emit("SIGTERM");
    expect(codes).toEqual([]);
  });

  it.each(["uncaughtException", "unhandledRejection"])("exits with 1 on %s", async (event) => {
    let stopped = false;
    const steps = [{ name: "x", run: () => void (stopped = true) }];
    const { emit, messages, atOnce } = start(steps);
    emit(event, new Error("bug"));
    expect(atOnce).toEqual([1]);
    expect(stopped).toBe(false);
    expect(messages).toEqual(["ending because of an unexpected error"]);
  });
});

describe("stopWithParent()", () => {
  const logger = createLogger({ level: "fatal", program: "test" });
  const turn = () => new Promise((resolve) => setImmediate(resolve));

  it("stops once, when the input ends", async () => {
    const input = new PassThrough();
    let stops = 0;
    stopWithParent(logger, input, () => stops++);
    input.write("what the parent says is not read");
    await turn();
    expect(stops).toBe(0);
    input.end();
    await turn();
    expect(stops).toBe(1);
    input.emit("error", new Error("late"));
    expect(stops).toBe(1);
  });

  it("stops when the input breaks", () => {
    const input = new PassThrough();
    let stops = 0;
    stopWithParent(logger, input, () => stops++);
    input.emit("error", new Error("EIO"));
    expect(stops).toBe(1);
  });
});
