/** A collector of traces for tests: takes OTLP over HTTP as JSON, and keeps what it was sent. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

type OtlpValue = { readonly stringValue?: string; readonly intValue?: number | string };
type OtlpAttributes = readonly { readonly key: string; readonly value: OtlpValue }[];

type OtlpSpan = {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: OtlpAttributes;
  readonly links?: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly status: { readonly code?: number };
};

type OtlpRequest = {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: OtlpAttributes };
    readonly scopeSpans: readonly { readonly spans: readonly OtlpSpan[] }[];
  }[];
};

export type ReceivedSpan = Omit<OtlpSpan, "attributes"> & {
  readonly attributes: Readonly<Record<string, string>>;
  readonly service: string;
  /** Of the process. */
  readonly instance: string;
  readonly startMs: number;
  readonly endMs: number;
};

export class OtlpReceiver {
  readonly spans: ReceivedSpan[] = [];
  /** All that was received, as it came. */
  readonly bodies: Buffer[] = [];
  /** Paths and content types of what was received. */
  readonly requests = new Set<string>();
  readonly #server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      this.bodies.push(body);
      const type = request.headers["content-type"] ?? "";
      this.requests.add(`${request.method} ${request.url} ${type}`);
      if (type === "application/json") this.#take(JSON.parse(body.toString()) as OtlpRequest);
      response.setHeader("Content-Type", type);
      response.end(type === "application/json" ? "{}" : "");
    });
  });

  static async start(): Promise<OtlpReceiver> {
    const receiver = new OtlpReceiver();
    await new Promise<void>((resolve) => receiver.#server.listen(0, "127.0.0.1", resolve));
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** For a program that sends it all its traces, at once. */
  environment(protocol = "http/json"): Record<string, string> {
    return {
      OTEL_EXPORTER_OTLP_ENDPOINT: this.url,
      OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
      OTEL_BSP_SCHEDULE_DELAY: "50",
    };
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #take({ resourceSpans }: OtlpRequest): void {
    for (const { resource, scopeSpans } of resourceSpans) {
      const of = plain(resource.attributes);
      for (const span of scopeSpans.flatMap(({ spans }) => spans)) {
        this.spans.push({
          ...span,
          attributes: plain(span.attributes),
          service: of["service.name"] ?? "",
          instance: of["service.instance.id"] ?? "",
          startMs: Number(BigInt(span.startTimeUnixNano) / 1000n) / 1000,
          endMs: Number(BigInt(span.endTimeUnixNano) / 1000n) / 1000,
        });
      }
    }
  }
}

const plain = (attributes: OtlpAttributes): Record<string, string> =>
  Object.fromEntries(
    attributes.map(({ key, value }) => [key, String(value.stringValue ?? value.intValue ?? "")]),
  );
