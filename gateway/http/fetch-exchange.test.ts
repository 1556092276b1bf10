import { describe, expect, it } from "vitest";
import type { BodyStream } from "./exchange.ts";
import { toResponse } from "./fetch-exchange.ts";

function countingStream() {
  const counts = { asked: 0, closed: 0 };
  const stream: BodyStream = {
    next: async () => {
      counts.asked++;
      return counts.asked === 1 ? Buffer.from("line\n") : undefined;
    },
    stop: () => undefined,
    close: () => void counts.closed++,
  };
  return { counts, stream };
}

describe("toResponse of a stream", () => {
  it("sends it to its end, and closes it", async () => {
    const { counts, stream } = countingStream();
    const response = toResponse({ status: 200, headers: [], body: stream }, "GET");
    expect(await response.text()).toBe("line\n");
    expect(counts).toEqual({ asked: 2, closed: 1 });
  });

  it("closes it at once for HEAD, and asks nothing of it", async () => {
    const { counts, stream } = countingStream();
    const response = toResponse({ status: 200, headers: ["A", "b"], body: stream }, "HEAD");
    expect(response.body).toBeNull();
    expect(response.headers.get("a")).toBe("b");
    // A readable stream would ask for its first piece in the next turn.
    await new Promise((resolve) => setImmediate(resolve));
    expect(counts).toEqual({ asked: 0, closed: 1 });
  });
});
