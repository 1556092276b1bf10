/**
 * The command line of minikv: chooses the program, answers `--help` and `--version`, reads the
 * configuration, and hands it to the program.
 *
 * Programs are imported only when they are asked for: a gateway loads no storage engine, and
 * `--help` loads neither. Wrong use says what was meant and exits with 2; a program that cannot
 * start says why and exits with 1.
 */
import { readFileSync } from "node:fs";
import { gatewayConfig } from "#gateway/config.ts";
import {
  ConfigError,
  type ConfigInputs,
  type ConfigOf,
  type ConfigSchema,
  loadConfig,
  type Settings,
} from "#shared/runtime/config.ts";
import type { serverSettings } from "#shared/runtime/config-common.ts";
import { explainText, helpText } from "#shared/runtime/config-help.ts";
import { ServerSignals } from "#shared/runtime/server-signals.ts";
import { EXIT_FAILURE, EXIT_USAGE, stopWithParent } from "#shared/runtime/shutdown.ts";
import { didYouMean } from "#shared/runtime/suggest.ts";
import { VERSION } from "#shared/runtime/version.ts";
import { storageNodeConfig } from "#storage-node/config.ts";
import { devConfig } from "./dev-config.ts";

/** A program that is started with a configuration, and what it tells about itself. */
type Program = {
  readonly description: string;
  readonly help: () => Promise<string>;
  readonly explain: (inputs: ConfigInputs) => string;
  readonly start: (inputs: ConfigInputs) => Promise<void>;
};

/** `again` reads the configuration once more; undefined without a file, which alone can change. */
type Run<Config> = (config: Config, signals: ServerSignals, again?: () => Config) => Promise<void>;

function program<S extends Settings>(
  schema: ConfigSchema<S>,
  load: (config: ConfigOf<S>) => Promise<Run<ConfigOf<S>>>,
  moreHelp: () => Promise<string> = async () => "",
): Program {
  return {
    description: schema.description,
    help: async () => helpText(schema) + (await moreHelp()),
    explain: (inputs) => explainText(schema, loadConfig(schema, inputs)),
    start: async (inputs) => {
      const { config, path } = loadConfig(schema, inputs);
      const signals = new ServerSignals();
      surviveReaders();
      await watchParent(schema.program, config);
      const run = await load(config);
      const again = () => loadConfig(schema, inputs).config;
      await run(config, signals, path === undefined ? undefined : again);
    },
  };
}

/** Whoever read what a server prints may go, or run out of space: no reason to end. */
function surviveReaders(): void {
  process.stdout.on("error", () => {});
}

/** Before anything is loaded: a start that hangs ends with the parent too. */
async function watchParent(
  name: string,
  config: Partial<ConfigOf<typeof serverSettings>>,
): Promise<void> {
  const { exitWithParent = false, logLevel = "info" } = config;
  if (!exitWithParent) return;
  const { createLogger } = await import("#shared/runtime/log.ts");
  stopWithParent(createLogger({ level: logLevel, program: name }));
}

const PROGRAMS: ReadonlyMap<string, Program> = new Map([
  [
    "dev",
    program(
      devConfig,
      async ({ nodes }) => {
        if (nodes === 0) return (await import("./dev.ts")).runDev;
        const { runDevCluster } = await import("./dev-cluster/main.ts");
        return (config, signals) => runDevCluster(config, signals);
      },
      async () => `\n${(await devCommands()).devCommandsHelp()}`,
    ),
  ],
  ["gateway", program(gatewayConfig, async () => (await import("#gateway/main.ts")).runGateway)],
  [
    "storage-node",
    program(storageNodeConfig, async () => (await import("#storage-node/main.ts")).runStorageNode),
  ],
]);

const OTHER_COMMANDS: ReadonlyMap<string, string> = new Map([
  ["dev <command>", "Plays with a cluster on this machine: status, kill, pause, restart, …"],
  ["cluster", "status, join, drain, remove, transfer, rebalance: asks a gateway."],
  ["top", "Shows gateways and nodes live: leaders, throughput, latency, lag, watchers."],
  ["bench", "Loads minikv and, where it is installed, etcd in turns, and compares them."],
  ["audit verify", "FILE… [--anchor HASH]: checks the chain of an audit log, offline."],
  ["certs dev", "[--dir certs] [--host NAME]…: makes certificates for development."],
  ["master-key", "Prints a fresh line for a file of master keys."],
  ["root-key", "Prints a new API key for root-key or root-key-file of a gateway."],
  ["config explain", "[program] [--setting value …]: each setting, its value, where it came from."],
]);

const MASTER_KEY_HELP = `Usage: minikv master-key

Prints a fresh line for a file of master keys, with which values are encrypted. Give the file to every
gateway, and keep a copy where the data is not: without it no value can ever be read again.

  (umask 077; minikv master-key > master-keys)
  minikv gateway --master-key-file master-keys …
`;

const ROOT_KEY_HELP = `Usage: minikv root-key

Prints a new API key, whose holder may do everything as soon as gateways are started with it.

  (umask 077; minikv root-key > root-key)
  minikv gateway --root-key-file root-key …
`;

const CONFIG_HELP = `Usage: minikv config explain [program] [--setting value …]

Prints each setting of dev (the default), gateway or storage-node, its value, and where that came from:
a flag, a variable, the file of --config, or the default. Starts nothing, and masks secrets.
What they mean: minikv dev --help, minikv gateway --help, minikv storage-node --help.
`;

const isHelp = (word: string | undefined): boolean => word === "--help" || word === "-h";

function usage(): string {
  const rows = [...PROGRAMS].map(([name, { description }]) => [name, description]);
  rows.push(...OTHER_COMMANDS);
  const width = Math.max(...rows.map(([name]) => name!.length));
  return [
    "Usage: minikv <command> [--setting value …]",
    "",
    ...rows.map(([name, text]) => `  ${name!.padEnd(width)}  ${text}`),
    "",
    "  minikv <command> --help   its settings, with defaults and units",
    "  minikv --version",
    "",
  ].join("\n");
}

function usageError(message: string): never {
  throw new ConfigError(`${message}\nSee minikv --help.`);
}

async function run(argv: readonly string[]): Promise<void> {
  const [command, ...rest] = argv;
  if (command === undefined) usageError("a command is missing");
  if (isHelp(command) || command === "help") return write(usage());
  if (command === "--version" || command === "version") return write(`minikv ${VERSION}\n`);
  if (command === "config") return explain(rest);
  if (command === "bench") return bench(rest);
  if (command === "cluster") return cluster(rest);
  if (command === "top") return top(rest);
  if (command === "audit") return audit(rest);
  if (command === "certs") return certs(rest);
  if (command === "master-key") return masterKey(rest);
  if (command === "root-key") return rootKey(rest);
  const found = PROGRAMS.get(command);
  if (found === undefined) {
    const others = [
      "audit",
      "bench",
      "certs",
      "cluster",
      "config",
      "master-key",
      "root-key",
      "top",
    ];
    const known = [...PROGRAMS.keys(), ...others];
    usageError(`unknown command "${command}"${didYouMean(command, known)}`);
  }
  if (command === "dev" && rest[0]?.startsWith("-") === false) return devCommand(rest);
  if (rest.some(isHelp)) return write(await found.help());
  await found.start(inputs(rest));
}

function devCommands() {
  return import("./dev-cluster/commands.ts");
}

/** `minikv dev kill …`: for a cluster that runs. */
async function devCommand(argv: readonly string[]): Promise<void> {
  const { runDevCommand } = await devCommands();
  try {
    const err = (text: string) => void process.stderr.write(text);
    process.exitCode = await runDevCommand(inputs(argv), { out: write, err });
  } catch (error) {
    // Nothing was to be started: only what is wrong is said.
    if (error instanceof ConfigError || !(error instanceof Error)) throw error;
    process.stderr.write(`minikv: ${error.message}\n`);
    process.exitCode = EXIT_FAILURE;
  }
}

/** Its options are its own: they describe a measurement, not a server. */
async function bench(argv: readonly string[]): Promise<void> {
  const { runBench } = await import("#test/bench/main.ts");
  process.exitCode = await runBench(argv);
}

/** A client of gateways: it has no settings, only options. */
async function cluster(argv: readonly string[]): Promise<void> {
  const { runClusterCli } = await import("./cluster-cli.ts");
  process.exitCode = await runClusterCli(argv, { env: process.env, out: write, error: complain });
}

/** A client of gateways too. */
async function top(argv: readonly string[]): Promise<void> {
  const { runTopCli } = await import("./top/main.ts");
  const { systemTerminal } = await import("./top/terminal.ts");
  const { env, stdin, stdout } = process;
  const gone = new AbortController();
  // Whoever read it has gone: there is nobody to print for.
  stdout.on("error", () => gone.abort());
  const terminal = systemTerminal(stdin, stdout, env);
  const io = { env, out: write, error: complain, terminal, signal: gone.signal };
  process.exitCode = await runTopCli(argv, io);
}

/** Reads files that a gateway has written: it needs neither settings nor a gateway. */
async function audit(argv: readonly string[]): Promise<void> {
  const { runAuditCli } = await import("./audit-cli.ts");
  process.exitCode = await runAuditCli(argv, { out: write, error: complain });
}

async function certs(argv: readonly string[]): Promise<void> {
  const { runCertsCli } = await import("./certs/certs-cli.ts");
  process.exitCode = await runCertsCli(argv, { out: write, error: complain });
}

/** Its only output is the key: `minikv master-key >> keys`. */
async function masterKey(argv: readonly string[]): Promise<void> {
  if (argv.some(isHelp)) return write(MASTER_KEY_HELP);
  if (argv.length > 0) usageError("master-key takes nothing");
  const { masterKeyLine } = await import("#gateway/codec/master-keys.ts");
  const { systemRandom } = await import("#shared/random.ts");
  write(`${masterKeyLine(systemRandom())}\n`);
}

/** Asks nobody: a key counts when a gateway is started with it. */
async function rootKey(argv: readonly string[]): Promise<void> {
  if (argv.some(isHelp)) return write(ROOT_KEY_HELP);
  if (argv.length > 0) usageError("root-key takes nothing");
  const { formatApiKey, makeApiKey } = await import("#gateway/auth/api-key.ts");
  const { systemRandom } = await import("#shared/random.ts");
  write(`${formatApiKey(makeApiKey(systemRandom()))}\n`);
}

/** `config explain [program] [flags]`; without a program, of the all-in-one. */
async function explain(argv: readonly string[]): Promise<void> {
  const [verb, ...rest] = argv;
  if (argv.some(isHelp)) return write(CONFIG_HELP);
  if (verb !== "explain") usageError("config has one command: minikv config explain [program]");
  const named = rest[0] !== undefined && !rest[0].startsWith("-");
  const name = named ? rest[0]! : "dev";
  const found = PROGRAMS.get(name);
  if (found === undefined) {
    usageError(`unknown program "${name}"${didYouMean(name, PROGRAMS.keys())}`);
  }
  const flags = named ? rest.slice(1) : rest;
  write(found.explain(inputs(flags)));
}

function inputs(argv: readonly string[]): ConfigInputs {
  return { argv, env: process.env, readFile: (path) => readFileSync(path, "utf8") };
}

function write(text: string): void {
  process.stdout.write(text);
}

function complain(text: string): void {
  process.stderr.write(text);
}

try {
  await run(process.argv.slice(2));
} catch (error) {
  if (error instanceof ConfigError) {
    process.stderr.write(`minikv: ${error.message}\n`);
  } else {
    process.stderr.write(`minikv: cannot start: ${describe(error)}\n`);
  }
  // Not only the exit code: what did start may hold the process open.
  process.exit(error instanceof ConfigError ? EXIT_USAGE : EXIT_FAILURE);
}

/** An expected failure (port taken, directory locked) needs no stack; a bug does. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = "code" in error ? error.code : undefined;
  return typeof code === "string" ? error.message : (error.stack ?? error.message);
}
