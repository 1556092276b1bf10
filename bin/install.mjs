/**
 * Installs what is missing: the packages of the lockfile and, with them, the Node that runs
 * everything else. `npm start` and `npm test` run it first.
 *
 * Plain JavaScript without dependencies, because it has to run on whatever Node (20 or newer) the
 * machine has; npm hooks cannot do it, as `.npmrc` switches scripts off. What is there is read from
 * the list that npm leaves in `node_modules` when it has finished, so an interrupted installation
 * is seen as none, and one made by hand counts. When nothing is missing this takes milliseconds.
 *
 * All output goes to stderr: stdout belongs to the program that starts afterwards.
 */
import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, unlinkSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const LOCK_POLL_MS = 250;
/** Installations take a minute or two; on a slow network, more. */
const LOCK_WAIT_MS_MAX = Number(process.env.MINIKV_INSTALL_WAIT_MS) || 15 * 60_000;
const NODE_MAJOR = 26;
const OFFLINE = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ENOTCACHED/;

const say = (text) => process.stderr.write(`minikv: ${text}\n`);

/** Ends this process with a message for the person who started it. */
class InstallError extends Error {}

/**
 * The first reason why the installed packages are not those of the lockfile; undefined when they
 * are. Optional packages may be absent (most are for other platforms), but not in another version. One
 * is needed though it is optional: npm goes on without a word when it could not be downloaded, and on a
 * machine with an older Node nothing would start.
 *
 * @typedef {{version?: string, optional?: boolean, dev?: boolean, os?: string | string[],
 *   cpu?: string | string[], bin?: {node?: string}}} LockedPackage
 * @param {{packages: Record<string, LockedPackage>}} wanted
 * @param {{packages: Record<string, {version?: string}>} | undefined} installed
 * @param {{dev: boolean}} options whether packages for development are needed
 * @returns {string | undefined}
 */
function whatIsMissing(wanted, installed, { dev }) {
  if (installed === undefined) return "no packages are installed";
  for (const [path, entry] of Object.entries(wanted.packages)) {
    if (path === "" || (entry.dev && !dev)) continue;
    const name = path.replace(/^.*node_modules\//, "");
    const found = installed.packages[path];
    const needed = !entry.optional || isNodeForHere(entry);
    if (found === undefined && needed) return `${name} is not installed`;
    if (found !== undefined && found.version !== entry.version) {
      return `${name} is installed in version ${found.version}, not ${entry.version}`;
    }
  }
  return undefined;
}

/** A packaged Node for this platform, on a machine whose own is too old. */
function isNodeForHere({ os, cpu, bin }) {
  if (bin?.node === undefined || ownNodeIsEnough()) return false;
  return [os].flat().includes(process.platform) && [cpu].flat().includes(process.arch);
}

const ownNodeIsEnough = () => Number(process.versions.node.split(".")[0]) >= NODE_MAJOR;

/**
 * Runs `work` while holding the lock file at `path`. A lock whose process has died is taken over.
 *
 * @param {string} path
 * @param {() => Promise<void>} work
 */
async function withLock(path, work) {
  const start = Date.now();
  let waiting = false;
  while (!takeLock(path)) {
    if (!waiting) say("waiting for another installation to finish");
    waiting = true;
    if (Date.now() - start > LOCK_WAIT_MS_MAX) {
      throw new InstallError(
        `another installation has not finished in ${Math.round(LOCK_WAIT_MS_MAX / 1000)} s; if ` +
          `none runs, remove ${path} and ${path}.takeover`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
  }
  try {
    await work();
  } finally {
    unlinkSync(path);
  }
}

function takeLock(path) {
  if (createExclusive(path)) return true;
  if (holderIsAlive(path)) return false;
  // Two processes may find the same dead holder; only one at a time may replace its lock, and only
  // after looking again, or the second would remove the lock that the first has just taken.
  const guard = `${path}.takeover`;
  if (!createExclusive(guard)) return false;
  try {
    if (holderIsAlive(path)) return false;
    unlinkSync(path);
    return createExclusive(path);
  } catch (error) {
    if (error.code === "ENOENT") return false;
    throw error;
  } finally {
    unlinkSync(guard);
  }
}

function createExclusive(path) {
  let descriptor;
  try {
    descriptor = openSync(path, "wx");
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  }
  writeSync(descriptor, String(process.pid));
  closeSync(descriptor);
  return true;
}

function holderIsAlive(path) {
  let pid;
  try {
    pid = Number(readFileSync(path, "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return false;
    throw error;
  }
  // Empty for a moment between its creation and the write of the pid.
  if (!Number.isInteger(pid) || pid <= 0) return true;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code !== "ESRCH";
  }
}

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return undefined;
  }
}

function missingIn(root, options) {
  const wanted = readJson(join(root, "package-lock.json"));
  if (wanted === undefined) throw new InstallError("package-lock.json cannot be read");
  const installed = readJson(join(root, "node_modules", ".package-lock.json"));
  return whatIsMissing(wanted, installed, options);
}

/** npm as this process was started by, or else the one on PATH. */
function npmCommand() {
  const script = process.env.npm_execpath;
  return script?.endsWith(".js") ? [process.execPath, script] : ["npm"];
}

async function runNpmCi(root, { dev }) {
  const [command, ...before] = npmCommand();
  const options = [
    "ci",
    "--loglevel=error",
    "--no-fund",
    "--no-audit",
    ...(dev ? ["--include=dev"] : []),
  ];
  const child = spawn(command, [...before, ...options], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      output += chunk;
      process.stderr.write(chunk);
    });
  }
  const code = await new Promise((resolve, reject) => {
    child.on("error", (error) => {
      reject(new InstallError(`npm cannot be started (${error.message}); install npm`));
    });
    child.on("close", (exitCode, signal) => resolve(exitCode ?? signal));
  });
  if (code === 0) return;
  const hint = OFFLINE.test(output)
    ? "The package registry cannot be reached. Connect this machine, or bring node_modules here " +
      "from one of the same platform."
    : "npm's own message is above.";
  throw new InstallError(`npm ci failed (${code}). ${hint}`);
}

/**
 * Makes sure that the pinned Node starts. On Linux it needs libatomic, which minimal images lack.
 */
function checkPinnedNode(root) {
  const node = join(root, "node_modules", ".bin", "node");
  if (!existsSync(node)) {
    if (ownNodeIsEnough()) return;
    throw new InstallError(
      `there is no packaged Node ${NODE_MAJOR} for ${process.platform}-${process.arch}; install it and ` +
        "put it first on PATH",
    );
  }
  const failure = tryNode(node);
  if (failure === undefined) return;
  if (failure.includes("libatomic") && installLibatomic() && tryNode(node) === undefined) return;
  throw new InstallError(
    `the packaged Node does not start: ${failure}\n` +
      "It needs glibc and libatomic: apt-get install libatomic1, dnf install libatomic.",
  );
}

function tryNode(node) {
  const result = spawnSync(node, ["--version"], { encoding: "utf8" });
  if (result.error !== undefined) return result.error.message;
  return result.status === 0 ? undefined : result.stderr.trim() || `exit ${result.status}`;
}

function installLibatomic() {
  if (process.getuid?.() !== 0 || spawnSync("apt-get", ["--version"]).status !== 0) return false;
  say("installing libatomic1, which Node needs");
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const apt = (...options) =>
    spawnSync("apt-get", ["-qq", ...options], { env, stdio: ["ignore", 2, 2] }).status === 0;
  const install = () => apt("install", "-y", "--no-install-recommends", "libatomic1");
  return install() || (apt("update") && install());
}

async function main() {
  const options = { dev: process.argv.includes("--dev") };
  if (missingIn(ROOT, options) !== undefined) {
    await withLock(join(ROOT, ".install.lock"), async () => {
      const reason = missingIn(ROOT, options);
      if (reason === undefined) return;
      say(`${reason}; installing (npm ci), which takes about a minute`);
      await runNpmCi(ROOT, options);
      const still = missingIn(ROOT, options);
      if (still !== undefined) throw new InstallError(`npm ci ended, but ${still}`);
    });
  }
  checkPinnedNode(ROOT);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof InstallError)) throw error;
    say(error.message);
    process.exitCode = 1;
  }
}
