import { describe, expect, it } from "vitest";
import type { PushBody, PushWriter } from "#gateway/http/exchange.ts";
import type { ProblemBody } from "#gateway/testing/gateway.ts";
import { responseOf } from "#gateway/testing/http2-client.ts";
import { startHttp2 } from "#gateway/testing/http2-server.ts";
import { utf8 } from "#shared/bytes.ts";

const problemIn = ({ body }: { readonly body: Buffer }) =>
  JSON.parse(body.toString()) as ProblemBody;

describe("a pushed answer", () => {
  function pushing() {
    const said: string[] = [];
    let writer: PushWriter | undefined;
    const body: PushBody = {
      start: (given) => {
        writer = given;
        said.push("start");
      },
      drained: () => void said.push("drained"),
      stop: () => {
        said.push("stop");
        writer?.end();
      },
      close: () => void said.push("close"),
    };
    const answer = { status: 200, headers: ["Content-Type", "text/event-stream"], body };
    return {
      said,
      answer,
      write: (text: string) => writer!.write(utf8(text)),
      end: () => writer!.end(),
    };
  }

  async function start() {
    const started = await startHttp2({ closeGraceMs: 20 });
    const push = pushing();
    const { kv } = started.gateway.app.gateway;
    const find = kv.handlerFor.bind(kv);
    kv.handlerFor = (target) =>
      target === "/push" ? () => Promise.resolve(push.answer) : find(target);
    return { ...started, ...push };
  }

  it("comes as it is written, and ends when its body says so", async () => {
    const { client, said, write, end } = await start();
    const stream = client().open({ path: "/push" });
    await expect.poll(() => said).toEqual(["start"]);
    const first = new Promise((resolve) => stream.once("data", (bytes) => resolve(String(bytes))));
    expect(write("one")).toBe(true);
    expect(await first).toBe("one");
    const answered = responseOf(stream);
    write("two");
    end();
    await answered.catch(() => undefined);
    await expect.poll(() => said).toEqual(["start", "close"]);
    expect(write("late")).toBe(true);
  });

  it("is told of a client that takes nothing, that takes it, and that goes", async () => {
    const { client, said, write } = await start();
    const stream = client().open({ path: "/push" });
    await expect.poll(() => said).toEqual(["start"]);
    stream.pause();
    let writes = 0;
    while (write("x".repeat(10_000)) && writes < 1_000) writes++;
    expect(writes).toBeLessThan(1_000);
    stream.resume();
    await expect.poll(() => said).toContain("drained");
    stream.close(8);
    await expect.poll(() => said.at(-1)).toBe("close");
  });

  it("is told that the server stops", async () => {
    const { client, said, server } = await start();
    const stream = client().open({ path: "/push" });
    const answered = responseOf(stream);
    await expect.poll(() => said).toEqual(["start"]);
    expect(await server.close(5_000)).toEqual({ connectionsCut: 0 });
    expect((await answered).status).toBe(200);
    expect(said).toEqual(["start", "stop", "close"]);
  });

  it("has no body for HEAD, and is closed", async () => {
    const { client, said } = await start();
    const answer = await client().ask({ method: "HEAD", path: "/push" });
    expect([answer.status, answer.body.length]).toEqual([200, 0]);
    expect(said).toEqual(["close"]);
  });
});

describe("figures", () => {
  it("count requests by route, and connections", async () => {
    const { client, hold, gateway, server } = await startHttp2();
    const { httpFigures } = gateway.app.gateway;
    const agent = client();
    for (const path of ["/v1/kv/a", "/v1/kv/b", "/v1/limits", "/errors/INTERNAL", "/nowhere"]) {
      await agent.ask({ path });
    }
    const release = hold();
    const lost = agent.open({ path: "/v1/kv/a" });
    await expect.poll(() => httpFigures.inFlight).toBe(1);
    expect(httpFigures.connections).toBe(1);
    lost.close(8);
    release();
    await expect.poll(() => httpFigures.inFlight).toBe(0);
    const counted = [...httpFigures.cells()].map(({ route, method, statuses, durations }) => [
      ...[route, method, statuses.reduce((sum, count) => sum + count, 0), durations.count],
    ]);
    expect(counted.toSorted()).toEqual([
      ["/errors/{code}", "GET", 1, 1],
      ["/v1/kv/{key}", "GET", 3, 3],
      ["/v1/limits", "GET", 1, 1],
      ["_none", "GET", 1, 1],
    ]);
    await server.close(100);
    await expect.poll(() => httpFigures.connections).toBe(0);
  });
});

describe("answers", () => {
  it("that cannot be sent become an internal error, and are reported", async () => {
    const { client, gateway } = await startHttp2();
    gateway.storage.get = () =>
      Promise.resolve({
        ...{ revision: 1 as never, value: new Uint8Array(1), contentType: "a\r\nb" },
        ...{ expiresAtMs: 0, modifiedAtMs: 0, valueSizeBytes: 1 },
      });
    const answer = await client().ask({ path: "/v1/kv/a" });
    expect([answer.status, problemIn(answer).code]).toEqual([500, "INTERNAL"]);
    expect(gateway.failures).toHaveLength(1);
  });
});
