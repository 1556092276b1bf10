/** Asks the supervisor of a cluster on this machine. */
import { connect, type Socket } from "node:net";
import { KvError } from "#shared/errors.ts";
import { DEV_ANSWER_SIZE_BYTES_MAX, DEV_START_TIMEOUT_MS } from "#shared/limits.ts";
import { type Answer, type Command, parseAnswer } from "./control-protocol.ts";
import { type Layout, shellWord, socketPath } from "./layout.ts";
import { readLine } from "./line.ts";

/** The slowest command stops a process and starts it again, which may take long as it moves on. */
const ANSWER_TIMEOUT_MS = 3 * DEV_START_TIMEOUT_MS;

/** @throws KvError UNAVAILABLE when no supervisor answers */
export async function askSupervisor(layout: Layout, command: Command): Promise<Answer> {
  const socket = await connected(layout);
  try {
    socket.write(`${JSON.stringify(command)}\n`);
    const line = await readLine(socket, DEV_ANSWER_SIZE_BYTES_MAX, ANSWER_TIMEOUT_MS);
    const answer = parseAnswer(line);
    if (answer !== undefined) return answer;
    throw new KvError("UNAVAILABLE", `the supervisor said what is no answer: ${line}`);
  } catch (error) {
    if (error instanceof KvError) throw error;
    const detail = `the supervisor of ${layout.directory} gave no answer: ${String(error)}`;
    throw new KvError("UNAVAILABLE", detail, { cause: error });
  } finally {
    socket.destroy();
  }
}

function connected({ controlPath, directory }: Layout): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath(controlPath));
    socket.once("connect", () => resolve(socket));
    socket.once("error", (error) => {
      const code = "code" in error ? error.code : undefined;
      const isGone = code === "ENOENT" || code === "ECONNREFUSED";
      const detail = isGone
        ? `no cluster runs in ${directory}. Start one with: minikv dev --nodes 3 --dir ${shellWord(directory)}`
        : `cannot reach the supervisor of ${directory}: ${error.message}`;
      reject(new KvError("UNAVAILABLE", detail, { cause: error }));
    });
  });
}
