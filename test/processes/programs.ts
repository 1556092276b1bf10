/**
 * Programs that tests use and that are no part of minikv: a NATS server, Prometheus and its tools.
 *
 * Where this machine has none they are fetched from Debian, where that can be reached: the packages are
 * unpacked under `node_modules/.cache`, and not installed. So nobody has to be root, no service is started, and
 * nothing on the machine changes. `test/run.ts` does it before the tests; a look whether all is there takes
 * no time. Tests whose program is missing are skipped, and say so.
 */
import { type StdioOptions, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { delimiter, join } from "node:path";

/** One list for all tests. */
const WANTED: readonly DebianProgram[] = [
  { program: "nats-server", package: "nats-server" },
  { program: "promtool", package: "prometheus" },
];

export type DebianProgram = { readonly program: string; readonly package: string };

export type ProgramsOptions = {
  /** Where packages are unpacked, each in a folder of its name. */
  readonly directory?: string;
  readonly path?: string | undefined;
  readonly wanted?: readonly DebianProgram[];
  readonly report?: (line: string) => void;
};

const ROOT = join(import.meta.dirname, "..", "..");
const DIRECTORY = join(ROOT, "node_modules", ".cache", "debian");
/** Where Debian keeps servers; not on everybody's PATH. */
const SERVERS = ["/usr/sbin", "/usr/local/sbin"];
const IN_PACKAGE = ["usr/bin", "usr/sbin"];
const UPDATE_TIMEOUT_MS = 90_000;
const DOWNLOAD_TIMEOUT_MS = 90_000;

/** The path of a program; undefined when there is none. */
export function findProgram(name: string, options: ProgramsOptions = {}): string | undefined {
  const { directory = DIRECTORY, path = process.env.PATH, wanted = WANTED } = options;
  const onPath = (path ?? "").split(delimiter).filter((folder) => folder !== "");
  // A path that was given is all there is.
  const servers = options.path === undefined ? SERVERS : [];
  const unpacked = wanted.flatMap((entry) =>
    IN_PACKAGE.map((folder) => join(directory, entry.package, folder)),
  );
  const folders = [...onPath, ...servers, ...unpacked];
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file));
}

/** To be put behind the name of what needs a program: it shows why it is skipped. */
export const skippedWithout = (name: string): string =>
  findProgram(name) === undefined ? ` (skipped: ${name} is not installed)` : "";

/** Fetches what is missing. Never throws: without it tests are skipped. */
export function fetchPrograms(options: ProgramsOptions = {}): void {
  const { directory = DIRECTORY, path = process.env.PATH, wanted = WANTED } = options;
  const report = options.report ?? ((line: string) => process.stderr.write(`${line}\n`));
  const isMissing = ({ program }: DebianProgram) => findProgram(program, options) === undefined;
  const missing = wanted.filter(isMissing).map((entry) => entry.package);
  if (missing.length === 0) return;
  report(`fetching ${missing.join(", ")} from Debian, for tests (into node_modules/.cache)`);
  let reason: string | undefined;
  try {
    reason = fetchPackages(missing, { directory, env: { ...process.env, PATH: path } });
  } catch (error) {
    reason = String(error);
  }
  for (const { program } of wanted.filter(isMissing)) {
    report(
      `${program} is not installed (${reason ?? "it is not in its package"}): tests that need it are skipped`,
    );
  }
}

type Fetch = { readonly directory: string; readonly env: NodeJS.ProcessEnv };

/** @returns why not, or undefined */
function fetchPackages(packages: readonly string[], { directory, env }: Fetch): string | undefined {
  mkdirSync(directory, { recursive: true });
  const work = mkdtempSync(join(directory, ".fetch-"));
  try {
    const run = (timeout: number, program: string, ...args: readonly string[]) => {
      const stdio: StdioOptions = ["ignore", "ignore", "pipe"];
      const options = { cwd: work, env, timeout, stdio, encoding: "utf8" } as const;
      const { status, error, stderr } = spawnSync(program, args, options);
      if (status === 0) return undefined;
      return (
        error?.message ?? (stderr.trim().split("\n").at(-1) || `${program} ended with ${status}`)
      );
    };
    const failure = download(packages, work, run);
    if (failure !== undefined) return failure;
    for (const file of readdirSync(work).filter((name) => name.endsWith(".deb"))) {
      const name = file.split("_", 1)[0]!;
      const unpacked = join(work, name);
      const problem = run(DOWNLOAD_TIMEOUT_MS, "dpkg-deb", "--extract", file, unpacked);
      if (problem !== undefined) return problem;
      // In one step: what is there is whole. Another run may have been faster.
      if (!existsSync(join(directory, name))) renameSync(unpacked, join(directory, name));
    }
    return undefined;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

type Run = (timeoutMs: number, program: string, ...args: readonly string[]) => string | undefined;

/** With the machine's lists of packages; where it has none, or old ones, with lists of its own. */
function download(packages: readonly string[], work: string, run: Run): string | undefined {
  const get = (...options: readonly string[]) =>
    run(DOWNLOAD_TIMEOUT_MS, "apt-get", "-qq", ...options, "download", ...packages);
  if (get() === undefined) return undefined;
  const lists = join(work, "lists");
  const cache = join(work, "cache");
  mkdirSync(join(lists, "partial"), { recursive: true });
  mkdirSync(join(cache, "archives", "partial"), { recursive: true });
  const own = ["-o", `Dir::State::Lists=${lists}`, "-o", `Dir::Cache=${cache}`];
  // Of some sources only; whether those were enough, the download tells.
  const problem = run(UPDATE_TIMEOUT_MS, "apt-get", "-qq", ...own, "update");
  const failure = get(...own);
  return failure === undefined
    ? undefined
    : `${failure}${problem === undefined ? "" : `; ${problem}`}`;
}
