/**
 * Signals that are no plain request to stop: what has nothing to do with the end of a server goes on, and who does
 * not want to wait for the end gets it at once, with the exit code that it has to have.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it, onTestFinished } from "vitest";
import { RawClient } from "#gateway/testing/raw-client.ts";
import { KEY_HASHES_PER_TENANT_MAX } from "#shared/limits.ts";
import { spawnProgram } from "#test/processes/minikv.ts";
import { describeEachDeployment, startAllInOne, temporaryDirectory } from "./harness.ts";

const BUSY = { timeout: 20_000, interval: 20 };
const NOT_TO_END = ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGPIPE"] as const;
const ROOT_KEY = /^ {2}(mkv_[0-9A-Za-z]{16}_[0-9A-Za-z]{49})$/m;

describeEachDeployment("signals that have nothing to do with the end", (start) => {
  it("are said to have no effect, and the server goes on", async () => {
    const server = await start();
    for (const process of new Set([server.storageProcess, server.gatewayProcess])) {
      for (const signal of NOT_TO_END) process.signal(signal);
      await expect.poll(() => process.stderr, BUSY).toContain("SIGHUP: nothing to reload");
      await expect.poll(() => process.stderr, BUSY).toContain("SIGUSR2: means nothing here");
      expect(process.stderr).not.toContain("Debugger listening");
    }
    const put = await fetch(`${server.url}/v1/kv/a`, { method: "PUT", body: "v" });
    expect(put.status).toBe(201);
    expect(await server.stop()).toBe(0);
  });

  it("change nothing of a stop that has begun", async () => {
    const server = await start();
    const raw = new RawClient(Number(new URL(server.url).port));
    raw.request("PUT", "/v1/kv/b", ["Content-Length: 2", "Expect: 100-continue"]);
    expect((await raw.response()).status).toBe(100);
    const { gatewayProcess } = server;
    const stopped = server.stop();
    await expect.poll(() => gatewayProcess.stderr, BUSY).toContain('"msg":"stopping"');
    for (const signal of NOT_TO_END) gatewayProcess.signal(signal);
    await expect.poll(() => gatewayProcess.stderr, BUSY).toContain("SIGHUP: nothing to reload");
    raw.send("vw");
    expect((await raw.response()).status).toBe(201);
    await raw.closed;
    expect(await stopped).toBe(0);
  });
});

describe("a reader of what it prints that is gone", () => {
  it("does not end a server", async () => {
    const own = ["--listen", "127.0.0.1:0", "--data-dir", join(temporaryDirectory(), "data")];
    const child = spawnProgram(["dev", ...own], {}, ["ignore", "pipe", "pipe"]);
    onTestFinished(() => void child.kill("SIGKILL"));
    const ended = new Promise((resolve) => child.on("close", resolve));
    child.stdout!.destroy();
    let log = "";
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      log += text;
    });
    await expect.poll(() => log, BUSY).toContain('"url":"');
    const [, url] = /"url":"([^"]+)"/.exec(log)!;
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
    child.kill("SIGTERM");
    expect(await ended).toBe(0);
    expect(log).not.toContain("EPIPE");
  });
});

describe("a second signal", () => {
  it("ends minikv dev with its exit code while Argon2 works", async () => {
    const server = await startAllInOne({ args: ["--auth", "required"] });
    const root = await server.gatewayProcess.printed(ROOT_KEY);
    const keys: string[] = [];
    while (keys.length < 48) {
      const made = Array.from({ length: KEY_HASHES_PER_TENANT_MAX }, () => makeKey(server, root));
      keys.push(...(await Promise.all(made)));
    }
    expect(await server.stop()).toBe(0);
    await server.restart();
    const { gatewayProcess } = server;
    // Each is verified for the first time: seconds of work for the two runs at once.
    const asked = keys.map((key) => read(server, key));
    await Promise.race(asked);
    gatewayProcess.signal("SIGINT");
    await expect.poll(() => gatewayProcess.stderr, BUSY).toContain('"msg":"stopping"');
    // Repeats within half a second count as one.
    await sleep(550);
    expect(gatewayProcess.exit).toBeUndefined();
    gatewayProcess.signal("SIGINT");
    expect(await gatewayProcess.waitForExit()).toEqual({ code: 130, signal: null });
    // Some were answered, and those that were not show that there was work left.
    expect(await Promise.all(asked)).toContain("broken off");
  });
});

type Server = { readonly url: string };

async function makeKey({ url }: Server, by: string): Promise<string> {
  const response = await fetch(`${url}/admin/keys`, {
    method: "POST",
    headers: { Authorization: `Bearer ${by}`, "Content-Type": "application/json" },
    body: '{"role":"ReadWrite"}',
  });
  expect(response.status).toBe(201);
  return ((await response.json()) as { readonly key: string }).key;
}

async function read({ url }: Server, key: string): Promise<string> {
  const headers = { Authorization: `Bearer ${key}` };
  try {
    const response = await fetch(`${url}/v1/kv/a`, { headers });
    return String(response.status);
  } catch {
    return "broken off";
  }
}
