import { credentials } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import type { StreamStatus } from "#shared/message-stream.ts";
import { grpcClient, grpcReasonIn, openByteStream } from "./grpc.ts";

describe("why a gRPC call failed", () => {
  it("is told in the system's own words", async () => {
    // No server listens on port 1.
    const client = grpcClient("127.0.0.1:1", credentials.createInsecure());
    try {
      const status = await new Promise<StreamStatus>((onClosed) => {
        openByteStream(client, "/none/None").listen({ onMessage() {}, onDrain() {}, onClosed });
      });
      expect(status.details).toBe("connect ECONNREFUSED 127.0.0.1:1");
    } finally {
      client.close();
    }
  });

  it.each(["it is closing", "", "Deadline exceeded after 2s"])("stays %j", (details) => {
    expect(grpcReasonIn(details)).toBe(details);
  });
});
