/**
 * Configuration: one declarative schema per program, read once at start from flags, environment,
 * file and defaults, in that order of precedence.
 *
 * Every setting has one name: `data-dir` is `--data-dir`, `MINIKV_DATA_DIR` and, in the TOML file
 * named by `--config` or `MINIKV_CONFIG`, `data-dir`. A name that no setting has is refused, with a
 * suggestion: a setting that is silently ignored because of a typing error can cost data. What
 * comes out is an exact readonly object; nothing else in a program looks at the environment.
 */
import { parse as parseToml, TomlError } from "smol-toml";
import {
  defaultValue,
  formatHostPort,
  type HostPort,
  isLoopback,
  type Parsed,
  parseFileValue,
  parseSetting,
  type Setting,
  type SettingValue,
  type ValueOf,
} from "./config-value.ts";
import { didYouMean } from "./suggest.ts";

/** Settings by the name that the program uses, unit last: `shutdownTimeoutMs`. */
export type Settings = Readonly<Record<string, Setting>>;

export type ConfigOf<S extends Settings> = { readonly [K in keyof S]: ValueOf<S[K]> };

export type ConfigSchema<S extends Settings = Settings> = {
  /** The command: `minikv <program>`. */
  readonly program: string;
  /** One sentence for `--help`. */
  readonly description: string;
  readonly settings: S;
  /** Words that are no settings, such as which node is meant. By default there may be none. */
  readonly operands?: {
    /** For `--help`: `NODE`. */
    readonly form: string;
    readonly countMax: number;
  };
  /**
   * Keys of programs that may share environment and file with this one: not used, not refused. On
   * the command line they are refused like any other name.
   */
  readonly ignoredKeys?: readonly string[];
  /** What is wrong with a combination of values, or undefined. */
  readonly validate: (config: ConfigOf<S>) => string | undefined;
};

/** Where a value came from; `place` is what to correct: `--listen`, `MINIKV_LISTEN`, a file. */
export type ConfigSource = {
  readonly kind: "flag" | "environment" | "file" | "default";
  readonly place: string;
};

export type LoadedConfig<S extends Settings> = {
  readonly config: ConfigOf<S>;
  readonly sources: { readonly [K in keyof S]: ConfigSource };
  readonly operands: readonly string[];
  /** Of the configuration file; undefined without one. */
  readonly path: string | undefined;
};

export type ConfigInputs = {
  /** What follows the command on the command line. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Contents of the file at a path, as text. May throw. */
  readonly readFile: (path: string) => string;
};

/** The configuration cannot be used. The message is for the operator: say it and exit with 2. */
export class ConfigError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ConfigError";
  }
}

/** Gives a schema its exact type. */
export function defineConfig<const S extends Settings>(schema: ConfigSchema<S>): ConfigSchema<S> {
  return schema;
}

export const flagName = (setting: Setting): string => `--${setting.key}`;
export const environmentName = (setting: Pick<Setting, "key">): string =>
  `MINIKV_${setting.key.replaceAll("-", "_").toUpperCase()}`;

const CONFIG_FLAG = "--config";
const CONFIG_VARIABLE = "MINIKV_CONFIG";
/** Of clients such as `minikv cluster`; set for a whole shell, it is no mistake. */
const CLIENT_VARIABLES: ReadonlySet<string> = new Set([
  "MINIKV_URL",
  "MINIKV_API_KEY",
  "MINIKV_API_KEY_FILE",
]);

/**
 * Reads the configuration of a program. Pure but for `readFile`.
 * @throws ConfigError with all that was found wrong, one line each
 */
export function loadConfig<const S extends Settings>(
  schema: ConfigSchema<S>,
  inputs: ConfigInputs,
): LoadedConfig<S> {
  const settings = new Map(Object.entries<Setting>(schema.settings));
  const byKey = new Map([...settings].map(([name, setting]) => [setting.key, { name, setting }]));
  const problems: string[] = [];
  const { flags, operands } = readFlags(inputs.argv, { byKey, schema, problems });
  const ignored = new Set(schema.ignoredKeys);
  const variables = readEnvironment(inputs.env, { keys: [...byKey.keys()], ignored, problems });
  const path = flags.get("config") ?? inputs.env[CONFIG_VARIABLE];
  const file = path === undefined ? new Map<string, unknown>() : readTable(path, inputs, problems);
  for (const key of file.keys()) {
    if (!byKey.has(key) && !ignored.has(key)) {
      problems.push(`${path}: unknown key "${key}"${didYouMean(key, byKey.keys())}`);
    }
  }

  const values: Record<string, SettingValue> = {};
  const sources: Record<string, ConfigSource> = {};
  for (const [name, setting] of settings) {
    const found = findValue(setting, { flags, variables, file, path });
    if (found.parsed.kind === "error") {
      problems.push(`${found.source.place}: expected ${found.parsed.expected}${found.got}`);
      continue;
    }
    values[name] = found.parsed.value;
    sources[name] = found.source;
  }
  if (problems.length > 0) throw new ConfigError(problems.join("\n"));
  // Every setting of the schema has got a value of its own type above.
  const config = Object.freeze(values) as ConfigOf<S>;
  const conflict = schema.validate(config);
  if (conflict !== undefined) throw new ConfigError(conflict);
  return { config, sources: sources as LoadedConfig<S>["sources"], operands, path };
}

/**
 * Refuses a listener that other machines can reach, unless it was asked for by name: without TLS and
 * authentication, whoever reaches the port owns the data. `orElse` is a further way out, for people.
 */
export function refuseExposedListener(
  listen: HostPort,
  insecureListen: boolean,
  orElse: string,
): string | undefined {
  if (insecureListen || isLoopback(listen.host)) return undefined;
  return (
    `listen ${formatHostPort(listen)} can be reached by other machines, without TLS and ` +
    `authentication. Listen on 127.0.0.1, ${orElse}or set --insecure-listen ` +
    "(MINIKV_INSECURE_LISTEN=true, insecure-listen = true) where the network is trusted."
  );
}

type Found = { readonly parsed: Parsed; readonly source: ConfigSource; readonly got: string };

function findValue(
  setting: Setting,
  from: {
    readonly flags: ReadonlyMap<string, string>;
    readonly variables: ReadonlyMap<string, string>;
    readonly file: ReadonlyMap<string, unknown>;
    readonly path: string | undefined;
  },
): Found {
  // A wrong secret is not repeated: messages end up in logs.
  const got = (value: unknown) =>
    setting.secret === true ? "" : `, got ${JSON.stringify(value) ?? String(value)}`;
  const flag = from.flags.get(setting.key);
  if (flag !== undefined) {
    const source: ConfigSource = { kind: "flag", place: flagName(setting) };
    return { parsed: parseSetting(setting, flag), source, got: got(flag) };
  }
  const variable = from.variables.get(setting.key);
  if (variable !== undefined) {
    const source: ConfigSource = { kind: "environment", place: environmentName(setting) };
    return { parsed: parseSetting(setting, variable), source, got: got(variable) };
  }
  if (from.file.has(setting.key)) {
    const value = from.file.get(setting.key);
    const source: ConfigSource = { kind: "file", place: `${from.path}: ${setting.key}` };
    return { parsed: parseFileValue(setting, value), source, got: got(value) };
  }
  const source: ConfigSource = { kind: "default", place: "default" };
  return { parsed: { kind: "ok", value: defaultValue(setting) }, source, got: "" };
}

/** The text of each flag by key; a list flag given several times is joined with commas. */
function readFlags(
  argv: readonly string[],
  to: {
    readonly byKey: ReadonlyMap<string, { readonly setting: Setting }>;
    readonly schema: Pick<ConfigSchema, "operands">;
    readonly problems: string[];
  },
): { readonly flags: ReadonlyMap<string, string>; readonly operands: readonly string[] } {
  const { byKey, schema, problems } = to;
  const operandsMax = schema.operands?.countMax ?? 0;
  const flags = new Map<string, string>();
  const operands: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i]!;
    const match = /^--([^=]+)(?:=(.*))?$/s.exec(argument);
    if (!match && operands.length < operandsMax && !argument.startsWith("-")) {
      operands.push(argument);
      continue;
    }
    if (!match) {
      problems.push(`unexpected argument "${argument}": settings are given as --name value`);
      continue;
    }
    const key = match[1]!;
    const setting = byKey.get(key)?.setting;
    if (setting === undefined && key !== "config") {
      const known = [...byKey.keys(), "config", "help"].map((name) => `--${name}`);
      problems.push(`unknown flag --${key}${didYouMean(`--${key}`, known)}`);
      // Its value, if it has one, is not an argument of its own.
      if (match[2] === undefined && argv[i + 1]?.startsWith("--") === false) i++;
      continue;
    }
    let text = match[2];
    if (setting?.neverAsFlag) {
      const other = `${environmentName(setting)} or the configuration file`;
      problems.push(`--${key} would show in the list of processes: use ${other}`);
      if (text === undefined && argv[i + 1]?.startsWith("--") === false) i++;
      continue;
    }
    if (text === undefined && setting?.type === "bool") text = "true";
    if (text === undefined) {
      text = argv[i + 1];
      if (text === undefined || text.startsWith("--")) {
        problems.push(`--${key} needs a value`);
        continue;
      }
      i++;
    }
    const earlier = flags.get(key);
    if (earlier !== undefined && setting?.type !== "addresses") {
      problems.push(`--${key} is given twice`);
    }
    flags.set(key, earlier === undefined ? text : `${earlier},${text}`);
  }
  return { flags, operands };
}

/**
 * Variables that Kubernetes sets in every container for each service of the namespace. A service
 * named "minikv" yields names that begin like ours; they are not settings and not mistakes.
 */
const KUBERNETES_SERVICE_VARIABLE =
  /^MINIKV_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/;

function readEnvironment(
  env: ConfigInputs["env"],
  to: {
    readonly keys: readonly string[];
    readonly ignored: ReadonlySet<string>;
    readonly problems: string[];
  },
): ReadonlyMap<string, string> {
  const byVariable = (keys: Iterable<string>) =>
    new Map([...keys].map((key) => [environmentName({ key }), key] as const));
  const keyByVariable = byVariable(to.keys);
  const ignored = byVariable(to.ignored);
  const variables = new Map<string, string>();
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || !name.startsWith("MINIKV_") || name === CONFIG_VARIABLE) continue;
    if (CLIENT_VARIABLES.has(name)) continue;
    const key = keyByVariable.get(name);
    if (key !== undefined) {
      variables.set(key, value);
    } else if (!ignored.has(name) && !KUBERNETES_SERVICE_VARIABLE.test(name)) {
      const known = [...keyByVariable.keys(), CONFIG_VARIABLE];
      to.problems.push(`unknown environment variable ${name}${didYouMean(name, known)}`);
    }
  }
  return variables;
}

function readTable(
  path: string,
  inputs: ConfigInputs,
  problems: string[],
): ReadonlyMap<string, unknown> {
  let text: string;
  try {
    text = inputs.readFile(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    problems.push(`${CONFIG_FLAG} (${CONFIG_VARIABLE}): cannot read ${path}: ${reason}`);
    return new Map();
  }
  try {
    return new Map<string, unknown>(Object.entries(parseToml(text)));
  } catch (cause) {
    problems.push(`${path}: ${tomlProblem(cause)}`);
    return new Map();
  }
}

/** Where and what, without the lines of the file that the parser shows: one may hold a secret. */
function tomlProblem(cause: unknown): string {
  if (!(cause instanceof TomlError)) return "is no TOML";
  const [what = ""] = cause.message.split("\n", 1);
  return `line ${cause.line}, column ${cause.column}: ${what.replace(/^Invalid TOML document: /, "")}`;
}
