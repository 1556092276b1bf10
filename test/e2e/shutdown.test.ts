/**
 * SIGTERM while clients work: what has begun is answered, nothing new is taken, the process ends in
 * order and in time, and every write that was answered is there afterwards.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { RawClient } from "#gateway/testing/raw-client.ts";
import { type Deployment, describeEachDeployment } from "./harness.ts";
import { HttpClient } from "./http-client.ts";

const portOf = ({ url }: Deployment): number => Number(new URL(url).port);

/** A PUT of which the body is half sent, and which the server has begun to read. */
async function beginPut(server: Deployment, path: string): Promise<RawClient> {
  const raw = new RawClient(portOf(server));
  raw.request("PUT", path, ["Content-Length: 10", "Expect: 100-continue"]);
  expect((await raw.response()).status).toBe(100);
  raw.send("first");
  return raw;
}

type Load = {
  /** What was answered: value by path. */
  readonly acknowledged: Map<string, string>;
  readonly unexpected: string[];
  /** How each client ended. */
  readonly ends: string[];
  /** Resolves when every client has ended. */
  readonly done: Promise<unknown>;
};

/** Clients that write until their connections are refused. */
function startLoad(server: Deployment, clients: number): Load {
  const acknowledged = new Map<string, string>();
  const unexpected: string[] = [];
  const ends: string[] = [];
  const run = async (number: number): Promise<void> => {
    const client = new HttpClient(server.url);
    for (let count = 0; ; count++) {
      const path = `/v1/kv/load-${number}-${count}`;
      const value = `value ${number} ${count}`.repeat(20);
      try {
        const put = await client.put(path, value);
        if (put.status === 201) acknowledged.set(path, value);
        else unexpected.push(`${put.status} ${put.body.toString()}`);
      } catch (error) {
        ends.push(String((error as { readonly code?: unknown }).code));
        break;
      }
    }
    client.close();
  };
  const done = Promise.all(Array.from({ length: clients }, (_, number) => run(number)));
  return { acknowledged, unexpected, ends, done };
}

describeEachDeployment("SIGTERM", (start) => {
  it("under load ends with 0, and every answered write is there after a restart", async () => {
    const server = await start();
    const { acknowledged, unexpected, ends, done } = startLoad(server, 16);
    await expect.poll(() => acknowledged.size, { timeout: 20_000 }).toBeGreaterThan(200);
    expect(await server.stop()).toBe(0);
    await done;
    expect(unexpected).toEqual([]);
    // Each client got its last answer and was refused when it connected again. A few may have been
    // too slow for that on a busy machine: they find their idle connection closed.
    expect(ends.filter((code) => code === "ECONNREFUSED").length).toBeGreaterThanOrEqual(12);
    expect(server.logRecords().map(({ level }) => level)).not.toContain("error");
    await server.restart();
    const client = new HttpClient(server.url);
    for (const [path, value] of acknowledged) {
      expect([path, (await client.get(path)).body.toString()]).toEqual([path, value]);
    }
    client.close();
  });

  it("lets a request in flight end, and takes no new ones meanwhile", async () => {
    const server = await start();
    const raw = await beginPut(server, "/v1/kv/in-flight");
    const open = new RawClient(portOf(server));
    open.request("GET", "/health/ready");
    expect((await open.response()).status).toBe(200);
    const stopped = server.stop();
    await expect.poll(() => server.logs(), { interval: 5 }).toContain('"msg":"stopping"');
    // Unready at once: a new connection is refused, one that is open is told 503.
    await expect(new HttpClient(server.url).get("/health/ready")).rejects.toThrow(
      /ECONNRE(FUSED|SET)/,
    );
    open.request("GET", "/health/ready");
    expect((await open.response()).status).toBe(503);
    await open.closed;
    await expect(new HttpClient(server.url).put("/v1/kv/too-late", "v")).rejects.toThrow();
    expect(server.gatewayProcess.exit).toBeUndefined();
    raw.send("-last");
    const response = await raw.response();
    expect(response.status).toBe(201);
    expect(response.headers.get("connection")).toBe("close");
    await raw.closed;
    expect(await stopped).toBe(0);
    await server.restart();
    const client = new HttpClient(server.url);
    expect((await client.get("/v1/kv/in-flight")).body.toString()).toBe("first-last");
    expect((await client.get("/v1/kv/too-late")).status).toBe(404);
    client.close();
  });

  it("closes idle connections and ends at once when nothing is in flight", async () => {
    const server = await start();
    const idle = new RawClient(portOf(server));
    idle.request("GET", "/health/live");
    expect((await idle.response()).status).toBe(200);
    expect(await server.stop()).toBe(0);
    await idle.closed;
    expect(idle.rest).toBe("");
    expect(server.logs()).toContain('"msg":"stopped"');
  });

  it("does not wait longer than shutdown-timeout for a client that never ends", async () => {
    const timeout = ["--shutdown-timeout", "4s"];
    const server = await start({ gatewayArgs: timeout });
    const raw = await beginPut(server, "/v1/kv/never");
    const { gatewayProcess } = server;
    gatewayProcess.signal("SIGTERM");
    // Of the default of 30 s a request would have 18, and the process ends in order all the same.
    expect((await gatewayProcess.waitForExit(17_000)).code).toBe(0);
    await raw.closed;
    await server.restart();
    expect((await fetch(`${server.url}/v1/kv/never`)).status).toBe(404);
  });

  it("a second signal ends the process at once with 143", async () => {
    const server = await start();
    const raw = await beginPut(server, "/v1/kv/hanging");
    const { gatewayProcess } = server;
    gatewayProcess.signal("SIGTERM");
    await expect.poll(() => server.logs()).toContain('"msg":"stopping"');
    // Repeats within half a second count as one.
    await sleep(600);
    expect(gatewayProcess.exit).toBeUndefined();
    gatewayProcess.signal("SIGTERM");
    expect((await gatewayProcess.waitForExit()).code).toBe(143);
    await raw.closed;
  });

  it("SIGINT does the same", async () => {
    const server = await start();
    const { gatewayProcess } = server;
    gatewayProcess.signal("SIGINT");
    expect((await gatewayProcess.waitForExit()).code).toBe(0);
  });
});
