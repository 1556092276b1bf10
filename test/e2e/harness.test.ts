/** The harness itself: what the other end-to-end tests take for granted. */
import { existsSync } from "node:fs";
import { expect, it } from "vitest";
import { isAlive } from "./dev-files.ts";
import { type Deployment, describeEachDeployment } from "./harness.ts";

describeEachDeployment("a deployment", (start) => {
  let last: Deployment | undefined;

  it("keeps address, data directory and data over kill9 and restart", async () => {
    const server = await start();
    last = server;
    const { url, dataDir, storageProcess } = server;
    const put = await fetch(`${url}/v1/kv/a`, { method: "PUT", body: "value" });
    expect(put.status).toBe(201);
    await server.kill9();
    expect(storageProcess.exit).toEqual({ code: null, signal: "SIGKILL" });
    await expect(fetch(url)).rejects.toThrow();
    await server.restart();
    expect(server.url).toBe(url);
    expect(server.dataDir).toBe(dataDir);
    expect(server.storageProcess.pid).not.toBe(storageProcess.pid);
    expect(await (await fetch(`${url}/v1/kv/a`)).text()).toBe("value");
    expect(await server.stop()).toBe(0);
    expect(server.logs()).toContain('"msg":"stopped"');
    // Left running on purpose: the next test looks whether it ended with this one.
    await server.restart();
  });

  it("ends with its test, and its directory with it", () => {
    const { dataDir, gatewayProcess, storageProcess } = last!;
    expect(isAlive(gatewayProcess.pid)).toBe(false);
    expect(isAlive(storageProcess.pid)).toBe(false);
    expect(existsSync(dataDir)).toBe(false);
  });

  it("rejects with what was printed when a process refuses to start", async () => {
    await expect(start({ args: ["--no-such-flag"] })).rejects.toThrow(/ended with 2.*no-such/s);
  });
});
