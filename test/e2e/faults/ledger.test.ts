/**
 * The checks of the fault tests, checked: a server that lies in each of the ways they look for must
 * be found out, or their silence means nothing.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { Counter } from "./counter.ts";
import { KvClient } from "./kv-client.ts";
import { Ledger } from "./ledger.ts";
import { makePayload, verifyPayload } from "./payload.ts";

type Row = { value: Buffer; revision: number };

/** One vshard in memory; `interfere` may answer a request itself, rightly or wrongly. */
class LyingServer {
  readonly rows = new Map<string, Row>();
  revision = 0;
  interfere: (request: IncomingMessage, body: Buffer, response: ServerResponse) => boolean = () =>
    false;

  async listen(): Promise<KvClient> {
    const server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const body = Buffer.concat(chunks);
        if (!this.interfere(request, body, response)) this.serve(request, body, response);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const client = new KvClient(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    onTestFinished(() => {
      client.close();
      server.closeAllConnections();
      server.close();
    });
    return client;
  }

  serve(request: IncomingMessage, body: Buffer, response: ServerResponse): void {
    const key = keyOf(request);
    const row = this.rows.get(key);
    if (request.method === "PUT") {
      this.revision++;
      this.rows.set(key, { value: body, revision: this.revision });
      response.writeHead(row === undefined ? 201 : 200, { ETag: `"${this.revision}"` }).end();
    } else if (row === undefined) {
      response.writeHead(404).end();
    } else if (request.method === "DELETE") {
      this.revision++;
      this.rows.delete(key);
      response.writeHead(204).end();
    } else {
      response.writeHead(200, { ETag: `"${row.revision}"` }).end(row.value);
    }
  }
}

const keyOf = (request: IncomingMessage): string => decodeURIComponent(request.url!.slice(7));

async function fixture(): Promise<{ server: LyingServer; client: KvClient; ledger: Ledger }> {
  const server = new LyingServer();
  const client = await server.listen();
  return { server, client, ledger: new Ledger(client) };
}

describe("Ledger", () => {
  it("accepts a server that keeps its word", async () => {
    const { ledger } = await fixture();
    await ledger.put("a", 100);
    await ledger.put("a", 5000, true);
    await ledger.delete("a");
    await ledger.put("a", 10);
    await ledger.verify();
    await ledger.audit();
    expect(ledger.acknowledgedCount).toBe(5);
  });

  it("finds a lost write, a write that came back, and a deleted key that came back", async () => {
    const { server, ledger } = await fixture();
    await ledger.put("a", 100);
    const before = server.rows.get("a")!;
    server.rows.delete("a");
    await expect(ledger.verify()).rejects.toThrow(/acknowledged 1 .*found undefined/);
    server.rows.set("a", before);
    await ledger.put("a", 100);
    server.rows.set("a", before);
    await expect(ledger.verify()).rejects.toThrow(/acknowledged 2 .*found 1/);
    await ledger.delete("a");
    server.rows.set("a", before);
    await expect(ledger.verify()).rejects.toThrow(/acknowledged undefined .*found 1/);
  });

  it("finds half a write, a mixture, another key's value, and a changed revision", async () => {
    const { server, ledger } = await fixture();
    await ledger.put("a", 1000);
    const row = server.rows.get("a")!;
    const whole = row.value;
    row.value = whole.subarray(0, 500);
    await expect(ledger.verify()).rejects.toThrow("checksum");
    row.value = Buffer.concat([
      whole.subarray(0, 500),
      makePayload({ key: "a", sequence: 2 }, 1000).subarray(500),
    ]);
    await expect(ledger.verify()).rejects.toThrow("checksum");
    row.value = makePayload({ key: "b", sequence: 1 }, 1000);
    await expect(ledger.verify()).rejects.toThrow("is one of b");
    row.value = whole;
    row.revision = 7;
    await expect(ledger.verify()).rejects.toThrow("found at revision 7");
    row.revision = 1;
    await ledger.verify();
  });

  it("allows both outcomes of a write in doubt, and holds the server to the one seen", async () => {
    for (const isApplied of [true, false]) {
      const { server, ledger } = await fixture();
      await ledger.put("a", 100);
      const before = server.rows.get("a")!;
      server.interfere = (request, body) => {
        if (isApplied) server.rows.set("a", { value: body, revision: ++server.revision });
        request.socket.destroy();
        return true;
      };
      expect((await ledger.put("a", 100)).fate).toBe("unknown");
      server.interfere = () => false;
      await ledger.verify();
      const other = isApplied ? before : { value: makePayload({ key: "a", sequence: 2 }, 100) };
      server.rows.set("a", { revision: 9, ...other });
      await expect(ledger.verify()).rejects.toThrow("nothing in doubt");
    }
  });

  it("refuses a write that was answered as not applied and is there", async () => {
    const { server, ledger } = await fixture();
    server.interfere = (_request, body, response) => {
      server.rows.set("a", { value: body, revision: ++server.revision });
      response.writeHead(507).end('{"outcome":"not_applied"}');
      return true;
    };
    expect((await ledger.put("a", 100)).fate).toBe("notApplied");
    server.interfere = () => false;
    await expect(ledger.verify()).rejects.toThrow(/acknowledged undefined .*found 1/);
  });

  it("refuses a revision that does not grow, and audit() a change too many or too few", async () => {
    const { server, ledger } = await fixture();
    await ledger.put("a", 100);
    server.revision = 5;
    await expect(ledger.audit()).rejects.toThrow("at revision 6 after 2 changes");
    server.revision = 0;
    await expect(ledger.put("a", 100)).rejects.toThrow("revision 1 was answered after 6");
  });
});

describe("Counter", () => {
  it("accepts honest increments, and finds lost, doubled and invented ones", async () => {
    const { server, client, ledger } = await fixture();
    const counter = new Counter("c", client, ledger);
    for (let i = 0; i < 3; i++) expect(await counter.increment()).toBe(true);
    await counter.verify();
    const set = (sequence: number) =>
      server.rows.set("c", { value: makePayload({ key: "c", sequence }, 64), revision: 9 });
    await counter.increment();
    set(3);
    await expect(counter.verify()).rejects.toThrow("c is 3, from 3, after 1 increments");
    await expect(counter.increment()).rejects.toThrow("acknowledged twice");
    set(6);
    await expect(counter.verify()).rejects.toThrow("more than 0 increments in doubt explain");
  });
});

describe("verifyPayload()", () => {
  it("refuses every flipped bit of a value", () => {
    const value = makePayload({ key: "k", sequence: 12 }, 64);
    expect(verifyPayload("k", value)).toBe(12);
    for (let bit = 0; bit < value.length * 8; bit++) {
      const flipped = Buffer.from(value);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => verifyPayload("k", flipped)).toThrow("checksum");
    }
  });
});
