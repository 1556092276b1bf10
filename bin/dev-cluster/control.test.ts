/** Client and server of the control socket, against each other and against what is neither. */
import { statSync } from "node:fs";
import { connect } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { DEV_COMMAND_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { askSupervisor } from "./control-client.ts";
import { type Answer, type Command, parseAnswer, parseCommand } from "./control-protocol.ts";
import { serveControl } from "./control-server.ts";
import { layoutOf } from "./layout.ts";
import { temporaryDirectory } from "./testing/temporary.ts";

const done: Answer = { kind: "done", message: "so it is" };

async function serve(execute: (command: Command) => Promise<Answer> = async () => done) {
  const layout = layoutOf(temporaryDirectory());
  const server = await serveControl(layout.controlPath, execute);
  onTestFinished(() => server.close());
  return { layout, server };
}

/** What the server answers to `text`; undefined when it only hangs up. */
function say(path: string, text: string): Promise<Answer | undefined> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(path, () => socket.write(text));
    socket.setEncoding("utf8").on("data", (part: string) => {
      answer += part;
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(parseAnswer(answer)));
  });
}

describe("the control socket", () => {
  it("takes a command and gives its answer", async () => {
    const seen: Command[] = [];
    const { layout } = await serve(async (command) => {
      seen.push(command);
      return done;
    });
    const command = { kind: "pause", target: { kind: "node", node: "2" }, forMs: 5 } as const;
    expect(await askSupervisor(layout, command)).toEqual(done);
    expect(seen).toEqual([command]);
  });

  it("is for its user alone, and gone when it is closed", async () => {
    const { layout, server } = await serve();
    expect(statSync(layout.controlPath).mode & 0o777).toBe(0o600);
    await server.close();
    await expect(askSupervisor(layout, { kind: "status" })).rejects.toThrow("no cluster runs in");
  });

  it("replaces a socket that a killed supervisor has left behind", async () => {
    const { layout } = await serve();
    const second = await serveControl(layout.controlPath, async () => done);
    onTestFinished(() => second.close());
    expect(await askSupervisor(layout, { kind: "status" })).toEqual(done);
  });

  it("answers a failure as a refusal", async () => {
    const { layout } = await serve(async () => {
      throw new Error("no luck");
    });
    const answer = await askSupervisor(layout, { kind: "add-node" });
    expect(answer).toEqual({ kind: "refused", message: "Error: no luck" });
  });

  it.each([
    ["what is no JSON", "kill them all\n", "does not know"],
    ["a command that it does not know", '{"kind":"dance"}\n', "does not know"],
    ["a line without an end", "x".repeat(DEV_COMMAND_SIZE_BYTES_MAX + 1), "longer than"],
  ])("refuses %s", async (_, text, message) => {
    const { layout } = await serve(async () => {
      throw new Error("must not be executed");
    });
    const answer = await say(layout.controlPath, text);
    expect(answer).toMatchObject({ kind: "refused", message: expect.stringContaining(message) });
  });

  it("says so when the supervisor ends instead of answering", async () => {
    const began = Promise.withResolvers<void>();
    const { layout, server } = await serve(() => {
      began.resolve();
      return new Promise(() => {});
    });
    const asked = askSupervisor(layout, { kind: "status" });
    const refused = expect(asked).rejects.toThrow("gave no answer");
    await began.promise;
    await server.close();
    await refused;
  });
});

describe("parseCommand()", () => {
  const target = { kind: "gateway", number: 2 };

  it.each([
    { kind: "status" },
    { kind: "add-node" },
    { kind: "kill", target, signal: "TERM" },
    { kind: "pause", target, forMs: null },
    { kind: "restart", target: { kind: "node", node: "node-1" } },
  ])("reads %j", (command) => {
    expect(parseCommand(JSON.stringify(command))).toEqual(command);
  });

  it.each([
    { kind: "kill", target, signal: "HUP" },
    { kind: "kill", signal: "KILL" },
    { kind: "pause", target, forMs: "long" },
    { kind: "pause", target, forMs: -1 },
    { kind: "resume", target: { kind: "node" } },
    [],
    null,
  ])("refuses %j", (command) => {
    expect(parseCommand(JSON.stringify(command))).toBeUndefined();
  });
});

describe("parseAnswer()", () => {
  it.each(["", "{}", '{"kind":"done"}', '{"kind":"status","status":1}'])("refuses %j", (text) => {
    expect(parseAnswer(text)).toBeUndefined();
  });
});
