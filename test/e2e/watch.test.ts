/**
 * Watches over real processes: three gateways in front of one storage node. Clients go from one to the other, and
 * what one gateway is told about keys and tenants ends watches at all of them.
 */
import { join } from "node:path";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { gatewayArguments } from "#test/processes/cluster-arguments.ts";
import { SERVES_GRPC, SERVES_HTTP } from "#test/processes/minikv.ts";
import { spawnMinikv, temporaryDirectory, waitForReadiness } from "./harness.ts";
import type { ServerProcess } from "./server-process.ts";
import { WatchClient } from "./watch-client.ts";
import { WatchPage } from "./watch-page.ts";

const REQUIRED = ["--auth", "required"];
const ROOT_KEY = /^ {2}(mkv_[0-9A-Za-z]{16}_[0-9A-Za-z]{49})$/m;
/** Against hanging, not a measure: the machine may be busy. */
const BUSY = { timeout: 30_000, interval: 20 };

const processes: ServerProcess[] = [];
const urls: string[] = [];
let storage: string;
let root: string;
const clients: { close(): void }[] = [];

const startGateway = (): ServerProcess =>
  spawnMinikv(gatewayArguments("127.0.0.1:0", [storage], REQUIRED));

beforeAll(async () => {
  const data = join(temporaryDirectory(), "d");
  const node = spawnMinikv(["storage-node", "--listen", "127.0.0.1:0", "--data-dir", data]);
  storage = await node.printed(SERVES_GRPC);
  for (let i = 0; i < 3; i++) processes.push(startGateway());
  urls.push(...(await Promise.all(processes.map((gateway) => gateway.printed(SERVES_HTTP)))));
  root = await Promise.any(processes.map((gateway) => gateway.printed(ROOT_KEY)));
  await Promise.all(urls.map((url) => waitForReadiness(url, 200)));
}, 120_000);
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});

const bearer = (key: string) => ({ Authorization: `Bearer ${key}` });

async function ask(url: string, key: string, path: string, method = "GET", body?: object | string) {
  const isJson = typeof body === "object";
  const response = await fetch(`${url}${path}`, {
    ...{
      method,
      headers: { ...bearer(key), ...(isJson ? { "Content-Type": "application/json" } : {}) },
    },
    ...(body === undefined ? {} : { body: isJson ? JSON.stringify(body) : body }),
  });
  const text = await response.text();
  return {
    status: response.status,
    json: (text === "" ? {} : JSON.parse(text)) as Record<string, string>,
  };
}

const put = async (url: string, key: string, name: string): Promise<void> => {
  const { status } = await ask(url, key, `/v1/kv/${encodeURIComponent(name)}`, "PUT", "value");
  expect([200, 201]).toContain(status);
};

/** A key that all gateways have heard of. */
async function newKey(body: object): Promise<{ readonly id: string; readonly key: string }> {
  const { status, json } = await ask(urls[0]!, root, "/admin/keys", "POST", body);
  expect(status).toBe(201);
  for (const url of urls) {
    await expect.poll(async () => (await ask(url, json.key!, "/v1/limits")).status, BUSY).toBe(200);
  }
  return json as unknown as { readonly id: string; readonly key: string };
}

type Kind = "sse" | "socket";

async function watch(
  url: string,
  query: string,
  key: string,
  kind: Kind = "sse",
): Promise<WatchClient> {
  const path = kind === "sse" ? "/v1/watch" : "/v1/watch/ws";
  const client = await WatchClient[kind](`${url}${path}${query}`, bearer(key));
  clients.push(client);
  await expect.poll(() => client.events[0]?.event, BUSY).toBe("progress");
  return client;
}

describe("watches over gateways", () => {
  it("see what is written at any of them, and go on at another one", async () => {
    const { key } = await newKey({ role: "ReadWrite" });
    const sse = await watch(urls[0]!, "?prefix=w/&values=true", key);
    const socket = await watch(urls[1]!, "?prefix=w/&ops=delete", key, "socket");
    for (const [i, url] of urls.entries()) await put(url, key, `w/${i}`);
    await put(urls[2]!, key, "other");
    await ask(urls[2]!, key, "/v1/kv/w%2F1", "DELETE");
    const all = ["put w/0", "put w/1", "put w/2", "delete w/1"];
    await expect.poll(() => [...sse.changes].sort(), BUSY).toEqual([...all].sort());
    await expect.poll(() => socket.changes, BUSY).toEqual(["delete w/1"]);
    expect(sse.events.find(({ event }) => event === "put")?.data).toMatchObject({ value: "value" });
    const { token } = sse;
    sse.close();
    await put(urls[0]!, key, "w/3");
    const again = await watch(urls[2]!, `?prefix=w/&since=${token}`, key, "socket");
    await expect.poll(() => again.changes, BUSY).toEqual(["put w/3"]);
    // Of what was changed before it began, it has seen nothing.
    expect(socket.changes).toEqual(["delete w/1"]);
  });

  it("are of one tenant each", async () => {
    await ask(urls[0]!, root, "/admin/tenants", "POST", { name: "other" });
    const made = await ask(urls[0]!, root, "/admin/keys", "POST", {
      role: "Admin",
      tenant: "other",
    });
    const other = made.json.key!;
    const { key } = await newKey({ role: "ReadWrite" });
    for (const url of urls) {
      await expect.poll(async () => (await ask(url, other, "/v1/limits")).status, BUSY).toBe(200);
    }
    const mine = await watch(urls[0]!, "", key);
    const theirs = await watch(urls[0]!, "", other, "socket");
    await put(urls[1]!, key, "same");
    await put(urls[1]!, other, "same");
    await put(urls[1]!, key, "mine");
    await put(urls[1]!, other, "theirs");
    await expect.poll(() => mine.changes.includes("put mine"), BUSY).toBe(true);
    await expect.poll(() => theirs.changes.includes("put theirs"), BUSY).toBe(true);
    expect([...mine.changes].sort()).toEqual(["put mine", "put same"]);
    expect([...theirs.changes].sort()).toEqual(["put same", "put theirs"]);
    const { token } = mine;
    await expect(
      WatchClient.socket(`${urls[0]}/v1/watch/ws?since=${token}`, bearer(other)),
    ).rejects.toThrow("400");
  });

  it("end at all gateways when their key is revoked, and only those", async () => {
    const revoked = await newKey({ role: "ReadOnly" });
    const { key: kept } = await newKey({ role: "ReadOnly" });
    const ending = [
      ...(await Promise.all(urls.map((url) => watch(url, "?prefix=r/", revoked.key)))),
      ...(await Promise.all(urls.map((url) => watch(url, "?prefix=r/", revoked.key, "socket")))),
    ];
    const staying = await Promise.all(urls.map((url) => watch(url, "?prefix=r/", kept)));
    const { status } = await ask(urls[1]!, root, `/admin/keys/${revoked.id}/revoke`, "POST");
    expect(status).toBe(200);
    for (const client of ending) {
      await expect.poll(() => client.isEnded, BUSY).toBe(true);
      expect(client.last).toMatchObject({ event: "revoke", data: { reason: expect.anything() } });
    }
    expect(ending.slice(3).map(({ closeCode }) => closeCode)).toEqual([1008, 1008, 1008]);
    expect(staying.map(({ isEnded }) => isEnded)).toEqual([false, false, false]);
  });

  it("begin with a ticket once, wherever it is tried", async () => {
    const { key, id } = await newKey({ role: "ReadWrite" });
    const made = await ask(urls[0]!, key, "/v1/watch/tickets", "POST", { prefix: "t/" });
    expect(made.status).toBe(200);
    const { ticket } = made.json;
    const tried = await Promise.all(
      [...urls, ...urls].map((url) => WatchClient.sse(`${url}/v1/watch?ticket=${ticket}`)),
    );
    clients.push(...tried);
    const statuses = tried.map(({ status }) => status).sort();
    expect(statuses).toEqual([200, 401, 401, 401, 401, 401]);
    const open = tried.find(({ status }) => status === 200)!;
    await expect.poll(() => open.events[0]?.event, BUSY).toBe("progress");
    await put(urls[2]!, key, "t/1");
    await expect.poll(() => open.changes, BUSY).toEqual(["put t/1"]);
    await ask(urls[2]!, root, `/admin/keys/${id}/revoke`, "POST");
    await expect.poll(() => open.isEnded, BUSY).toBe(true);
    expect(open.last?.event).toBe("revoke");
    const logged = processes.map(({ stdout, stderr }) => stdout + stderr).join("");
    expect(logged).not.toContain(ticket!.slice(-40));
  });

  it("are sent away with a token when their gateway stops, and go on elsewhere", async () => {
    // One of its own: the test may be run once more.
    const gateway = startGateway();
    const url = await gateway.printed(SERVES_HTTP);
    await waitForReadiness(url, 200);
    const { key } = await newKey({ role: "ReadWrite" });
    await expect.poll(async () => (await ask(url, key, "/v1/limits")).status, BUSY).toBe(200);
    const page = new WatchPage([url, urls[1]!], key);
    clients.push(page);
    // Nobody can see from outside when a page has begun: what is written until then it need not see.
    await expect
      .poll(async () => {
        await put(urls[0]!, key, "orders/0");
        return page.lines;
      }, BUSY)
      .toContain("put orders/0 value");
    const sse = await watch(url, "?prefix=d/", key);
    const socket = await watch(url, "?prefix=d/", key, "socket");
    await put(urls[0]!, key, "d/1");
    await expect
      .poll(() => [sse.changes, socket.changes], BUSY)
      .toEqual([["put d/1"], ["put d/1"]]);
    gateway.signal("SIGTERM");
    for (const client of [sse, socket]) {
      await expect.poll(() => client.isEnded, BUSY).toBe(true);
      expect(client.last).toMatchObject({ event: "drain" });
    }
    expect(socket.closeCode).toBe(1001);
    expect((await gateway.waitForExit()).code).toBe(0);
    await put(urls[0]!, key, "d/2");
    await put(urls[0]!, key, "orders/2");
    await expect.poll(() => page.lines, BUSY).toContain("put orders/2 value");
    const headers = { ...bearer(key), "Last-Event-ID": sse.token! };
    const again = await WatchClient.sse(`${urls[0]}/v1/watch?prefix=d/`, headers);
    clients.push(again);
    await expect.poll(() => again.changes, BUSY).toContain("put d/2");
    const moved = await watch(urls[1]!, `?prefix=d/&since=${socket.token}`, key, "socket");
    await expect.poll(() => moved.changes, BUSY).toContain("put d/2");
  });
});
