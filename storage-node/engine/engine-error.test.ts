import { describe, expect, it } from "vitest";
import { KvError } from "#shared/errors.ts";
import { toEngineError } from "./engine-error.ts";

const withCode = (message: string, code: string) => Object.assign(new Error(message), { code });

describe("toEngineError()", () => {
  it.each([
    ["UNAVAILABLE", withCode("IO error: lock /d/LOCK: held", "LEVEL_LOCKED")],
    ["UNAVAILABLE", withCode("lock hold by current process", "EIO")],
    ["STORAGE_FULL", withCode("IO error: No space left on device: /d/1.log", "LEVEL_IO_ERROR")],
    ["STORAGE_FULL", withCode("write", "ENOSPC")],
    ["DATA_CORRUPT", withCode("Corruption: bad block", "LEVEL_CORRUPTION")],
    ["DATA_CORRUPT", withCode("block checksum mismatch", "EIO")],
    ["UNAVAILABLE", withCode("permission denied", "EACCES")],
    ["INTERNAL", new Error("Invalid argument")],
    ["INTERNAL", "text"],
  ])("gives %s for what the bindings say", (code, error) => {
    expect(toEngineError(error, "read")).toMatchObject({ code, cause: error });
  });

  it("reads the reason in the chain of causes", () => {
    const reason = withCode("Corruption: x", "LEVEL_CORRUPTION");
    const error = new Error("Database failed to open", { cause: reason });
    const result = toEngineError(error, "open the engine in d");
    expect(result.code).toBe("DATA_CORRUPT");
    expect(result.message).toContain("cannot open the engine in d");
    expect(result.message).toContain("Corruption: x");
  });

  it("ends on a chain that refers to itself", () => {
    const error: Error & { cause?: unknown } = new Error("loop");
    error.cause = error;
    expect(toEngineError(error, "read").code).toBe("INTERNAL");
  });

  it("gives a KvError back as it is", () => {
    const error = new KvError("UNAVAILABLE", "closed");
    expect(toEngineError(error, "read")).toBe(error);
  });
});
