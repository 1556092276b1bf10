/** The small HTTP listener of a storage node's process, put together. */
import { CertificateDates } from "#shared/runtime/certificate-dates.ts";
import type { ConfigOf } from "#shared/runtime/config.ts";
import type { WatchedFiles } from "#shared/runtime/file-watch.ts";
import type { Logger } from "#shared/runtime/log.ts";
import type { LogLevelControl } from "#shared/runtime/log-level.ts";
import { joinMetrics, type MetricFamily } from "#shared/runtime/metrics.ts";
import { type ProbeServer, startProbeServer } from "#shared/runtime/probe-server.ts";
import { ProcessMetrics } from "#shared/runtime/process-metrics.ts";
import { logLevelProbes } from "./log-level-probe.ts";
import { nodeProbes } from "./probe.ts";
import { probeListenOf, type probeSettings } from "./settings.ts";

export type OpenProbesOptions = {
  readonly config: ConfigOf<typeof probeSettings>;
  /** Of the node's certificate: authority, certificate, key. Undefined without TLS. */
  readonly files: WatchedFiles | undefined;
  readonly logger: Logger;
  readonly logLevel: LogLevelControl;
};

type Probed = {
  readonly metrics: () => readonly MetricFamily[];
  readonly isServing: () => boolean;
  readonly slow: { readonly total: number };
};

export type Probes = {
  /** Undefined without a listener. */
  readonly url: string | undefined;
  /** The node's certificate, and that of the listener, to be watched. */
  readonly files: readonly WatchedFiles[];
  /** The node has started. */
  serve(node: Probed): void;
  stopping(): void;
  close(): Promise<void>;
};

const noProbes = (files: WatchedFiles | undefined): Probes => ({
  url: undefined,
  files: files === undefined ? [] : [files],
  serve: () => undefined,
  stopping: () => undefined,
  close: async () => undefined,
});

/** @throws the system's error when the listener's address cannot be had */
export async function openProbes(options: OpenProbesOptions): Promise<Probes> {
  const { config, files, logger } = options;
  const listen = probeListenOf(config);
  if (listen === undefined) return noProbes(files);
  let node: Probed | undefined;
  const certificates = new CertificateDates();
  const process = new ProcessMetrics({
    ...{ program: "storage-node", thread: "storage-node", ofProcess: true },
    slow: () => node?.slow.total ?? 0,
    certificates,
  });
  let stopping = false;
  const probed = () =>
    node && {
      serving: !stopping && node.isServing(),
      read: async () => joinMetrics([await process.read(), node?.metrics() ?? []]),
    };
  const server = await startProbeServer({
    ...{ listen, flag: "--http-listen" },
    routes: [...nodeProbes(probed, () => process.read()), ...logLevelProbes(options)],
    tls: files && tlsOf(files.current),
    onFailure: (err) => logger.error({ err }, "the HTTP listener cannot answer"),
  });
  return {
    url: server.url,
    files: files ? [certificates.watched("cluster", files), watched(files, server)] : [],
    serve: (started) => {
      node = started;
    },
    stopping: () => {
      stopping = true;
    },
    close: async () => {
      await server.close();
      process.close();
    },
  };
}

const tlsOf = ([, cert, key]: readonly Buffer[]) => ({ cert: cert!, key: key! });

const watched = ({ paths, current }: WatchedFiles, server: ProbeServer): WatchedFiles => ({
  ...{ name: "certificate of the HTTP listener", paths, current },
  apply: (contents) => server.replaceTls(tlsOf(contents)),
});
