/**
 * `minikv dev --nodes N`: a cluster of processes on this machine, with one command.
 *
 * The supervisor serves nothing itself. It starts the processes, takes commands for them, and ends
 * them; what they keep is in their own directories, so that it can be killed like any of them.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { clusterDirectorySetting, type DevConfig } from "#bin/dev-config.ts";
import { authText, curlAuth } from "#gateway/auth/settings.ts";
import { systemClock } from "#shared/clock.ts";
import { systemRandom } from "#shared/random.ts";
import { createLogger } from "#shared/runtime/log.ts";
import type { ServerSignals } from "#shared/runtime/server-signals.ts";
import { runUntilSignal, type StopStep } from "#shared/runtime/shutdown.ts";
import { VERSION } from "#shared/runtime/version.ts";
import type { ClusterStatus } from "./control-protocol.ts";
import { type ControlServer, serveControl } from "./control-server.ts";
import { gatewayWaitsFor } from "./gateway-readiness.ts";
import { layoutOf, openClusterDirectory, shellWord, socketPath } from "./layout.ts";
import { findFreePorts } from "./ports.ts";
import { prepareCluster, zonesOf } from "./prepare.ts";
import { processSpawner } from "./processes.ts";
import { NODE_HOST } from "./state.ts";
import { Supervisor } from "./supervisor.ts";

const PROGRAM = join(import.meta.dirname, "..", "minikv");

/** Of what remains of the time to stop, for the gateways; the nodes get the rest. */
const GATEWAYS_SHARE = 0.5;
const NODES_SHARE = 0.9;

/** Starts the cluster and returns once it is ready; it runs until a signal. */
export async function runDevCluster(
  config: DevConfig,
  signals: ServerSignals,
  /** What the processes run; another one for tests. */
  command: readonly [string, ...string[]] = [PROGRAM],
): Promise<void> {
  const logger = createLogger({ level: config.logLevel, program: "dev" });
  const clock = systemClock();
  const random = systemRandom();
  const report = (line: string): void => void process.stdout.write(`${line}\n`);
  const layout = layoutOf(config.dir);
  const dirFlag = dirFlagOf(config.dir);
  const controlPath = socketPath(layout.controlPath);
  const lock = openClusterDirectory(layout);
  let supervisor: Supervisor | undefined;
  let control: ControlServer | undefined;
  let stopping = false;
  const steps: readonly StopStep[] = [
    {
      name: "stop the gateways",
      run: async (remainingMs) => {
        stopping = true;
        await supervisor?.stopGateways(remainingMs * GATEWAYS_SHARE);
      },
    },
    {
      name: "stop the storage nodes",
      run: (remainingMs) => supervisor?.stopNodes(remainingMs * NODES_SHARE),
    },
    { name: "close the control socket", run: () => control?.close() },
    { name: "give up the directory", run: () => lock.release() },
  ];
  // From the beginning, so that a signal during the start ends what has been started. Whatever ends
  // this process, nothing that it has started is left.
  runUntilSignal({ logger, timeoutMs: config.shutdownTimeoutMs, steps });
  signals.serve(logger, undefined);
  process.on("exit", () => supervisor?.killAll());
  try {
    const { state, gateways } = await prepareCluster({ layout, config, random, clock, report });
    if (stopping) return;
    // Its processes are gone; it comes back when those of this run serve.
    rmSync(layout.clusterFilePath, { force: true });
    supervisor = new Supervisor({
      ...{ layout, state, config, gateways, clock, report, gatewayWaitsFor, dirFlag },
      zones: zonesOf(config.zones),
      spawn: processSpawner(command),
      findPort: async (taken) =>
        (await findFreePorts({ host: NODE_HOST, count: 1, random, taken }))[0]!,
    });
    control = await serveControl(controlPath, (command) => supervisor!.execute(command));
    report(`starting ${count(state.nodes, "storage node")} and ${count(gateways, "gateway")} …`);
    await supervisor.start();
    process.stdout.write(banner(supervisor.status, dirFlag, config));
  } catch (error) {
    // The stop that has begun has ended the processes; it also ends this one.
    if (stopping) return;
    for (const { run } of steps) await stopAfterFailure(run, config.shutdownTimeoutMs);
    throw error;
  }
}

/** The failure of the start is what is told, not what follows from it. */
async function stopAfterFailure(run: StopStep["run"], timeoutMs: number): Promise<void> {
  try {
    await run(timeoutMs);
  } catch {
    // A process that ended with a failure is in the message already, or has been killed.
  }
}

const count = ({ length }: readonly unknown[], what: string): string =>
  `${length} ${what}${length === 1 ? "" : "s"}`;

function dirFlagOf(dir: string): string {
  if (dir === clusterDirectorySetting.default) return "";
  return ` --dir ${shellWord(dir)}`;
}

function banner(
  { gateways, storageNodes, directory }: ClusterStatus,
  dirFlag: string,
  config: DevConfig,
): string {
  const auth = curlAuth(config, config.listen);
  const first = gateways[0]!.url;
  const last = gateways.at(-1)!.url;
  const node = storageNodes[0]!.name;
  return `minikv ${VERSION} serves ${gateways.map(({ url }) => url).join(" and ")}
${count(storageNodes, "storage node")}, data and logs in ${directory}; processes in its cluster.json
${authText(config, config.listen)}${auth && ", and a log of a gateway has the root key where none is set"}

Try it:
  curl -X PUT${auth} ${first}/v1/kv/hello -H 'Content-Type: text/plain' --data-binary 'world'
  curl -i${auth} ${last}/v1/kv/hello
  curl${auth} ${first}/admin/status

Play with faults:
  bin/minikv dev kill --leader-of hello${dirFlag}
  bin/minikv dev status${dirFlag}
  bin/minikv dev restart ${node}${dirFlag}
  bin/minikv dev pause ${node} --for 10s${dirFlag}
  bin/minikv dev add-node${dirFlag}

Stop with Ctrl-C.
`;
}
