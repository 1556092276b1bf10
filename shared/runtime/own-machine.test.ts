import { describe, expect, it } from "vitest";
import { isOwnMachine, OwnMachineOnly, ownMachineOnly } from "./own-machine.ts";

it.each([
  "localhost",
  "LOCALHOST:8080",
  "127.0.0.1:8080",
  "127.9.8.7",
  "127.1:80",
  "[::1]:8080",
  "[0:0:0:0:0:0:0:1]",
])("isOwnMachine(%j)", (authority) => {
  expect(isOwnMachine(authority)).toBe(true);
});

it.each([
  "",
  ":8080",
  "evil.example",
  "evil.example:8080",
  "localhost.evil.example",
  "127.0.0.1.evil.example",
  "evil-localhost",
  "localhost@evil.example",
  "evil.example@localhost",
  "evil.example#@localhost",
  "localhost/",
  "localhost, evil.example",
  "10.0.0.1",
  "0.0.0.0:8080",
  "[::]",
  "localhost:99999",
])("isOwnMachine() refuses %j", (authority) => {
  expect(isOwnMachine(authority)).toBe(false);
});

describe("OwnMachineOnly", () => {
  it("remembers whom it let in, and nobody else", () => {
    const guard = new OwnMachineOnly();
    const asked = ["", "evil.example", "localhost:1", "localhost:1", "evil.example", "127.0.0.1"];
    expect(asked.map((host) => guard.refuses(host))).toEqual([
      ...[true, true, false, false, true, false],
    ]);
    expect(guard.refuses(undefined)).toBe(false);
  });

  it("is for listeners without credentials and TLS that only this machine reaches", () => {
    const open = { isOpen: true, hasTls: false };
    expect(ownMachineOnly({ host: "127.0.0.1" }, open)).toBeDefined();
    expect(ownMachineOnly({ host: "localhost" }, open)).toBeDefined();
    expect(ownMachineOnly({ host: "0.0.0.0" }, open)).toBeUndefined();
    expect(ownMachineOnly({ host: "127.0.0.1" }, { ...open, hasTls: true })).toBeUndefined();
    expect(ownMachineOnly({ host: "127.0.0.1" }, { ...open, isOpen: false })).toBeUndefined();
  });
});
