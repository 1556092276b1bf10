/** The command line of torture. */
import { describe, expect, it } from "vitest";
import { parseOptions } from "./options.ts";

const DEFAULTS = { seed: 7, directory: "somewhere" };

describe("parseOptions()", () => {
  it("has defaults for everything", () => {
    const parsed = parseOptions([], DEFAULTS);
    expect(parsed).toMatchObject({
      kind: "run",
      options: { minutes: 5, seed: 7, nodes: 3, gateways: 2, directory: "somewhere" },
    });
  });

  it("reads what is given", () => {
    const argv = ["--minutes", "0.5", "--nodes=5", "--seed", "3", "--faults", "kill,pause"];
    const parsed = parseOptions([...argv, "--fixed-members"], DEFAULTS);
    expect(parsed).toMatchObject({
      kind: "run",
      options: { minutes: 0.5, nodes: 5, seed: 3, membership: false },
    });
    expect(parsed.kind === "run" && [...parsed.options.faults]).toEqual(["kill", "pause"]);
  });

  it.each([
    [["--minutes", "soon"], "--minutes"],
    [["--nodes", "2.5"], "--nodes"],
    [["--nodes", "0"], "--nodes"],
    [["--faults", "kill,earthquake"], "earthquake"],
    [["--perhaps"], "--perhaps"],
    [["more"], "more"],
  ])("%j is refused, and says what is wrong", (argv, named) => {
    const parsed = parseOptions(argv, DEFAULTS);
    expect(parsed.kind === "wrong" && parsed.message).toContain(named);
  });

  it("helps", () => {
    expect(parseOptions(["--help"], DEFAULTS)).toEqual({ kind: "help" });
  });
});
