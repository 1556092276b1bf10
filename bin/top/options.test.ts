import { describe, expect, it } from "vitest";
import { parseTopOptions } from "./options.ts";

const parse = (text: string, env: Readonly<Record<string, string>> = {}) =>
  parseTopOptions(text === "" ? [] : text.split(" "), env);

describe("parseTopOptions()", () => {
  it("takes several gateways, each once", () => {
    const parsed = parse("--url http://a:1,http://b:2/ --url http://a:1 --interval 2s --sort lag");
    expect(parsed).toMatchObject({
      kind: "run",
      options: { urls: ["http://a:1", "http://b:2"], intervalMs: 2_000, sort: "lag" },
    });
  });

  it("falls back to the environment, then to this machine", () => {
    const env = { MINIKV_URL: "http://c:3" };
    expect(parse("", env)).toMatchObject({ options: { urls: ["http://c:3"] } });
    expect(parse("--once --json")).toMatchObject({
      options: { urls: ["http://127.0.0.1:8080"], intervalMs: 1_000, isOnce: true, isJson: true },
    });
  });

  it.each([
    ["--url ftp://a", "no URL"],
    ["--interval 10ms", "--interval: expected"],
    ["--interval 2h", "--interval: expected"],
    ["--timeout never", "--timeout: expected"],
    ["--sort size", "--sort: expected"],
    ["--onse", "onse"],
    ["status", "status"],
    [`--url ${Array.from({ length: 17 }, (_, i) => `http://a:${i + 1}`).join(",")}`, "at most 16"],
  ])("%s is wrong", (text, message) => {
    expect(parse(text)).toEqual({ kind: "wrong", message: expect.stringContaining(message) });
  });

  it("--help asks for help, whatever else is there", () => {
    expect(parse("--help --sort lag")).toEqual({ kind: "help" });
  });
});
