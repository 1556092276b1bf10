/** What a server process holds: memory after a collection, open files and sockets. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect } from "vitest";
import { type Environment, ROOT } from "#test/processes/minikv.ts";
import type { ServerProcess } from "./server-process.ts";

/** For the `env` of a deployment whose memory is to be measured. */
export const MEASURED: Environment = {
  // A URL: Node takes spaces in a path for the end of the option.
  NODE_OPTIONS: `--import ${pathToFileURL(join(ROOT, "test", "e2e", "report-memory.ts"))}`,
};

/** Bytes of the heap and outside of it that are still referenced. The process must be `MEASURED`. */
export async function heldBytes(server: ServerProcess): Promise<number> {
  const reports = () => server.logRecords().filter(({ msg }) => msg === "memory held");
  const before = reports().length;
  server.signal("SIGUSR2");
  await expect.poll(() => reports().length, { timeout: 20_000 }).toBe(before + 1);
  return Number(reports().at(-1)!.heldBytes);
}

/** Whether `openHandles` works here: only Linux lists them. */
export const canCountHandles = existsSync("/proc/self/fd");

/** Open files and sockets. */
export function openHandles({ pid }: ServerProcess): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}
