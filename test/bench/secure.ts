/**
 * The all-in-one with everything on that guards data: API keys, a tenant's role, encryption under a master
 * key, and compression of values as small as those of the benchmark.
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { exchange } from "./client.ts";
import { minikvProtocolWith } from "./protocol.ts";
import { type MinikvInput, type RunningServer, startMinikv } from "./servers.ts";

const COMPRESS_ABOVE_BYTES = 128;
const COMMAND_TIMEOUT_MS = 30_000;

/** Asked with a key that may read and write, as an application has one. */
export async function startSecureMinikv(
  input: Omit<MinikvInput, "name" | "headers" | "args" | "env">,
): Promise<RunningServer> {
  const rootKey = printedBy(input.root, "root-key");
  const server = await startMinikv({
    ...input,
    headers: bearer(rootKey),
    args: ["--auth", "required", "--compress-above", String(COMPRESS_ABOVE_BYTES)],
    env: { MINIKV_ROOT_KEY: rootKey, MINIKV_MASTER_KEY: printedBy(input.root, "master-key") },
  });
  try {
    const key = await makeKey(server, rootKey);
    const protocol = minikvProtocolWith(bearer(key));
    return { ...server, apiKey: key, target: { ...server.target, protocol } };
  } catch (error) {
    await server.stop();
    throw error;
  }
}

async function makeKey({ target }: RunningServer, rootKey: string): Promise<string> {
  const body = Buffer.from(JSON.stringify({ name: "bench", role: "ReadWrite" }));
  const headers = { "Content-Type": "application/json", ...bearer(rootKey) };
  const request = { method: "POST", path: "/admin/keys", headers, body } as const;
  const answer = await exchange(target, request);
  if (answer.status !== 201) throw new Error(`no key was made: status ${answer.status}`);
  return (JSON.parse(answer.body.toString()) as { readonly key: string }).key;
}

const bearer = (key: string) => ({ Authorization: `Bearer ${key}` });

/** What a command of minikv prints. */
function printedBy(root: string, command: string): string {
  const options = { encoding: "utf8", timeout: COMMAND_TIMEOUT_MS } as const;
  return execFileSync(join(root, "bin", "minikv"), [command], options).trim();
}
