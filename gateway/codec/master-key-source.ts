/** Where master keys come from: a file, the environment, or a program that knows a key service. */
import { type ExecFileException, execFile } from "node:child_process";
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { MASTER_KEY_COMMAND_MS_MAX, MASTER_KEY_TEXT_BYTES_MAX } from "#shared/limits-codec.ts";
import { ConfigError } from "#shared/runtime/config.ts";
import { type MasterKeys, parseMasterKeys } from "./master-keys.ts";
import type { CodecConfig } from "./settings.ts";

const GROUP_AND_OTHERS = 0o077;

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

/** Looks at the file that is open, so that nobody can put another in its place in between. */
function readKeyFile(path: string): string {
  const refuse = (reason: string) => new ConfigError(`master-key-file ${path}: ${reason}`);
  let file: number;
  try {
    // A FIFO would be waited for.
    file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (error) {
    throw refuse(error instanceof Error ? error.message : String(error));
  }
  try {
    const { mode, size } = fstatSync(file);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw refuse("it is no plain file");
    if (process.platform !== "win32" && (mode & GROUP_AND_OTHERS) !== 0) {
      const found = (mode & 0o777).toString(8).padStart(4, "0");
      throw refuse(`others than its owner can use it (mode ${found}); run chmod 600 on it`);
    }
    if (size > MASTER_KEY_TEXT_BYTES_MAX) throw refuse("it is too large for keys");
    const buffer = Buffer.alloc(MASTER_KEY_TEXT_BYTES_MAX);
    return buffer.toString("utf8", 0, readSync(file, buffer, 0, buffer.length, 0));
  } finally {
    closeSync(file);
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
