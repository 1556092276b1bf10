/**
 * One run: for every value size both servers are started with empty data directories and filled with
 * the same data, and then every kind of work at every number of connections is measured in slices
 * that alternate between them (minikv, etcd, minikv, etcd, …), so that a disturbance of the machine
 * hits both, and a ratio compares two slices that followed each other.
 *
 * The server that is not loaded stays up and idle. Servers are ended whichever way the run ends.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Children } from "./children.ts";
import { checkStored, fill } from "./client.ts";
import { startEtcdCluster, startMinikvCluster } from "./clusters.ts";
import { type Dataset, makeDataset } from "./dataset.ts";
import { type Idle, watchIdle } from "./idle.ts";
import type { LoadGenerator } from "./load.ts";
import type { NoiseWatch } from "./noise.ts";
import type { BenchOptions, Work } from "./options.ts";
import { readProcessMemory } from "./proc.ts";
import type { ServerName } from "./protocol.ts";
import { startSecureMinikv } from "./secure.ts";
import { type RunningServer, runningMinikv, startMinikv } from "./servers.ts";
import type { Cell, Slice } from "./statistics.ts";
import { startTracedMinikv } from "./traced.ts";
import { sendWrongKeys } from "./wrong-keys.ts";

/** Between the end of a slice and the start of the next, for what the server still has to finish. */
const SETTLE_MS = 500;

export type SessionInput = {
  readonly options: BenchOptions;
  readonly root: string;
  /** An empty directory for everything; the caller removes it. */
  readonly directory: string;
  readonly etcdPath: string | undefined;
  readonly generator: LoadGenerator;
  readonly noise: NoiseWatch;
  readonly children: Children;
  readonly signal: AbortSignal;
  /** Told in words what is being done. */
  readonly progress: (text: string) => void;
  /** Told each figure when it is complete. */
  readonly onCell: (cell: Cell) => void;
  /** Told after each slice beside which wrong keys were sent how they were answered, by status. */
  readonly onWrongKeys: (answers: ReadonlyMap<number, number>, seconds: number) => void;
};

export type ServerRun = {
  readonly server: ServerName;
  readonly valueSizeBytes: number;
  readonly startMs: number | undefined;
  /** Largest resident size over filling and all slices of this value size, of all its processes. */
  readonly residentPeakBytes: number | undefined;
};

export type Session = {
  readonly cells: readonly Cell[];
  readonly idle: readonly Idle[];
  readonly runs: readonly ServerRun[];
};

/** @throws when a server does not start, answers wrongly before or after the slices, or dies */
export async function runSession(input: SessionInput): Promise<Session> {
  const cells: Cell[] = [];
  const runs: ServerRun[] = [];
  let idle: readonly Idle[] = [];
  for (const [index, valueSizeBytes] of input.options.valueSizesBytes.entries()) {
    const servers = await startServers(input, `size-${valueSizeBytes}`);
    try {
      if (index === 0 && input.options.idleS > 0) {
        input.progress(`idle for ${input.options.idleS} s`);
        idle = await watchIdle(servers, input.options.idleS, input.signal);
      }
      const { keysMax, seed, secure } = input.options;
      const dataset = makeDataset({ valueSizeBytes, keysMax, seed, isText: secure });
      await fillAll(input, servers, dataset);
      for (const work of input.options.works) {
        for (const connections of input.options.connections) {
          const cell = await measure(input, { servers, dataset, work, connections });
          cells.push(cell);
          input.onCell(cell);
        }
      }
      for (const server of servers) await checkStored(server.target, dataset, seed + 1);
      runs.push(...servers.map((server) => describeRun(server, valueSizeBytes)));
    } finally {
      await Promise.all(servers.map((server) => server.stop()));
    }
  }
  return { cells, idle, runs };
}

async function startServers(input: SessionInput, name: string): Promise<RunningServer[]> {
  const { children, signal, options, etcdPath } = input;
  const directoryOf = (server: ServerName): string => join(input.directory, `${name}-${server}`);
  const servers: RunningServer[] = [];
  try {
    // One after the other: two that start at once would take each other's processor time.
    servers.push(
      options.target === undefined
        ? await startOwn(input, directoryOf("minikv"))
        : runningMinikv(options.target),
    );
    if (etcdPath !== undefined) {
      const directory = directoryOf("etcd");
      const { nodes } = options;
      servers.push(await startEtcdCluster({ path: etcdPath, directory, children, signal, nodes }));
    }
    if (options.tracing || (options.secure && options.wrongKeysPerSecond === 0)) {
      const directory = directoryOf("bare");
      servers.push(
        await startMinikv({ root: input.root, directory, children, signal, name: "bare" }),
      );
    }
    return servers;
  } catch (error) {
    await Promise.all(servers.map((server) => server.stop()));
    throw error;
  }
}

/** The all-in-one, or a cluster when there are to be several nodes. */
function startOwn(input: SessionInput, directory: string): Promise<RunningServer> {
  const { root, children, signal, options } = input;
  const { nodes } = options;
  const shared = { root, directory, children, signal };
  if (nodes > 1) return startMinikvCluster({ ...shared, nodes });
  if (options.tracing) return startTracedMinikv(shared);
  return options.secure ? startSecureMinikv(shared) : startMinikv(shared);
}

async function fillAll(
  input: SessionInput,
  servers: readonly RunningServer[],
  dataset: Dataset,
): Promise<void> {
  for (const { target } of servers) {
    const { server } = target.protocol;
    input.progress(
      `storing ${dataset.keyCount} values of ${dataset.valueSizeBytes} B in ${server}`,
    );
    await fill(target, dataset, input.signal);
    await checkStored(target, dataset, input.options.seed);
  }
}

async function measure(
  input: SessionInput,
  load: {
    readonly servers: readonly RunningServer[];
    readonly dataset: Dataset;
    readonly work: Work;
    readonly connections: number;
  },
): Promise<Cell> {
  const { options, generator, signal } = input;
  const { dataset, work, connections } = load;
  const { valueSizeBytes } = dataset;
  const run = (server: RunningServer, durationS: number, seed: number): Promise<Slice["result"]> =>
    generator.run({ target: server.target, dataset, work, connections, durationS, seed }, signal);
  const slices: Slice[] = [];
  if (options.warmupS > 0) {
    for (const server of load.servers) {
      input.progress(`${work} ${connections} × ${valueSizeBytes} B: warming ${nameOf(server)}`);
      await run(server, options.warmupS, options.seed);
    }
  }
  for (let pair = 1; pair <= options.pairs; pair++) {
    // Both servers of a pair get the same requests in the same order.
    const seed = options.seed + pair;
    for (const { server, name, wrongKeys } of runsOf(load.servers, options.wrongKeysPerSecond)) {
      const what = `${work} ${connections} × ${valueSizeBytes} B: ${name}`;
      input.progress(`${what} ${pair}/${options.pairs}`);
      await sleep(SETTLE_MS, undefined, { signal });
      input.noise.calibrate();
      const pids = load.servers.flatMap((each) => each.pids);
      const guesser =
        wrongKeys === 0 ? undefined : sendWrongKeys(server.target, server.apiKey!, wrongKeys);
      const result = await input.noise
        .duringSlice(pids, () => run(server, options.durationS, seed))
        .finally(() => {
          const answers = guesser?.stop();
          if (answers !== undefined) input.onWrongKeys(answers, options.durationS);
        });
      slices.push({ server: name, pair, seed, result });
    }
  }
  return { work, connections, valueSizeBytes, slices };
}

type SliceRun = {
  readonly server: RunningServer;
  readonly name: ServerName;
  readonly wrongKeys: number;
};

/** The slices of a pair: one of each server, or two of one, with wrong keys and without. */
function runsOf(servers: readonly RunningServer[], wrongKeys: number): readonly SliceRun[] {
  const [server] = servers;
  if (wrongKeys === 0 || server === undefined) {
    return servers.map((each) => ({ server: each, name: nameOf(each), wrongKeys: 0 }));
  }
  return [
    { server, name: "minikv", wrongKeys },
    { server, name: "calm", wrongKeys: 0 },
  ];
}

const nameOf = (server: RunningServer): ServerName => server.target.protocol.server;

function describeRun(server: RunningServer, valueSizeBytes: number): ServerRun {
  const { pids, startMs } = server;
  const peaks = pids.map((pid) => readProcessMemory(pid)?.residentPeakBytes);
  const known = peaks.filter((bytes) => bytes !== undefined);
  return {
    server: nameOf(server),
    valueSizeBytes,
    startMs,
    residentPeakBytes:
      known.length === 0 ? undefined : known.reduce((sum, bytes) => sum + bytes, 0),
  };
}
