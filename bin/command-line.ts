/** What the command lines of minikv's clients and tools share: their options, and how what is wrong is told. */
import { type ParseArgsConfig, parseArgs } from "node:util";
import { EXIT_FAILURE, EXIT_USAGE } from "#shared/runtime/shutdown.ts";

export type CliIo = {
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
};

/** The command line is wrong; the message says how, for people. */
export class WrongOption extends Error {}

/** @throws WrongOption for unknown options and missing values, with a message that says which */
export function parsedArgs<Config extends ParseArgsConfig>(
  config: Config,
): ReturnType<typeof parseArgs<Config>> {
  try {
    return parseArgs(config);
  } catch (error) {
    throw new WrongOption(error instanceof Error ? error.message : String(error));
  }
}

/** Says what became of `minikv <command>`. @returns the exit code */
export function failedCli(command: string, error: unknown, io: CliIo): number {
  const message = error instanceof Error ? error.message : String(error);
  const isWrong = error instanceof WrongOption;
  io.error(`minikv ${command}: ${message}\n${isWrong ? `See minikv ${command} --help.\n` : ""}`);
  return isWrong ? EXIT_USAGE : EXIT_FAILURE;
}
