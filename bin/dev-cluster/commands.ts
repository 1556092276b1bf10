/**
 * The commands that play with a running cluster. Each is one question to the supervisor, which owns
 * the processes: it alone can start one again, and knows that a process id is still that of its child.
 */

import { clientKey } from "#bin/client-key.ts";
import {
  ConfigError,
  type ConfigInputs,
  type ConfigOf,
  type ConfigSchema,
  loadConfig,
  type Settings,
} from "#shared/runtime/config.ts";
import { helpText } from "#shared/runtime/config-help.ts";
import { EXIT_FAILURE } from "#shared/runtime/shutdown.ts";
import { didYouMean } from "#shared/runtime/suggest.ts";
import {
  addNodeConfig,
  forgetConfig,
  killConfig,
  pauseConfig,
  restartConfig,
  resumeConfig,
  statusConfig,
} from "./command-config.ts";
import { askSupervisor } from "./control-client.ts";
import type { Answer, Command, Target } from "./control-protocol.ts";
import { layoutOf } from "./layout.ts";
import { leaderOfKey } from "./leader.ts";
import { statusText } from "./status-text.ts";

const WAITING_INTERVAL_MS = 5_000;

/** What a command writes to. */
export type Output = { readonly out: (text: string) => void; readonly err: (text: string) => void };

type DevCommand = {
  readonly description: string;
  readonly help: () => string;
  /** @throws ConfigError on wrong use, KvError when the cluster cannot be asked */
  readonly ask: (inputs: ConfigInputs) => Promise<Answer>;
};

function devCommand<S extends Settings>(
  schema: ConfigSchema<S>,
  ask: (config: ConfigOf<S>, operands: readonly string[]) => Promise<Answer>,
): DevCommand {
  return {
    description: schema.description,
    help: () => helpText(schema),
    ask: (inputs) => {
      const { config, operands } = loadConfig(schema, inputs);
      return ask(config, operands);
    },
  };
}

const ask = ({ dir }: { readonly dir: string }, command: Command): Promise<Answer> =>
  askSupervisor(layoutOf(dir), command);

const COMMANDS: ReadonlyMap<string, DevCommand> = new Map([
  ["status", devCommand(statusConfig, (config) => ask(config, { kind: "status" }))],
  [
    "kill",
    devCommand(killConfig, async (config, operands) => {
      const target = await targetOf(config, operands);
      return ask(config, { kind: "kill", target, signal: config.signal });
    }),
  ],
  [
    "pause",
    devCommand(pauseConfig, async (config, operands) => {
      const target = await targetOf(config, operands);
      const forMs = config.forMs === 0 ? null : config.forMs;
      return ask(config, { kind: "pause", target, forMs });
    }),
  ],
  [
    "resume",
    devCommand(resumeConfig, async (config, operands) =>
      ask(config, { kind: "resume", target: await targetOf(config, operands) }),
    ),
  ],
  [
    "restart",
    devCommand(restartConfig, async (config, operands) =>
      ask(config, { kind: "restart", target: await targetOf(config, operands) }),
    ),
  ],
  ["add-node", devCommand(addNodeConfig, (config) => ask(config, { kind: "add-node" }))],
  [
    "forget",
    devCommand(forgetConfig, async (config, operands) =>
      ask(config, { kind: "forget", target: await targetOf(config, operands) }),
    ),
  ],
]);

type TargetConfig = { readonly dir: string; readonly gateway?: number; readonly leaderOf?: string };

/** @throws ConfigError when not exactly one member is named */
async function targetOf(config: TargetConfig, operands: readonly string[]): Promise<Target> {
  const { gateway = 0, leaderOf = "" } = config;
  const [node] = operands;
  const named = [node !== undefined, gateway !== 0, leaderOf !== ""].filter(Boolean).length;
  if (named !== 1) {
    const found = named === 0 ? "none is named" : "several are named";
    throw new ConfigError(`which process? ${found}. See --help of this command.`);
  }
  if (node !== undefined) return { kind: "node", node };
  if (gateway !== 0) return { kind: "gateway", number: gateway };
  const answer = await ask(config, { kind: "status" });
  const gateways = answer.kind === "status" ? answer.status.gateways : [];
  const running = gateways.filter(({ pid }) => pid !== null).map(({ url }) => url);
  const apiKey = clientKey(process.env, undefined);
  return { kind: "node", node: String(await leaderOfKey(leaderOf, running, apiKey)) };
}

/** For `minikv dev --help`. */
export function devCommandsHelp(): string {
  const rows = [...COMMANDS].map(
    ([name, { description }]) => `  ${name.padEnd(9)}  ${description}`,
  );
  return ["While a cluster runs (minikv dev <command> --help):", "", ...rows, ""].join("\n");
}

/**
 * Runs `minikv dev <argv>`, of which the first word names a command.
 *
 * @returns the exit code
 * @throws ConfigError on wrong use, KvError when the cluster cannot be asked
 */
export async function runDevCommand(inputs: ConfigInputs, output: Output): Promise<number> {
  const [name = "", ...argv] = inputs.argv;
  const command = COMMANDS.get(name);
  if (command === undefined) {
    const hint = didYouMean(name, COMMANDS.keys());
    throw new ConfigError(`dev has no command "${name}"${hint}\nSee minikv dev --help.`);
  }
  if (argv.some((word) => word === "--help" || word === "-h")) {
    output.out(command.help());
    return 0;
  }
  const beganMs = performance.now();
  const waiting = setInterval(() => {
    const seconds = Math.round((performance.now() - beganMs) / 1000);
    output.err(`waiting for the supervisor since ${seconds} s; it tells what for where it runs\n`);
  }, WAITING_INTERVAL_MS);
  try {
    const answer = await command.ask({ ...inputs, argv });
    if (answer.kind === "refused") {
      output.err(`minikv: ${answer.message}\n`);
      return EXIT_FAILURE;
    }
    output.out(answer.kind === "status" ? statusText(answer.status) : `${answer.message}\n`);
    return 0;
  } finally {
    clearInterval(waiting);
  }
}
