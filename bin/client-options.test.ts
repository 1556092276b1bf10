import { expect, it } from "vitest";
import { fetchTrouble } from "./client-options.ts";

const failed = (code: string, message: string): Error =>
  new TypeError("fetch failed", { cause: Object.assign(new Error(message), { code }) });

it("fetchTrouble() says of an unknown authority where it belongs, and leaves Node's advice out", () => {
  const message =
    "unable to verify the first certificate; if the root CA is installed locally, try running Node.js";
  expect(fetchTrouble(failed("UNABLE_TO_VERIFY_LEAF_SIGNATURE", message))).toBe(
    "unable to verify the first certificate. NODE_EXTRA_CA_CERTS takes the file of its authority",
  );
});

it("fetchTrouble() has the system's words, and those of who gave up", () => {
  expect(fetchTrouble(failed("ECONNRESET", "read ECONNRESET"))).toBe("read ECONNRESET");
  expect(fetchTrouble(new TypeError("fetch failed"))).toBe("fetch failed");
  expect(fetchTrouble(new DOMException("…", "TimeoutError"))).toBe("it took too long");
  expect(fetchTrouble(7)).toBe("7");
});
