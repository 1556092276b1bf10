/** Ports for servers that have to come back where they were. */
import { createServer } from "node:net";
import type { Random } from "#shared/random.ts";

const HOST = "127.0.0.1";
/** Below the range from which systems take the ports of outgoing connections. */
const PORT_MIN = 20_000;
const PORT_MAX = 32_000;
const ATTEMPTS_MAX = 100;

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, HOST, () => server.close(() => resolve(true)));
  });
}

export async function freePort(random: Random): Promise<number> {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const port = PORT_MIN + random.below(PORT_MAX - PORT_MIN);
    if (await isFree(port)) return port;
  }
  throw new Error(`no free port from ${PORT_MIN} to ${PORT_MAX}`);
}
