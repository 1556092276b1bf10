/**
 * Takes commands for the supervisor over a socket in the cluster's directory. Only the user who runs the
 * cluster can reach it; lines, connections and waiting are bounded.
 */
import { rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { DEV_COMMAND_SIZE_BYTES_MAX, DEV_COMMANDS_AT_ONCE_MAX } from "#shared/limits.ts";
import { type Answer, type Command, parseCommand } from "./control-protocol.ts";
import { readLine } from "./line.ts";

const COMMAND_TIMEOUT_MS = 5_000;

export type ControlServer = {
  /** Cuts connections, and removes the socket. */
  close(): Promise<void>;
};

/**
 * Listens on `path`, in place of a socket that an earlier supervisor has left behind: the caller holds
 * the lock of the directory.
 */
export async function serveControl(
  path: string,
  execute: (command: Command) => Promise<Answer>,
): Promise<ControlServer> {
  rmSync(path, { force: true });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    // Whoever asked is gone; what was begun goes on.
    socket.on("error", () => socket.destroy());
    void answer(socket, execute);
  });
  server.maxConnections = DEV_COMMANDS_AT_ONCE_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    // The mode is that of its making: nobody else can connect at any moment.
    const mask = process.umask(0o177);
    try {
      server.listen(path, resolve);
    } finally {
      process.umask(mask);
    }
  });
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

async function answer(
  socket: Socket,
  execute: (command: Command) => Promise<Answer>,
): Promise<void> {
  let result: Answer;
  try {
    const line = await readLine(socket, DEV_COMMAND_SIZE_BYTES_MAX, COMMAND_TIMEOUT_MS);
    const command = parseCommand(line);
    result =
      command === undefined
        ? { kind: "refused", message: "the supervisor does not know this command" }
        : await execute(command);
  } catch (error) {
    result = { kind: "refused", message: String(error) };
  }
  socket.end(`${JSON.stringify(result)}\n`);
}
