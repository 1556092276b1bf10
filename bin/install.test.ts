/** The installer, run as a process in a folder of its own with an npm that only notes its calls. */
import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const LOCK = {
  packages: {
    "": { version: "1.0.0" },
    "node_modules/a": { version: "1.2.3" },
    "node_modules/@scope/b": { version: "2.0.0", optional: true },
    "node_modules/tool": { version: "3.0.0", dev: true },
  },
};

/** Copies the lockfile into place as the real one does, slowly enough for a second to arrive. */
const FAKE_NPM = `
const fs = require("node:fs");
fs.appendFileSync("calls.txt", process.argv.slice(2).join(" ") + "\\n");
if (fs.existsSync("offline")) {
  console.error("npm error code ENOTFOUND");
  process.exit(1);
}
setTimeout(() => {
  fs.mkdirSync("node_modules/.bin", { recursive: true });
  fs.copyFileSync("package-lock.json", "node_modules/.package-lock.json");
  fs.writeFileSync("node_modules/.bin/node", "#!/bin/sh\\necho v26.0.0\\n", { mode: 0o755 });
}, 300);
`;

let root = "";

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "minikv-install-"));
  mkdirSync(join(root, "bin"));
  copyFileSync(join(import.meta.dirname, "install.mjs"), join(root, "bin", "install.mjs"));
  writeFileSync(join(root, "package-lock.json"), JSON.stringify(LOCK));
  writeFileSync(join(root, "npm-cli.js"), FAKE_NPM);
});

afterEach(() => rmSync(root, { recursive: true }));

/** With the folder of the installer first on PATH, for programs that a test puts there. */
const env = () => ({
  ...process.env,
  npm_execpath: join(root, "npm-cli.js"),
  PATH: `${join(root, "bin")}:${process.env.PATH ?? ""}`,
});

function install(...given: readonly (string | Readonly<Record<string, string>>)[]) {
  const script = join(root, "bin", "install.mjs");
  const options = given.filter((option) => typeof option === "string");
  const variables = given.filter((option) => typeof option !== "string");
  const { stdout, stderr, status } = spawnSync(process.execPath, [script, ...options], {
    env: Object.assign(env(), ...variables),
    encoding: "utf8",
  });
  expect(stdout).toBe("");
  return { stderr, status };
}

function calls(): readonly string[] {
  const path = join(root, "calls.txt");
  return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n") : [];
}

/** Leaves the list that npm writes, with these packages. */
function setInstalled(packages: Readonly<Record<string, { readonly version: string }>>): void {
  mkdirSync(join(root, "node_modules", ".bin"), { recursive: true });
  writeFileSync(join(root, "node_modules", ".package-lock.json"), JSON.stringify({ packages }));
  setPinnedNode("#!/bin/sh\necho v26.0.0\n");
}

function setPinnedNode(script: string): void {
  const path = join(root, "node_modules", ".bin", "node");
  writeFileSync(path, script);
  chmodSync(path, 0o755);
}

describe("install.mjs", () => {
  it("runs npm ci when nothing is installed, and not again afterwards", () => {
    expect(install().status).toBe(0);
    expect(calls()).toHaveLength(1);
    expect(calls()[0]).toMatch(/^ci /);
    expect(install()).toEqual({ stderr: "", status: 0 });
    expect(calls()).toHaveLength(1);
  });

  it("accepts what was installed by hand, without what only other platforms need", () => {
    setInstalled({
      "node_modules/a": { version: "1.2.3" },
      "node_modules/tool": { version: "3.0.0" },
    });
    expect(install("--dev")).toEqual({ stderr: "", status: 0 });
    expect(calls()).toEqual([]);
  });

  it("needs development packages only with --dev", () => {
    setInstalled({ "node_modules/a": { version: "1.2.3" } });
    expect(install().status).toBe(0);
    expect(calls()).toEqual([]);
    expect(install("--dev").stderr).toContain("tool is not installed");
    expect(calls()[0]).toContain("--include=dev");
  });

  it.each([
    ["node_modules/a", "a"],
    ["node_modules/@scope/b", "@scope/b"],
  ])("installs again when %s has another version", (path, name) => {
    setInstalled({ "node_modules/a": { version: "1.2.3" }, [path]: { version: "0.9.0" } });
    expect(install().stderr).toContain(`${name} is installed in version 0.9.0`);
    expect(calls()).toHaveLength(1);
  });

  it("installs once when two start together", async () => {
    const script = join(root, "bin", "install.mjs");
    const run = () =>
      new Promise((resolve) => {
        spawn(process.execPath, [script], { env: env(), stdio: "ignore" }).on("exit", resolve);
      });
    expect(await Promise.all([run(), run(), run()])).toEqual([0, 0, 0]);
    expect(calls()).toHaveLength(1);
    expect(existsSync(join(root, ".install.lock"))).toBe(false);
  });

  it("takes over the lock of a process that has died", () => {
    const { pid } = spawnSync(process.execPath, ["--eval", ""]);
    writeFileSync(join(root, ".install.lock"), String(pid));
    expect(install().status).toBe(0);
    expect(calls()).toHaveLength(1);
  });

  it("gives up on a lock that nobody releases, and says which file to remove", () => {
    writeFileSync(join(root, ".install.lock"), String(process.pid));
    const { stderr, status } = install({ MINIKV_INSTALL_WAIT_MS: "300" });
    expect(stderr).toContain("remove ");
    expect(stderr).toContain(".install.lock");
    expect(status).toBe(1);
    expect(calls()).toEqual([]);
  });

  it("installs again when the packaged Node for this platform is missing and needed", () => {
    const { platform: os, arch: cpu } = process;
    const node = { version: "26.0.0", optional: true, os, cpu, bin: { node: "bin/node" } };
    const packages = { ...LOCK.packages, "node_modules/node-here": node };
    writeFileSync(join(root, "package-lock.json"), JSON.stringify({ packages }));
    setInstalled({ "node_modules/a": { version: "1.2.3" } });
    const own = Number(process.versions.node.split(".")[0]);
    // The installer runs on the Node of this test; pretend that it is an old one.
    const script = join(root, "bin", "install.mjs");
    const text = readFileSync(script, "utf8");
    writeFileSync(script, text.replace("NODE_MAJOR = 26", `NODE_MAJOR = ${own + 1}`));
    expect(install().stderr).toContain("node-here is not installed; installing");
    writeFileSync(script, text.replace("NODE_MAJOR = 26", `NODE_MAJOR = ${own}`));
    setInstalled({ "node_modules/a": { version: "1.2.3" } });
    expect(install()).toEqual({ stderr: "", status: 0 });
  });

  it("says what to do when the registry cannot be reached", () => {
    writeFileSync(join(root, "offline"), "");
    const { stderr, status } = install();
    expect(stderr).toContain("The package registry cannot be reached");
    expect(status).toBe(1);
    expect(existsSync(join(root, ".install.lock"))).toBe(false);
  });

  it.skipIf(process.getuid?.() !== 0)("installs libatomic where it may", () => {
    setInstalled({ "node_modules/a": { version: "1.2.3" } });
    const library = join(root, "libatomic");
    setPinnedNode(`#!/bin/sh\n[ -e ${library} ] || { echo 'no libatomic.so.1' >&2; exit 127; }\n`);
    // The package is only known after an update, as in a minimal image.
    const updated = join(root, "updated");
    const apt = `#!/bin/sh
case "$*" in
  *update*) touch ${updated} ;;
  *install*libatomic1) [ -e ${updated} ] && touch ${library} ;;
esac
`;
    writeFileSync(join(root, "bin", "apt-get"), apt, { mode: 0o755 });
    const { stderr, status } = install();
    expect(stderr).toContain("installing libatomic1");
    expect(status).toBe(0);
    expect(existsSync(library)).toBe(true);
  });

  it("says why the packaged Node does not start", () => {
    setInstalled({ "node_modules/a": { version: "1.2.3" } });
    setPinnedNode(
      "#!/bin/sh\necho 'error while loading shared libraries: libx.so.1' >&2\nexit 127\n",
    );
    const { stderr, status } = install();
    expect(stderr).toContain("libx.so.1");
    expect(stderr).toContain("apt-get install libatomic1");
    expect(status).toBe(1);
  });
});
