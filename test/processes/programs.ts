/** Programs that tests use and that are no part of minikv: what is there of them. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Where Debian keeps servers; not on everybody's PATH. */
const MORE_DIRECTORIES = ["/usr/sbin", "/usr/local/sbin"];

/** The path of a program; undefined when it is not installed. */
export function findProgram(name: string): string | undefined {
  const onPath = (process.env.PATH ?? "").split(delimiter).filter((directory) => directory !== "");
  const paths = [...onPath, ...MORE_DIRECTORIES].map((directory) => join(directory, name));
  return paths.find((path) => existsSync(path) && spawnSync(path, ["--version"]).status === 0);
}

/** To be put behind the name of what needs a program: it shows why it is skipped. */
export const skippedWithout = (name: string): string =>
  findProgram(name) === undefined ? ` (skipped: ${name} is not installed)` : "";
