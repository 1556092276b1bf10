/**
 * The programs start under plain Node, without a test runner's transforms: a construct that does
 * not erase (an enum, a parameter property) runs under vitest, and fails only where it hurts.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ROOT } from "./source.ts";

/** Without the variables of this machine that are settings. */
const env = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith("MINIKV_")),
);

function node(...options: readonly string[]) {
  return spawnSync(process.execPath, options, { cwd: ROOT, encoding: "utf8", env });
}

const minikv = (...options: readonly string[]) => node(join(ROOT, "bin", "cli.ts"), ...options);

describe("under plain Node", () => {
  it("runs in the version that the lockfile pins", () => {
    expect(process.version).toMatch(/^v26\./);
  });

  it.each(["#bin/dev.ts", "#bin/dev-cluster/main.ts", "#gateway/main.ts", "#storage-node/main.ts"])(
    "%s loads",
    (module) => {
      const { stderr, status } = node("--input-type=module", "--eval", `await import("${module}")`);
      expect(stderr).toBe("");
      expect(status).toBe(0);
    },
  );

  it.each(["dev", "gateway", "storage-node"])("minikv %s --help names its settings", (program) => {
    const { stdout, stderr, status } = minikv(program, "--help");
    expect(stderr).toBe("");
    expect(stdout).toContain(`Usage: minikv ${program}`);
    expect(stdout).toContain("MINIKV_LISTEN");
    expect(status).toBe(0);
  });

  it("minikv dev --help names the commands of a cluster, which have a --help too", () => {
    expect(minikv("dev", "--help").stdout).toMatch(/^ {2}kill .*\n {2}pause /m);
    const { stdout, stderr, status } = minikv("dev", "kill", "--help");
    expect(stderr).toBe("");
    expect(stdout).toContain("Usage: minikv dev kill [NODE]");
    expect(status).toBe(0);
  });

  it.each(["config", "master-key", "root-key"])(
    "minikv %s --help says what it is for",
    (command) => {
      const { stdout, stderr, status } = minikv(command, "--help");
      expect(stderr).toBe("");
      expect(stdout).toMatch(new RegExp(`^Usage: minikv ${command}.*\n\nPrints .*\n.*\n`));
      expect(status).toBe(0);
    },
  );

  it("minikv bench --help names its options", () => {
    const { stdout, stderr, status } = minikv("bench", "--help");
    expect(stderr).toBe("");
    expect(stdout).toContain("Usage: minikv bench");
    expect(status).toBe(0);
  });

  it("minikv cluster --help names its commands", () => {
    const { stdout, stderr, status } = minikv("cluster", "--help");
    expect(stderr).toBe("");
    expect(stdout).toContain("Usage: minikv cluster");
    expect(status).toBe(0);
  });

  it("bin/minikv works from any directory and through a link", () => {
    const folder = mkdtempSync(join(tmpdir(), "minikv-link-"));
    try {
      symlinkSync(join(ROOT, "bin", "minikv"), join(folder, "kv"));
      const options = { cwd: folder, encoding: "utf8", env } as const;
      const { stdout, status } = spawnSync("./kv", ["--version"], options);
      expect(stdout).toMatch(/^minikv \d+\.\d+\.\d+\n$/);
      expect(status).toBe(0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("minikv", () => {
  it.each([
    [["gatway"], "did you mean gateway?"],
    [["dev", "--data-dri", "x"], "did you mean --data-dir?"],
    [["config", "explain", "storage-nod"], "did you mean storage-node?"],
    [["dev", "--listen", "0.0.0.0:8080"], "--insecure-listen"],
    [["dev", "kil", "node-1"], "did you mean kill?"],
    [["dev", "--nodes", "16"], "--nodes: expected a whole number from 0 to 15"],
    [["dev", "--gateways", "2"], "--gateways is for a cluster"],
    [["dev", "--dir", "d"], "--dir is for a cluster"],
    [["dev", "--zones", "a"], "--zones is for a cluster"],
    [["dev", "--nodes", "3", "--zones", "a,,b"], "--zones: expected zone[,zone…]"],
    [["dev", "--nodes", "3", "--data-dir", "d"], "with --nodes it is --dir"],
    [[], "a command is missing"],
  ])("refuses %j with exit code 2 and says what was meant", (argv, message) => {
    const { stdout, stderr, status } = minikv(...argv);
    expect(stderr).toContain(message);
    expect(stdout).toBe("");
    expect(status).toBe(2);
  });

  it("config explain says where each value came from", () => {
    const { stdout, status } = minikv("config", "explain", "gateway", "--log-level", "warn");
    expect(stdout).toMatch(/^log-level +warn +flag --log-level$/m);
    expect(stdout).toMatch(/^listen +127\.0\.0\.1:8080 +default$/m);
    expect(status).toBe(0);
  });
});
