/** Filling and checking, against a small HTTP server that stores, and one that lies. */
import { createServer, type Server } from "node:http";
import { afterEach, describe, expect, it } from "vitest";
import { checkStored, fill, type Target } from "./client.ts";
import { keyAt, makeDataset } from "./dataset.ts";
import { minikvProtocol } from "./protocol.ts";

const dataset = makeDataset({ valueSizeBytes: 32, keysMax: 300, seed: 5 });
const never = new AbortController().signal;

let server: Server | undefined;

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  server = undefined;
});

/** Stores what is put; `change` may replace an answer's status or value. */
async function store(
  change: (answer: { status: number; value: Buffer }) => { status: number; value: Buffer },
): Promise<{ readonly target: Target; readonly stored: Map<string, Buffer> }> {
  const stored = new Map<string, Buffer>();
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const path = request.url ?? "";
      if (request.method === "PUT") stored.set(path, Buffer.concat(chunks));
      const value = stored.get(path);
      const answer = change({
        status: value === undefined ? 404 : 200,
        value: value ?? Buffer.alloc(0),
      });
      response.statusCode = answer.status;
      response.end(answer.value);
    });
  });
  await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const target = { protocol: minikvProtocol, hostname: "127.0.0.1", port: address.port };
  return { target, stored };
}

describe("fill()", () => {
  it("stores every key of the dataset, which checkStored() accepts", async () => {
    const { target, stored } = await store((answer) => answer);
    await fill(target, dataset, never);
    expect(stored.size).toBe(dataset.keyCount);
    expect(stored.has(`/v1/kv/${keyAt(dataset.keyCount - 1)}`)).toBe(true);
    await checkStored(target, dataset, 1);
  });

  it("fails when a write is refused", async () => {
    const { target } = await store((answer) => ({ ...answer, status: 503 }));
    await expect(fill(target, dataset, never)).rejects.toThrow("answered 503 to a write");
  });

  it("ends when it is aborted", async () => {
    const { target, stored } = await store((answer) => answer);
    await expect(fill(target, dataset, AbortSignal.abort())).rejects.toThrow();
    expect(stored.size).toBe(0);
  });
});

describe("checkStored()", () => {
  it("fails for an absent key", async () => {
    const { target } = await store((answer) => answer);
    await expect(checkStored(target, dataset, 1)).rejects.toThrow("answered 404");
  });

  it("fails for a value that nobody stored", async () => {
    const { target } = await store(() => ({ status: 200, value: Buffer.alloc(32) }));
    await expect(checkStored(target, dataset, 1)).rejects.toThrow("not a value that was stored");
  });
});
