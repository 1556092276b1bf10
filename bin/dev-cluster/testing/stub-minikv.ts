/**
 * Behaves like `bin/minikv storage-node` and `gateway` as far as a supervisor sees them: prints its line,
 * listens, ends on SIGTERM and with its parent. Stores nothing.
 *
 * What a test wants to go wrong stands in the environment, as the name of the process:
 * `STUB_FAILS` ends at once, `STUB_DEAF` takes no SIGTERM, `STUB_UNREADY` is never ready.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
import { basename, join } from "node:path";

const [program, ...rest] = process.argv.slice(2);
const flags = new Map<string, string>();
for (let at = 0; at < rest.length; at++) {
  const name = rest[at]!;
  const value = rest[at + 1];
  if (value !== undefined && !value.startsWith("--")) {
    flags.set(name, value);
    at++;
  } else flags.set(name, "true");
}
const flag = (name: string): string => flags.get(name) ?? "";

const isNode = program === "storage-node";
const [host = "", port = ""] = flag("--listen").split(":");
const name = isNode ? flag("--host-name") : "gateway";
const isNamed = (variable: string): boolean => process.env[variable] === name;

process.stderr.write(`${JSON.stringify({ msg: "began", args: process.argv.slice(2) })}\n`);
if (isNamed("STUB_FAILS")) {
  process.stderr.write("the disk is on fire\n");
  process.exit(3);
}
process.on("SIGTERM", () => {
  if (!isNamed("STUB_DEAF")) process.exit(0);
});
if (process.env.MINIKV_EXIT_WITH_PARENT === "true") {
  process.stdin.on("end", () => process.exit(0)).resume();
}

/** As a real node's, it is drawn once and kept. */
function nodeId(): number {
  const path = join(flag("--data-dir"), "id");
  mkdirSync(flag("--data-dir"), { recursive: true });
  try {
    return Number(readFileSync(path, "utf8"));
  } catch {
    const number = Number(basename(flag("--data-dir")).replace("node-", ""));
    writeFileSync(path, String(number));
    return number;
  }
}

/** Whether a storage node answers. */
const answers = (address: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(Number(address.split(":")[1]), "127.0.0.1");
    const end = (answered: boolean): void => {
      socket.destroy();
      resolve(answered);
    };
    socket.on("connect", () => end(true)).on("error", () => end(false));
  });

async function status(
  path: string | undefined,
): Promise<{ readonly code: number; readonly body: unknown }> {
  const storage = flag("--storage").split(",");
  const answering = await Promise.all(storage.map(answers));
  if (path?.startsWith("/admin/status") === true) {
    const first = answering.indexOf(true) + 1;
    const groups = Array.from({ length: 256 }, (_, group) => ({ group, leader: first }));
    return { code: 200, body: { groups } };
  }
  const ready = answering.includes(true) && !isNamed("STUB_UNREADY");
  return { code: ready ? 200 : 503, body: { detail: ready ? "ready" : "no storage node answers" } };
}

const server = createServer(async ({ url }, response) => {
  const { code, body } = await status(url);
  response.writeHead(code).end(JSON.stringify(body));
});
server.listen(Number(port), host, () => {
  const address = flag("--listen");
  process.stdout.write(
    isNode
      ? `minikv storage-node 0 serves gRPC on ${address}, node ${nodeId()} of cluster ` +
          `${flag("--cluster-id")}, data in ${flag("--data-dir")}\n`
      : `minikv gateway 0 serves http://${address}, storage nodes ${flag("--storage")}\n`,
  );
});
