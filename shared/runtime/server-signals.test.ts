import { describe, expect, it } from "vitest";
import { ServerSignals } from "./server-signals.ts";

function start() {
  const listeners = new Map<string, () => void>();
  const said: string[] = [];
  const signals = new ServerSignals({ on: (signal, listener) => listeners.set(signal, listener) });
  return {
    said,
    listeners,
    send: (signal: string) => listeners.get(signal)!(),
    serve: (reload?: () => void) =>
      signals.serve({ warn: (_, message) => void said.push(message) }, reload),
  };
}

describe("ServerSignals", () => {
  it("reloads on each SIGHUP, and says nothing itself", () => {
    const { said, send, serve } = start();
    let reloads = 0;
    serve(() => reloads++);
    expect(reloads).toBe(0);
    send("SIGHUP");
    send("SIGHUP");
    expect(reloads).toBe(2);
    expect(said).toEqual([]);
  });

  it("says so where there is nothing to reload", () => {
    const { said, send, serve } = start();
    serve();
    send("SIGHUP");
    expect(said).toEqual(["SIGHUP: nothing to reload, going on"]);
  });

  it.each(["SIGUSR1", "SIGUSR2"])("takes %s, and does nothing but say so", (signal) => {
    const { said, send, serve } = start();
    serve(() => expect.unreachable());
    send(signal);
    expect(said).toEqual([`${signal}: means nothing here, going on`]);
  });

  it("answers what came during the start once, when it is complete", () => {
    const { said, send, serve } = start();
    let reloads = 0;
    send("SIGHUP");
    send("SIGHUP");
    send("SIGUSR2");
    serve(() => reloads++);
    expect(reloads).toBe(1);
    expect(said).toEqual(["SIGUSR2: means nothing here, going on"]);
    send("SIGHUP");
    expect(reloads).toBe(2);
  });

  it("leaves alone what stops a server", () => {
    expect([...start().listeners.keys()].sort()).toEqual(["SIGHUP", "SIGUSR1", "SIGUSR2"]);
  });
});
