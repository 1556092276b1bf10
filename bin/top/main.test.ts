/** `minikv top` against servers of the test, and a terminal that keeps what is drawn. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { runTopCli } from "./main.ts";
import type { Line } from "./screen.ts";
import { frameOf, type Terminal, type TerminalEvents } from "./terminal.ts";
import { answer } from "./testing.ts";

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await stop(server);
});

type Reply = { readonly status: number; readonly body: string };

/** Answers with what `reply` gives; `port` 0 for any. */
async function gateway(reply: (headers: Headers) => Reply, port = 0) {
  const server = createServer((request, response) => {
    const { status, body } = reply(new Headers(request.headers as Record<string, string>));
    response.writeHead(status, { Connection: "close" }).end(body);
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  servers.push(server);
  const { port: own } = server.address() as AddressInfo;
  return { server, port: own, url: `http://127.0.0.1:${own}` };
}

async function stop(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

/** Does more with each look. */
function busy(): () => Reply {
  let looks = 0;
  return () => {
    looks++;
    const nodes = [{ id: 1, uptimeMs: looks * 1_000, gets: looks * 10, puts: looks * 5 }];
    const body = JSON.stringify(answer(nodes, {}, looks * 20, looks * 1_000));
    return { status: 200, body };
  };
}

class FakeTerminal implements Terminal {
  readonly size = { columns: 200, rows: 30 };
  readonly screens: string[] = [];
  events: TerminalEvents | undefined;
  isOpen = false;
  onDraw: (text: string) => void = () => {};

  open(events: TerminalEvents): void {
    this.isOpen = true;
    this.events = events;
  }

  draw(lines: readonly Line[]): void {
    const text = lines.map((line) => line.text).join("\n");
    this.screens.push(text);
    this.onDraw(text);
  }

  close(): void {
    this.isOpen = false;
  }

  /** Resolves with the first screen from now on that has `part`. */
  shows(part: string): Promise<string> {
    return new Promise((resolve) => {
      this.onDraw = (text) => {
        if (text.includes(part)) resolve(text);
      };
    });
  }
}

async function run(argv: readonly string[], terminal?: Terminal, env = {}, intervalMs = 10) {
  const result = { out: "", error: "", code: -1 };
  result.code = await runTopCli(argv, {
    env,
    out: (text) => (result.out += text),
    error: (text) => (result.error += text),
    terminal,
    intervalMs,
  });
  return result;
}

describe("minikv top --once", () => {
  it("--json prints rates between its two looks", async () => {
    const { url } = await gateway(busy());
    const { out, code } = await run(["--url", url, "--once", "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      cluster: { id: "east", answering: 1 },
      total: { reads_per_second: 10, writes_per_second: 5, watchers: 12 },
      gateways: [{ url, answering: true, requests_per_second: 20, p50_ms: 5.5 }],
      nodes: [{ id: 1, reads_per_second: 10, write_p50_ms: 5.5, apply_lag_entries: 0 }],
    });
  });

  it("prints text, and sends the key that it is given", async () => {
    const reply = busy();
    const seen: (string | null)[] = [];
    const { url } = await gateway((headers) => {
      seen.push(headers.get("authorization"));
      return reply();
    });
    const key = "mkv_secret";
    const { out, error } = await run(["--url", url, "--once"], undefined, {
      MINIKV_API_KEY: key,
    });
    expect(out).toContain("10 reads/s");
    expect(seen).toEqual([`Bearer ${key}`, `Bearer ${key}`]);
    expect(out + error).not.toContain(key);
  });

  it.each([
    [{ status: 403, body: '{"detail":"no right","code":"FORBIDDEN"}' }, "no right (FORBIDDEN)"],
    [{ status: 500, body: "<html>" }, "HTTP 500"],
    [{ status: 200, body: '{"nodes":[1]}' }, "does not answer like a minikv gateway"],
    [{ status: 200, body: "[" }, "does not answer like a minikv gateway"],
    [{ status: 200, body: " ".repeat(9 * 1024 * 1024) }, "the answer is too large"],
  ])("fails when no gateway tells (%#)", async (reply, message) => {
    const { url } = await gateway(() => reply);
    const { out, code } = await run(["--url", url, "--once"]);
    expect(out).toContain(message);
    expect(code).toBe(1);
  });
});

describe("minikv top", () => {
  it("shows one screen after the other, sorts, and ends with q", async () => {
    const { url } = await gateway(busy());
    const terminal = new FakeTerminal();
    const first = terminal.shows("by node");
    const ended = run(["--url", url], terminal);
    await first;
    expect(terminal.isOpen).toBe(true);
    await terminal.shows("10 reads/s");
    const sorted = terminal.shows("by leaders");
    terminal.events!.onKey("s");
    await sorted;
    terminal.events!.onKey("q");
    expect((await ended).code).toBe(0);
    expect(terminal.isOpen).toBe(false);
  });

  it("survives a gateway that goes away, shows it, and sees it come back", async () => {
    const { url, server, port } = await gateway(busy());
    const terminal = new FakeTerminal();
    const works = terminal.shows("10 reads/s");
    const ended = run(["--url", url], terminal);
    await works;
    const gone = terminal.shows("no answer for");
    await stop(server);
    servers.splice(0);
    expect(await gone).toContain("10.0.0.1:7400");
    const back = terminal.shows("10 reads/s");
    await gateway(busy(), port);
    await back;
    terminal.events!.onEnd();
    expect((await ended).code).toBe(0);
  });

  it("draws again when the size changes, without asking anybody", async () => {
    const { url } = await gateway(busy());
    const terminal = new FakeTerminal();
    const first = terminal.shows("east");
    const ended = run(["--url", url], terminal, {}, 60_000);
    await first;
    Object.assign(terminal.size, { columns: 40 });
    const narrow = terminal.shows("east");
    terminal.events!.onResize();
    expect(Math.max(...(await narrow).split("\n").map(({ length }) => length))).toBeLessThan(41);
    terminal.events!.onKey("\u0003");
    await ended;
  });

  it("needs a terminal, --once or --json", async () => {
    const { code, error } = await run(["--url", "http://127.0.0.1:9"]);
    expect([code, error]).toEqual([2, expect.stringContaining("--once or --json")]);
  });

  it("refuses a key file without a key", async () => {
    const { code, error } = await run(["--once", "--api-key-file", "/dev/null"]);
    expect([code, error]).toEqual([2, expect.stringContaining("/dev/null")]);
  });
});

describe("frameOf()", () => {
  it("is one update in place that erases what was longer, and scrolls nothing", () => {
    const frame = frameOf(
      [
        { text: "a", style: "title" },
        { text: "b", style: "bad" },
      ],
      true,
    );
    const visible = frame.replaceAll("\u001b", "^");
    expect(visible).toBe("^[?2026h^[H^[1ma^[0m^[K\r\n^[31mb^[0m^[K^[J^[?2026l");
    expect(frameOf([{ text: "b", style: "bad" }], false)).not.toContain("[31m");
  });
});
