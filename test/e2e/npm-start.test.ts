/**
 * The first minutes of a newcomer: `npm start`, the README's curl lines as they stand there, stop,
 * start again, and everything is still there.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const ROOT = join(import.meta.dirname, "..", "..");
const README_URL = "http://127.0.0.1:8080";
const hasCurl = spawnSync("curl", ["--version"]).status === 0;
/** Against hanging. */
const WAIT = { timeout: 30_000 };

type Server = {
  readonly npm: ChildProcess;
  readonly url: string;
  /** What the server has printed up to its last line so far. */
  readonly output: () => string;
  readonly exited: Promise<number | null>;
};

let folder = "";
let server: Server | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "minikv-start-"));
});

afterEach(async () => {
  // Not SIGKILL: npm could not pass it on, and the server would stay behind.
  server?.npm.kill("SIGTERM");
  await server?.exited;
  rmSync(folder, { recursive: true });
});

/** Runs npm start on a free port and waits until it says that it serves. */
async function npmStart(...options: readonly string[]): Promise<Server> {
  const settings = ["--listen", "127.0.0.1:0", "--data-dir", join(folder, "data")];
  const env = Object.entries(process.env).filter(([name]) => !name.startsWith("MINIKV_"));
  const npm = spawn("npm", ["start", "--", ...settings, ...options], {
    cwd: ROOT,
    env: Object.fromEntries(env),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const exited = new Promise<number | null>((resolve) => npm.on("exit", resolve));
  const url = await new Promise<string>((resolve, reject) => {
    npm.stdout.on("data", (chunk) => {
      output += String(chunk);
      const found = /serves (http:\S+)/.exec(output)?.[1];
      if (found !== undefined) resolve(found);
    });
    npm.stderr.on("data", (chunk) => {
      output += String(chunk);
    });
    void exited.then((code) => reject(new Error(`npm start ended with ${code}:\n${output}`)));
  });
  server = { npm, url, output: () => output, exited };
  return server;
}

/** The lines of the README's code block that begin with curl. */
function readmeCurlLines(): readonly string[] {
  const lines = readFileSync(join(ROOT, "README.md"), "utf8").split("\n");
  return lines.filter((line) => line.startsWith("curl "));
}

/** What goes on until somebody ends it. */
const isStream = (line: string): boolean => line.startsWith("curl -N ");

function run(line: string, url: string): string {
  const command = line.replace("curl ", "curl -sS ").replace(README_URL, url);
  const { stdout, stderr, status } = spawnSync("sh", ["-c", command], { encoding: "utf8" });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  return stdout;
}

describe("npm start", () => {
  it.skipIf(!hasCurl)("answers the README's curl lines as they stand there", async () => {
    const { url } = await npmStart();
    const lines = readmeCurlLines().filter((line) => !isStream(line));
    const answers = lines.map((line) => run(line, url).split("\r\n", 1)[0]);
    expect(answers).toEqual([
      "HTTP/1.1 201 Created",
      "HTTP/1.1 200 OK",
      "HTTP/1.1 200 OK",
      "HTTP/1.1 201 Created",
      // A batch, a page, a stream, a count.
      ...new Array(4).fill("HTTP/1.1 200 OK"),
      // A key, which nobody is asked for here.
      "HTTP/1.1 201 Created",
    ]);
  });

  it.skipIf(!hasCurl)("shows changes to who watches, by the README's line", async () => {
    const { url } = await npmStart();
    const [line = ""] = readmeCurlLines().filter(isStream);
    const watch = spawn("sh", ["-c", `exec ${line.replace(README_URL, url)} -sS -m 60`]);
    try {
      let seen = "";
      watch.stdout.on("data", (chunk) => {
        seen += String(chunk);
      });
      await expect.poll(() => seen, WAIT).toContain("event: progress");
      await fetch(`${url}/v1/kv/a%2F2`, { method: "PUT", body: "two" });
      await expect.poll(() => seen, WAIT).toMatch(/^event: put$[\s\S]*"value":"two"/m);
    } finally {
      watch.kill("SIGKILL");
    }
  });

  it("says what it serves, where the data is, and what to try", async () => {
    const { url, output } = await npmStart();
    expect(output()).toContain(join(folder, "data"));
    await expect.poll(() => output().split("curl ").length - 1).toBe(3);
    const answer = await fetch(`${url}/health/ready`);
    expect(answer.status).toBe(200);
  });

  it.each(["SIGTERM", "SIGINT"] as const)("keeps what it answered over %s", async (signal) => {
    const first = await npmStart();
    const put = await fetch(`${first.url}/v1/kv/kept`, { method: "PUT", body: "value" });
    expect(put.status).toBe(201);
    first.npm.kill(signal);
    await first.exited;
    // npm tells a signal it was sent as it sees fit; the server itself must have stopped in order.
    await expect.poll(() => first.output()).toContain('"msg":"stopped"');
    const second = await npmStart();
    expect(await (await fetch(`${second.url}/v1/kv/kept`)).text()).toBe("value");
  });
});
