/** The command line of the benchmark: defaults, what each option may be, and what is refused. */
import { describe, expect, it } from "vitest";
import { type BenchOptions, HELP, parseOptions } from "./options.ts";

function accepted(...argv: readonly string[]): BenchOptions {
  const parsed = parseOptions(argv, () => 7);
  if (parsed.kind !== "run") throw new Error(`refused: ${JSON.stringify(parsed)}`);
  return parsed.options;
}

function refusal(...argv: readonly string[]): string {
  const parsed = parseOptions(argv, () => 7);
  return parsed.kind === "wrong" ? parsed.message : `accepted: ${JSON.stringify(parsed)}`;
}

describe("parseOptions()", () => {
  it("measures the whole matrix by default, with a drawn seed", () => {
    const options = accepted();
    expect(options.works).toEqual(["put", "get", "mixed"]);
    expect(options.connections).toEqual([16, 64, 256]);
    expect(options.valueSizesBytes).toEqual([256, 4096, 65_536]);
    expect(options.seed).toBe(7);
    expect(options.etcd).toBe(true);
    expect(options.target).toBeUndefined();
  });

  it("narrows to one load with --quick, unless a list says otherwise", () => {
    expect(accepted("--quick").connections).toEqual([64]);
    expect(accepted("--quick").valueSizesBytes).toEqual([256]);
    expect(accepted("--quick", "--sizes", "1k").valueSizesBytes).toEqual([1024]);
    expect(accepted("--connections=8", "--quick").connections).toEqual([8]);
  });

  it("reads lists once per element, sizes with K, and numbers", () => {
    const options = accepted("--work", "get, put,get", "--sizes", "1,64K", "--seed", "0");
    expect(options.works).toEqual(["get", "put"]);
    expect(options.valueSizesBytes).toEqual([1, 65_536]);
    expect(options.seed).toBe(0);
    expect(accepted("--target", "http://127.0.0.1:8080").target?.port).toBe("8080");
    expect(accepted("--no-etcd").etcd).toBe(false);
  });

  it("refuses wrong values by the option's name", () => {
    expect(refusal("--duration", "0")).toContain("--duration");
    expect(refusal("--duration", "1.5")).toContain("--duration");
    expect(refusal("--seed", "-1")).toContain("--seed");
    expect(refusal("--connections", "64,")).toContain("--connections");
    expect(refusal("--sizes", "2048K")).toContain("--sizes");
    expect(refusal("--work", "pot")).toContain("did you mean put?");
    expect(refusal("--generator", "ab")).toContain("--generator");
    expect(refusal("--target", "https://127.0.0.1")).toContain("--target");
    expect(refusal("--target", "http://127.0.0.1/path")).toContain("--target");
  });

  it("refuses unknown options with a suggestion", () => {
    expect(refusal("--conections=4")).toBe(
      "unknown option --conections; did you mean --connections?",
    );
    expect(refusal("put")).toContain("put");
  });

  it("answers --help, which names every option it accepts", () => {
    expect(parseOptions(["--help"], () => 7)).toEqual({ kind: "help" });
    expect(parseOptions(["-h"], () => 7)).toEqual({ kind: "help" });
    const named = [...HELP.matchAll(/^ {2}(--[a-z-]+)/gm)].map((match) => match[1]!);
    expect(named.length).toBeGreaterThan(10);
    for (const name of named) expect(refusal(name)).not.toContain("unknown option");
  });
});
