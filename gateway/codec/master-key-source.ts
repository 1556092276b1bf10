/** Where master keys come from: a file, the environment, or a program that knows a key service. */
import { type ExecFileException, execFile } from "node:child_process";
import { MASTER_KEY_COMMAND_MS_MAX, MASTER_KEY_TEXT_BYTES_MAX } from "#shared/limits-codec.ts";
import { ConfigError } from "#shared/runtime/config.ts";
import { readSecretFile } from "#shared/runtime/secret-file.ts";
import { type MasterKeys, parseMasterKeys } from "./master-keys.ts";
import type { CodecConfig } from "./settings.ts";

/** Undefined when no master key is configured. @throws ConfigError, which repeats nothing secret */
export async function loadMasterKeys(
  config: Omit<CodecConfig, "compressAbove">,
): Promise<MasterKeys | undefined> {
  const { masterKeyFile, masterKey, masterKeyCommand } = config;
  if (masterKeyFile !== "") {
    return parsed(`master-key-file ${masterKeyFile}`, readKeyFile(masterKeyFile));
  }
  if (masterKey !== "") return parsed("master-key", masterKey);
  if (masterKeyCommand === "") return undefined;
  return parsed("master-key-command", await runKeyCommand(masterKeyCommand));
}

function parsed(source: string, text: string): MasterKeys {
  try {
    return parseMasterKeys(text);
  } catch (error) {
    throw new ConfigError(`${source}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function readKeyFile(path: string): string {
  try {
    return readSecretFile(path, MASTER_KEY_TEXT_BYTES_MAX).toString("utf8");
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`master-key-file ${path}: ${reason}`);
  }
}

function runKeyCommand(command: string): Promise<string> {
  const [program = "", ...programArguments] = wordsOf(command);
  const options = {
    timeout: MASTER_KEY_COMMAND_MS_MAX,
    maxBuffer: MASTER_KEY_TEXT_BYTES_MAX,
    killSignal: "SIGKILL",
    windowsHide: true,
  } as const;
  return new Promise((resolve, reject) => {
    const child = execFile(program, programArguments, options, (error, stdout) => {
      // Its message has the output in it, which may be a key.
      if (error === null) resolve(stdout);
      else reject(new ConfigError(`master-key-command ${program}: ${whyItFailed(error)}`));
    });
    child.stdin?.end();
  });
}

/** Separated by spaces; one that has spaces itself stands in double quotes. */
const wordsOf = (command: string): readonly string[] =>
  [...command.matchAll(/"([^"]*)"|([^ ]+)/g)].map(([, quoted, bare]) => quoted ?? bare!);

function whyItFailed({ code, killed, signal }: ExecFileException): string {
  if (code === "ERR_CHILD_PROCESS_STDIO_MAXBUFFER") return "it prints too much";
  if (killed === true) return `it took longer than ${MASTER_KEY_COMMAND_MS_MAX} ms`;
  if (typeof code === "string") return `it cannot be started (${code})`;
  return signal ? `it ended by ${signal}` : `it ended with status ${code}`;
}
