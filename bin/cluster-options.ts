/** The command line of `minikv cluster`: what was asked for, or what is wrong with it. Pure. */
import { NODE_ID_MAX, VSHARD_COUNT } from "#shared/ids.ts";
import { DEADLINE_MS_DEFAULT, DEADLINE_MS_MAX } from "#shared/limits.ts";
import { parseHostPort } from "#shared/runtime/config-value.ts";
import { didYouMean } from "#shared/runtime/suggest.ts";
import { API_KEY_FILE_VARIABLE, API_KEY_VARIABLE } from "./client-key.ts";
import { durationOf, URL_DEFAULT, URL_VARIABLE, urlOf } from "./client-options.ts";
import { parsedArgs, WrongOption } from "./command-line.ts";

export type ClusterCommand =
  | { readonly kind: "status" }
  | { readonly kind: "join"; readonly address: string }
  | { readonly kind: "drain"; readonly node: number; readonly waits: boolean }
  | { readonly kind: "cancelDrain"; readonly node: number }
  | { readonly kind: "remove"; readonly node: number; readonly waits: boolean }
  | { readonly kind: "transfer"; readonly vshard: string; readonly node: number }
  | { readonly kind: "rebalance" };

export type ClusterOptions = {
  readonly command: ClusterCommand;
  /** Without a slash at the end. */
  readonly url: string;
  readonly json: boolean;
  /** Where the key is that is sent with each request; undefined for what the environment says. */
  readonly apiKeyFile: string | undefined;
  /** For each request. */
  readonly timeoutMs: number;
  /** For all of `drain --wait` and `remove --wait`. */
  readonly waitTimeoutMs: number;
};

export type ParsedCluster =
  | { readonly kind: "run"; readonly options: ClusterOptions }
  | { readonly kind: "help"; readonly text: string }
  | { readonly kind: "wrong"; readonly message: string };

const WAIT_TIMEOUT_MS_DEFAULT = 3_600_000;
const WAIT_TIMEOUT_MS_MAX = 30 * 86_400_000;

type CommandName = "status" | "join" | "drain" | "remove" | "transfer" | "rebalance";

/** What each command takes behind its name, and what it does. */
const COMMANDS: Readonly<Record<CommandName, readonly [string, string]>> = {
  status: ["", "Nodes, leaders, lag, sizes, moves, and vshards without a quorum."],
  join: ["ADDRESS", "Invite the storage node that runs at host:port and belongs to no cluster."],
  drain: ["NODE", "Move leaders, then replicas, off a node. Goes on by itself."],
  remove: [
    "NODE",
    "Take out for good a node that is drained, or dead and not needed for a quorum.",
  ],
  transfer: ["VSHARD NODE", 'Hand the leadership of a vshard (0 to 255, or "meta") to a node.'],
  rebalance: ["", "Spread leaders and replicas evenly now."],
};

const OPTION_HELP = `Options:
  --url URL              a gateway; default ${URL_VARIABLE}, else ${URL_DEFAULT}
  --json                 print JSON instead of text
  --api-key-file FILE    with the API key to send; default ${API_KEY_FILE_VARIABLE}, or the key
                         itself in ${API_KEY_VARIABLE}
  --timeout DURATION     for an answer, such as 5s; default 10s, at most 60s
`;
const WAIT_HELP = `  --wait                 show progress, and return when the node is empty (drain) or gone (remove)
  --wait-timeout DURATION  give up waiting (and nothing else) after; default 1h
`;
const DRAIN_HELP = `${WAIT_HELP}  --cancel               stop draining, or removing; what has moved stays where it is
`;
const EXIT_HELP = `
Exit codes: 0 done, 1 refused or failed, 2 wrong command line.
`;

export function helpText(name?: CommandName): string {
  if (name !== undefined) {
    const [takes, does] = COMMANDS[name];
    const usage = ["minikv cluster", name, takes, "[options]"].filter((part) => part !== "");
    const more = name === "drain" ? DRAIN_HELP : name === "remove" ? WAIT_HELP : "";
    return `Usage: ${usage.join(" ")}\n\n${does}\n\n${OPTION_HELP}${more}${EXIT_HELP}`;
  }
  const rows = Object.entries(COMMANDS).map(([command, [takes, does]]) => {
    return `  ${`${command} ${takes}`.padEnd(22)} ${does}\n`;
  });
  return (
    `Usage: minikv cluster <command> [options]\n\n${rows.join("")}\n` +
    `${OPTION_HELP}\nOf drain, and but for --cancel of remove:\n${DRAIN_HELP}${EXIT_HELP}`
  );
}

const SPEC = {
  url: { type: "string" },
  json: { type: "boolean" },
  "api-key-file": { type: "string" },
  timeout: { type: "string" },
  wait: { type: "boolean" },
  "wait-timeout": { type: "string" },
  cancel: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

/** Never throws: wrong use is an ordinary outcome. */
export function parseClusterOptions(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ParsedCluster {
  try {
    const { values, positionals } = parsedArgs({
      ...{ args: [...argv], options: SPEC, allowPositionals: true },
    });
    const [name, ...operands] = positionals;
    if (values.help || name === "help") {
      return { kind: "help", text: helpText(isCommand(name) ? name : undefined) };
    }
    if (name === undefined) throw new WrongOption("a command is missing");
    if (!isCommand(name)) {
      throw new WrongOption(`unknown command "${name}"${didYouMean(name, Object.keys(COMMANDS))}`);
    }
    if (name !== "drain" && values.cancel) throw new WrongOption("--cancel belongs to drain");
    if (name !== "drain" && name !== "remove" && (values.wait || values["wait-timeout"])) {
      throw new WrongOption("--wait and --wait-timeout belong to drain and remove");
    }
    const options: ClusterOptions = {
      command: commandOf(name, operands, values),
      url: urlOf(values.url ?? env[URL_VARIABLE] ?? URL_DEFAULT),
      json: values.json ?? false,
      apiKeyFile: values["api-key-file"],
      timeoutMs: durationOf("timeout", values.timeout, {
        byDefault: DEADLINE_MS_DEFAULT,
        max: DEADLINE_MS_MAX,
      }),
      waitTimeoutMs: durationOf("wait-timeout", values["wait-timeout"], {
        byDefault: WAIT_TIMEOUT_MS_DEFAULT,
        max: WAIT_TIMEOUT_MS_MAX,
      }),
    };
    return { kind: "run", options };
  } catch (error) {
    if (error instanceof WrongOption) return { kind: "wrong", message: error.message };
    throw error;
  }
}

const isCommand = (name: string | undefined): name is CommandName =>
  name !== undefined && Object.hasOwn(COMMANDS, name);

function commandOf(
  name: CommandName,
  operands: readonly string[],
  flags: { readonly wait?: boolean | undefined; readonly cancel?: boolean | undefined },
): ClusterCommand {
  const takes = COMMANDS[name][0];
  const expected = takes === "" ? 0 : takes.split(" ").length;
  if (operands.length !== expected) {
    throw new WrongOption(`${name} takes ${takes === "" ? "nothing" : takes}: see its --help`);
  }
  const [first = "", second = ""] = operands;
  switch (name) {
    case "status":
    case "rebalance":
      return { kind: name };
    case "join":
      if (parseHostPort(first, 1) === undefined)
        throw new WrongOption(`"${first}" is not host:port`);
      return { kind: "join", address: first };
    case "drain":
      if (flags.wait && flags.cancel)
        throw new WrongOption("--wait and --cancel exclude each other");
      return flags.cancel
        ? { kind: "cancelDrain", node: nodeOf(first) }
        : { kind: "drain", node: nodeOf(first), waits: flags.wait ?? false };
    case "remove":
      return { kind: "remove", node: nodeOf(first), waits: flags.wait ?? false };
    case "transfer":
      return { kind: "transfer", vshard: vshardOf(first), node: nodeOf(second) };
  }
}

function nodeOf(text: string): number {
  const node = /^[1-9]\d{0,6}$/.test(text) ? Number(text) : 0;
  if (node >= 1 && node <= NODE_ID_MAX) return node;
  throw new WrongOption(`"${text}" is no node id: see minikv cluster status`);
}

function vshardOf(text: string): string {
  if (text === "meta" || (/^\d{1,3}$/.test(text) && Number(text) < VSHARD_COUNT)) {
    return text === "meta" ? text : String(Number(text));
  }
  throw new WrongOption(`"${text}" is no vshard: 0 to ${VSHARD_COUNT - 1}, or "meta"`);
}
