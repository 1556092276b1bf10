import { get } from "node:http";
import { connect } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { PROBE_BODY_SIZE_BYTES_MAX } from "#shared/limits-telemetry.ts";
import { refuseExposedProbe } from "./probe-address.ts";
import { jsonProbe, type ProbeRoute, type ProbeServer, startProbeServer } from "./probe-server.ts";

let server: ProbeServer | undefined;
const failures: unknown[] = [];

const routes: readonly ProbeRoute[] = [
  { method: "GET", path: "/hello", run: () => jsonProbe(200, { hello: "world" }) },
  { method: "PUT", path: "/hello", run: ({ body }) => jsonProbe(200, { got: body }) },
  {
    method: "GET",
    path: "/broken",
    run: () => {
      throw new Error("a bug");
    },
  },
];

async function start(): Promise<string> {
  const listen = { host: "127.0.0.1", port: 0 };
  server = await startProbeServer({
    listen,
    flag: "--http-listen",
    routes,
    onFailure: (error) => failures.push(error),
  });
  return server.url;
}

/** `fetch` does not let its caller say who is asked. */
const statusFor = (url: string, host: string): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    get(`${url}/hello`, { headers: { host }, agent: false }, (incoming) => {
      incoming.resume();
      resolve(incoming.statusCode);
    }).on("error", reject);
  });

afterEach(async () => {
  await server?.close();
  server = undefined;
  failures.length = 0;
});

describe("startProbeServer()", () => {
  it("answers its routes, and refuses other paths and methods", async () => {
    const url = await start();
    const answer = await fetch(`${url}/hello?whatever=1`);
    expect([answer.status, await answer.json()]).toEqual([200, { hello: "world" }]);
    expect(answer.headers.get("cache-control")).toBe("no-store");
    const put = await fetch(`${url}/hello`, { method: "PUT", body: "text" });
    expect(await put.json()).toEqual({ got: "text" });
    expect((await fetch(`${url}/hello`, { method: "HEAD" })).status).toBe(200);
    expect((await fetch(`${url}/hello`, { method: "DELETE" })).status).toBe(405);
    expect((await fetch(`${url}/none`)).status).toBe(404);
  });

  it("tells a page nothing whose name was pointed at this machine", async () => {
    const url = await start();
    const { port } = new URL(url);
    expect(await statusFor(url, `localhost:${port}`)).toBe(200);
    expect(await statusFor(url, `rebound.example:${port}`)).toBe(403);
  });

  it("refuses a body that is too large", async () => {
    const url = await start();
    const body = "x".repeat(PROBE_BODY_SIZE_BYTES_MAX + 1);
    expect((await fetch(`${url}/hello`, { method: "PUT", body })).status).toBe(413);
  });

  it("has nothing to tell of a client that goes in the middle of its body", async () => {
    const { port } = new URL(await start());
    const head = "PUT /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf";
    for (let i = 0; i < 5; i++) {
      const socket = connect(Number(port), "127.0.0.1");
      socket.on("error", () => undefined);
      socket.write(head, () => setTimeout(() => socket.resetAndDestroy(), 20));
      await new Promise((resolve) => socket.once("close", resolve));
    }
    expect((await fetch(`http://127.0.0.1:${port}/hello`)).status).toBe(200);
    expect(failures).toEqual([]);
  });

  it("tells of a route that fails, and not the client", async () => {
    const url = await start();
    const answer = await fetch(`${url}/broken`);
    expect(answer.status).toBe(500);
    expect(await answer.text()).not.toContain("a bug");
    expect(failures).toMatchObject([{ message: "a bug" }]);
  });

  it("closes though a connection is open", async () => {
    const url = new URL(await start());
    const socket = connect(Number(url.port), url.hostname);
    await new Promise((resolve) => socket.once("connect", resolve));
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.on("error", () => undefined);
    await server!.close();
    await closed;
    server = undefined;
  });
});

it.each([
  [undefined, false, undefined],
  [{ host: "127.0.0.1", port: 1 }, false, undefined],
  [{ host: "::1", port: 1 }, false, undefined],
  [{ host: "0.0.0.0", port: 1 }, true, undefined],
  [{ host: "0.0.0.0", port: 1 }, false, /--http-listen-exposed/],
])("refuseExposedProbe(%j, %s)", (listen, wanted, text) => {
  const refusal = refuseExposedProbe(listen, wanted, "--http-listen");
  if (text === undefined) expect(refusal).toBeUndefined();
  else expect(refusal).toMatch(text);
});
