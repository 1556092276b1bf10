/**
 * The all-in-one with traces on: one request in a hundred, delivered to a collector that takes everything and
 * looks at nothing. It runs in the process of the benchmark, on the same machine as all else.
 */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type MinikvInput, type RunningServer, startMinikv } from "./servers.ts";

const RATIO = "0.01";

export async function startTracedMinikv(
  input: Omit<MinikvInput, "name" | "headers" | "args" | "env">,
): Promise<RunningServer> {
  const collector = await startCollector();
  const { port } = collector.address() as AddressInfo;
  try {
    const server = await startMinikv({
      ...input,
      env: {
        OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
        OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG: RATIO,
      },
    });
    return {
      ...server,
      stop: async () => {
        await server.stop();
        close(collector);
      },
    };
  } catch (error) {
    close(collector);
    throw error;
  }
}

async function startCollector(): Promise<Server> {
  const server = createServer((request, response) => {
    request.resume();
    request.on("end", () => {
      response.setHeader("Content-Type", "application/x-protobuf");
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

function close(server: Server): void {
  server.closeAllConnections();
  server.close();
}
