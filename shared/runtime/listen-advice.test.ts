import { createServer } from "node:net";
import { describe, expect, it } from "vitest";
import { listenFailure, withListenAdvice } from "./listen-advice.ts";

describe("withListenAdvice()", () => {
  it.each([
    ["listen EADDRINUSE: address already in use ::1:1", "; choose another address with --listen"],
    [
      "listen EADDRNOTAVAIL: address not available 192.0.2.1:1",
      "; name an address of this machine",
    ],
    ["getaddrinfo ENOTFOUND kv.invalid", "; name an address of this machine with --listen"],
    ["listen EACCES: permission denied 127.0.0.1:80", "; this port needs a privilege; choose one"],
  ])("says of %j what to do", (reason, advice) => {
    expect(withListenAdvice("--listen", reason)).toContain(reason + advice);
  });

  it("leaves what it does not know", () => {
    expect(withListenAdvice("--listen", "listen EMFILE: too many")).toBe("listen EMFILE: too many");
  });
});

it("listenFailure() keeps the system's code", async () => {
  const failure = await new Promise<Error>((resolve) => {
    // No machine has an address of TEST-NET-1.
    createServer().once("error", resolve).listen({ host: "192.0.2.1", port: 0 });
  });
  expect(listenFailure("--http-listen", failure)).toMatchObject({
    code: "EADDRNOTAVAIL",
    message: expect.stringMatching(/; name an address of this machine with --http-listen$/),
  });
});
