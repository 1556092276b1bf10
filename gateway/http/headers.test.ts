import { describe, expect, it } from "vitest";
import { SeededRandom } from "#shared/random.ts";
import { BodyBudget } from "./body-budget.ts";
import { parseDurationMs } from "./duration.ts";
import { createRequestIds } from "./request-id.ts";
import { parseTraceparent } from "./trace-context.ts";

describe("createRequestIds()", () => {
  const requestIds = createRequestIds(new SeededRandom(1));

  it.each(["a", "A-b_c.9", "x".repeat(128)])("keeps %s", (offered) => {
    expect(requestIds(offered)).toBe(offered);
  });

  it.each([undefined, "", "a b", "ä", "x".repeat(129), 'a"b', "a\nb", "a,b"])(
    "makes a fresh one for %j",
    (offered) => {
      const made = requestIds(offered);
      expect(made).toMatch(/^[0-9a-f]{16}-[0-9a-z]+$/);
      expect(requestIds(offered)).not.toBe(made);
    },
  );

  it("makes different ids in different processes", () => {
    const other = createRequestIds(new SeededRandom(2));
    expect(other(undefined).split("-")[0]).not.toBe(requestIds(undefined).split("-")[0]);
  });
});

describe("parseTraceparent()", () => {
  const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
  const spanId = "00f067aa0ba902b7";

  it("gives 25 bytes: trace id, span id, flags", () => {
    const context = parseTraceparent(`00-${traceId}-${spanId}-01`);
    expect(context?.toHex()).toBe(`${traceId}${spanId}01`);
  });

  it("reads the known part of a later version", () => {
    expect(parseTraceparent(`cc-${traceId}-${spanId}-00-more`)?.length).toBe(25);
  });

  it.each([
    undefined,
    "",
    `ff-${traceId}-${spanId}-01`,
    `00-${traceId}-${spanId}-01-more`,
    `00-${"0".repeat(32)}-${spanId}-01`,
    `00-${traceId}-${"0".repeat(16)}-01`,
    `00-${traceId.toUpperCase()}-${spanId}-01`,
    `00-${traceId}-${spanId}`,
  ])("ignores %s", (header) => {
    expect(parseTraceparent(header)).toBeUndefined();
  });
});

describe("parseDurationMs()", () => {
  it.each([
    ["250ms", 250],
    ["5s", 5_000],
    ["2m", 120_000],
    ["1h", 3_600_000],
  ])("reads %s", (text, expectedMs) => {
    expect(parseDurationMs(text, "x", 3_600_000)).toBe(expectedMs);
  });

  it.each(["", "5", "s", "-1s", "1.5s", "1 s", "0s", "2h", "1d", "9999999999s"])(
    "refuses %j",
    (text) => {
      expect(() => parseDurationMs(text, "x", 3_600_000)).toThrow(/^x must be/);
    },
  );
});

describe("BodyBudget", () => {
  it("gives out at most its bound and takes back what was taken", () => {
    const budget = new BodyBudget(10);
    expect(budget.take(10)).toBe(true);
    expect(budget.take(1)).toBe(false);
    expect(budget.heldBytes).toBe(10);
    budget.giveBack(4);
    expect(budget.hasRoom(4)).toBe(true);
    expect(budget.hasRoom(5)).toBe(false);
    expect(() => budget.giveBack(7)).toThrow("invariant");
  });
});
