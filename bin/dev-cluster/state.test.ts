import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  addressOf,
  newState,
  readState,
  refuseFewerNodes,
  withNodes,
  withoutNode,
  withZones,
  writeState,
} from "./state.ts";
import { temporaryDirectory } from "./testing/temporary.ts";

const three = newState("dev-1", [21_001, 21_002, 21_003], ["a", "b"]);

describe("newState()", () => {
  it("makes founders, which are the seeds, with zones in turns", () => {
    expect(three.nodes.map(({ name, zone, founder }) => [name, zone, founder])).toEqual([
      ["node-1", "a", true],
      ["node-2", "b", true],
      ["node-3", "a", true],
    ]);
    expect(three.seeds).toEqual(three.nodes.map(addressOf));
  });
});

describe("withNodes()", () => {
  it("adds nodes that found nothing, and leaves the seeds alone", () => {
    const five = withNodes(three, [21_004, 21_005], ["a", "b"]);
    expect(five.nodes.slice(3)).toEqual([
      { name: "node-4", port: 21_004, zone: "b", founder: false },
      { name: "node-5", port: 21_005, zone: "a", founder: false },
    ]);
    expect(five.seeds).toEqual(three.seeds);
  });

  it("never gives a name twice", () => {
    const again = withNodes(withoutNode(three, "node-3"), [21_009], []);
    expect(again.nodes.map(({ name }) => name)).toEqual(["node-1", "node-2", "node-4"]);
  });
});

describe("withZones()", () => {
  it("changes zones only when there are some", () => {
    const zones = (state: typeof three) => state.nodes.map(({ zone }) => zone);
    expect(zones(withZones(three, []))).toEqual(["a", "b", "a"]);
    expect(zones(withZones(three, ["x", "y", "z"]))).toEqual(["x", "y", "z"]);
  });
});

describe("refuseFewerNodes()", () => {
  it("refuses fewer nodes only, and says what can be done", () => {
    expect(refuseFewerNodes(three, 2)).toMatch(/has 3 nodes, and 2 were asked for.*--nodes 3/);
    expect(refuseFewerNodes(three, 3)).toBeUndefined();
    expect(refuseFewerNodes(three, 4)).toBeUndefined();
  });
});

describe("readState()", () => {
  it("reads what writeState() wrote, and nothing where nothing is", () => {
    const path = join(temporaryDirectory(), "dev.json");
    expect(readState(path)).toBeUndefined();
    writeState(path, three);
    expect(readState(path)).toEqual(three);
  });

  const with_ = (change: object): string => JSON.stringify({ ...three, ...change });
  const node = three.nodes[0]!;

  it.each([
    ["no JSON", "{"],
    ["no object", "7"],
    ["another format", with_({ format: 2 })],
    ["no nodes", with_({ nodes: undefined })],
    ["a name of no node", with_({ nodes: [{ ...node, name: "../etc" }] })],
    ["a name that is still to be given", with_({ nodes: [{ ...node, name: "node-9" }] })],
    ["a name twice", with_({ nodes: [node, node] })],
    ["a port of no listener", with_({ nodes: [{ ...node, port: 70_000 }] })],
    ["a seed that is no text", with_({ seeds: [1] })],
  ])("refuses %s", (_, text) => {
    const path = join(temporaryDirectory(), "dev.json");
    writeFileSync(path, text);
    expect(() => readState(path)).toThrow(/dev\.json is damaged.*another --dir/);
  });

  it("says why it cannot read", () => {
    expect(() => readState(temporaryDirectory())).toThrow("cannot read");
  });
});
