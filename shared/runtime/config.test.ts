/** Configuration from flags, environment, file and defaults. */
import { describe, expect, it } from "vitest";
import { ConfigError, type ConfigInputs, defineConfig, loadConfig } from "./config.ts";
import { explainText, helpText } from "./config-help.ts";

const schema = defineConfig({
  program: "demo",
  description: "A program.",
  settings: {
    listen: { key: "listen", type: "listen", default: "127.0.0.1:1", description: "Where." },
    dataDir: { key: "data-dir", type: "path", default: "./data", description: "Directory." },
    engine: {
      key: "engine",
      type: "enum",
      values: ["a", "b"],
      default: "a",
      description: "Engine.",
    },
    peers: { key: "peers", type: "addresses", default: "p:1", description: "Peers." },
    sizeBytes: {
      key: "size",
      type: "bytes",
      min: 1,
      max: 2 ** 30,
      default: 2 ** 20,
      description: "Size.",
    },
    quick: { key: "quick", type: "bool", default: false, description: "Quick." },
    token: { key: "token", type: "string", default: "none", secret: true, description: "Token." },
  },
  validate: (config) => (config.quick && config.engine === "b" ? "b is never quick" : undefined),
});

function load(inputs: Partial<ConfigInputs> & { readonly file?: string } = {}) {
  return loadConfig(schema, {
    argv: inputs.argv ?? [],
    env: inputs.env ?? {},
    readFile: (path) => {
      if (inputs.file === undefined || path !== "f.toml") throw new Error(`no file ${path}`);
      return inputs.file;
    },
  });
}

function problem(inputs: Parameters<typeof load>[0]): string {
  try {
    load(inputs);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  return "";
}

const withFile = ["--config", "f.toml"];

describe("loadConfig()", () => {
  it("gives defaults, in the types that the schema says", () => {
    const { config } = load();
    const exact: {
      readonly listen: { readonly host: string; readonly port: number };
      readonly engine: "a" | "b";
      readonly sizeBytes: number;
      readonly quick: boolean;
    } = config;
    expect(exact).toEqual({
      listen: { host: "127.0.0.1", port: 1 },
      dataDir: "./data",
      engine: "a",
      peers: [{ host: "p", port: 1 }],
      sizeBytes: 2 ** 20,
      quick: false,
      token: "none",
    });
    expect(Object.isFrozen(config)).toBe(true);
  });

  it("prefers flag to environment to file to default", () => {
    const file = 'data-dir = "file"\nengine = "b"\nsize = "3KiB"';
    const env = { MINIKV_DATA_DIR: "environment", MINIKV_ENGINE: "a" };
    const { config, sources } = load({ argv: [...withFile, "--data-dir", "flag"], env, file });
    expect(config).toMatchObject({ dataDir: "flag", engine: "a", sizeBytes: 3072 });
    expect(sources).toMatchObject({
      dataDir: { kind: "flag", place: "--data-dir" },
      engine: { kind: "environment", place: "MINIKV_ENGINE" },
      sizeBytes: { kind: "file", place: "f.toml: size" },
      quick: { kind: "default" },
    });
  });

  it("finds the file by MINIKV_CONFIG, and prefers --config", () => {
    const file = "quick = true";
    expect(load({ env: { MINIKV_CONFIG: "f.toml" }, file }).config.quick).toBe(true);
    const both = { argv: withFile, env: { MINIKV_CONFIG: "other.toml" }, file };
    expect(load(both).config.quick).toBe(true);
  });

  it("takes --flag=value, a boolean flag alone, and a list flag several times", () => {
    const argv = ["--data-dir=a=b", "--quick", "--peers", "x:1", "--peers=y:2,z:3"];
    const { config } = load({ argv });
    expect(config).toMatchObject({ dataDir: "a=b", quick: true });
    expect(config.peers.map(({ host }) => host)).toEqual(["x", "y", "z"]);
    expect(load({ argv: ["--quick=false"] }).config.quick).toBe(false);
  });

  it.each([
    [{ argv: ["--data-dri", "x"] }, "unknown flag --data-dri; did you mean --data-dir?"],
    [{ argv: ["serve"] }, 'unexpected argument "serve"'],
    [{ argv: ["--data-dir"] }, "--data-dir needs a value"],
    [{ argv: ["--data-dir", "--quick"] }, "--data-dir needs a value"],
    [{ argv: ["--engine", "a", "--engine", "b"] }, "--engine is given twice"],
    [{ argv: ["--engine", "c"] }, '--engine: expected a, b, got "c"'],
    [{ env: { MINIKV_ENGIN: "a" } }, "unknown environment variable MINIKV_ENGIN; did you mean"],
    [{ env: { MINIKV_SIZE: "0" } }, 'MINIKV_SIZE: expected a size from 1B to 1GiB, got "0"'],
    [{ argv: withFile, file: "engin = 1" }, 'f.toml: unknown key "engin"; did you mean engine?'],
    [{ argv: withFile, file: "[engine]\na = 1" }, "f.toml: engine: expected a string"],
    [{ argv: withFile, file: "quick = 1" }, "f.toml: quick: expected true or false, got 1"],
    [{ argv: withFile, file: "quick = " }, "f.toml: "],
    [{ argv: ["--config", "missing.toml"] }, "cannot read missing.toml"],
    [{ argv: ["--quick", "--engine", "b"] }, "b is never quick"],
  ])("refuses %j", (inputs, message) => {
    expect(problem(inputs)).toContain(message);
  });

  it("shows no line of a file that does not parse: one may hold a secret", () => {
    const file = 'token = "s3cret\nquick = true';
    const message = problem({ argv: withFile, file });
    expect(message).toMatch(/^f\.toml: line [12], column \d+: \S/);
    expect(message).not.toContain("s3cret");
    // Nor a line next to the one that is wrong.
    const near = problem({ argv: withFile, file: 'token = "s3cret"\nquick = ' });
    expect(near).toContain("f.toml: line 2, column ");
    expect(near).not.toContain("s3cret");
    // Nor what stands where a value should: a secret without its quotes.
    expect(problem({ argv: withFile, file: "token = s3cret" })).not.toContain("s3cret");
  });

  it("names all problems at once", () => {
    const lines = problem({ argv: ["--nope", "1", "--size", "x"], env: { MINIKV_NOPE: "1" } });
    expect(lines.split("\n")).toHaveLength(3);
  });

  it("does not take the value of an unknown flag for an argument", () => {
    expect(problem({ argv: ["--nope", "value"] })).not.toContain("unexpected argument");
  });

  it("leaves alone what Kubernetes sets for a service named minikv", () => {
    const env = {
      MINIKV_SERVICE_HOST: "10.0.0.1",
      MINIKV_SERVICE_PORT_HTTP: "80",
      MINIKV_PORT: "tcp://10.0.0.1:80",
      MINIKV_PORT_80_TCP_ADDR: "10.0.0.1",
      MINIKV_GATEWAY_SERVICE_HOST: "10.0.0.2",
    };
    expect(problem({ env })).toBe("");
  });

  it("leaves alone what clients read", () => {
    expect(problem({ env: { MINIKV_URL: "http://127.0.0.1:1" } })).toBe("");
  });

  it("does not repeat a secret that is wrong", () => {
    expect(problem({ env: { MINIKV_TOKEN: "" } })).toBe("MINIKV_TOKEN: expected some text");
  });
});

describe("loadConfig() of a command with operands", () => {
  const command = defineConfig({
    program: "demo look",
    description: "A command of the program.",
    settings: {
      quick: { key: "quick", type: "bool", default: false, description: "Quick." },
      name: { key: "name", type: "string", default: "n", description: "Name." },
    },
    operands: { form: "[PLACE]", countMax: 1 },
    ignoredKeys: ["data-dir"],
    validate: () => undefined,
  });
  const loadCommand = (inputs: Partial<ConfigInputs>) =>
    loadConfig(command, { argv: [], env: {}, readFile: () => 'data-dir = "d"', ...inputs });

  it("tells operands from the values of flags", () => {
    const { config, operands } = loadCommand({ argv: ["--name", "x", "here", "--quick"] });
    expect(config).toEqual({ name: "x", quick: true });
    expect(operands).toEqual(["here"]);
  });

  it.each([
    [["here", "there"], 'unexpected argument "there"'],
    [["-x"], 'unexpected argument "-x"'],
    [["--data-dir", "d"], "unknown flag --data-dir"],
  ])("refuses %j", (argv, message) => {
    expect(() => loadCommand({ argv })).toThrow(message);
  });

  it("passes over another program's keys in environment and file", () => {
    const env = { MINIKV_DATA_DIR: "d" };
    expect(loadCommand({ argv: ["--config", "f"], env }).config.name).toBe("n");
    expect(() => loadCommand({ env: { MINIKV_DATA_DRI: "d" } })).toThrow("MINIKV_DATA_DRI");
    expect(() => loadCommand({ argv: ["--config", "f"], readFile: () => "nope = 1" })).toThrow(
      'unknown key "nope"',
    );
  });

  it("shows them in its help", () => {
    expect(helpText(command)).toContain("Usage: minikv demo look [PLACE] [--setting value …]");
  });
});

describe("explainText()", () => {
  it("masks secrets", () => {
    const text = explainText(schema, load({ env: { MINIKV_TOKEN: "hunter2" } }));
    expect(text).not.toContain("hunter2");
    expect(text).toMatch(/^token +\*+ +environment MINIKV_TOKEN$/m);
  });
});

describe("a secret that is not set", () => {
  it("is shown as nothing, and not as if there were one", () => {
    const { text } = {
      text: { key: "token", type: "string", secret: true, default: "", description: "Token." },
    } as const;
    const settings = { text };
    const validate = () => undefined;
    const without = { program: "demo", description: "A program.", settings, validate };
    expect(helpText(without)).not.toContain("***");
    const loaded = loadConfig(without, { argv: [], env: {}, readFile: () => "" });
    expect(explainText(without, loaded)).toMatch(/^token +default$/m);
  });
});

describe("helpText()", () => {
  it("names every setting's flag, variable and default", () => {
    const text = helpText(schema);
    for (const part of ["--data-dir", "MINIKV_DATA_DIR", "./data", "1MiB", "a | b"]) {
      expect(text).toContain(part);
    }
  });
});
