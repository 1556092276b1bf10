/**
 * The members of a cluster on one machine: starts them, carries out commands on them, tells when one
 * ends, and stops them in order. Restarts nothing by itself: whoever plays with faults wants to see them.
 *
 * `cluster.json` says at every moment which processes run (docs/operations.md). It is written from the
 * moment at which the cluster is ready for the first time, so that it can be waited for.
 */
import type { Clock } from "#shared/clock.ts";
import { DEV_NODES_MAX, DEV_PAUSE_MS_MAX } from "#shared/limits.ts";
import { formatHostPort, type HostPort } from "#shared/runtime/config-value.ts";
import { writeJsonFile } from "./atomic-file.ts";
import type { Answer, ClusterStatus, Command, MemberStatus, Target } from "./control-protocol.ts";
import type { Layout } from "./layout.ts";
import { Member, type MemberOptions } from "./member.ts";
import {
  GATEWAY_SERVES_LINE,
  gatewayArgs,
  gatewayEnv,
  type MemberConfig,
  NODE_SERVES_LINE,
  nodeHttpUrlIn,
  nodeIdIn,
  storageNodeArgs,
  storageNodeEnv,
} from "./member-args.ts";
import { describeEnd, type SpawnProcess } from "./processes.ts";
import { type Starting, startTogether } from "./start-together.ts";
import {
  addressOf,
  type ClusterState,
  type NodePlace,
  withNodes,
  withoutNode,
  writeState,
} from "./state.ts";

export type SupervisorOptions = {
  readonly layout: Layout;
  readonly state: ClusterState;
  readonly config: MemberConfig;
  /** Flag that the commands for this cluster need, with a space in front; empty for none. */
  readonly dirFlag: string;
  /** Zones for nodes that are added. */
  readonly zones: readonly string[];
  /** Where the gateways listen. */
  readonly gateways: readonly HostPort[];
  readonly spawn: SpawnProcess;
  /** What the gateway at a URL waits for, or undefined when it is ready. */
  readonly gatewayWaitsFor: (url: string) => Promise<string | undefined>;
  /** A port that nobody uses and none of these is. */
  readonly findPort: (taken: ReadonlySet<number>) => Promise<number>;
  readonly clock: Clock;
  /** Tells a person, in one line. */
  readonly report: (line: string) => void;
};

type NodeMember = { readonly place: NodePlace; readonly member: Member };
type GatewayMember = { readonly url: string; readonly port: number; readonly member: Member };

export class Supervisor {
  readonly #options: SupervisorOptions;
  #state: ClusterState;
  #nodes: readonly NodeMember[];
  readonly #gateways: readonly GatewayMember[];
  #wasReady = false;
  #stopping = false;
  #adding = false;
  #clusterFileText = "";

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#state = options.state;
    this.#nodes = options.state.nodes.map((place) => this.#newNode(place));
    this.#gateways = options.gateways.map((listen, index) => this.#newGateway(listen, index));
  }

  get status(): ClusterStatus {
    const { layout } = this.#options;
    return {
      directory: layout.directory,
      supervisorPid: process.pid,
      gateways: this.#gateways.map(({ url, member }) => ({ ...statusOf(member), url })),
      storageNodes: this.#nodes.map(({ place, member }) => ({
        ...statusOf(member),
        id: nodeIdIn(member.servesLine),
        address: addressOf(place),
        httpUrl: nodeHttpUrlIn(member.servesLine),
        dataDir: layout.dataDir(place.name),
      })),
    };
  }

  /**
   * Starts every member. Resolves when all nodes serve and all gateways are ready.
   *
   * @throws KvError UNAVAILABLE when a process ends, or does not become ready
   */
  async start(): Promise<void> {
    const nodes = this.#nodes.map(({ member, place }) => nodeStarting(member, place));
    const gateways = this.#gateways.map(({ member, url }) => ({
      member,
      waitsFor: () => this.#options.gatewayWaitsFor(url),
      readyText: () => `is ready at ${url}`,
    }));
    await startTogether([...nodes, ...gateways], this.#options);
    this.#wasReady = true;
    this.#writeClusterFile();
  }

  /**
   * Nothing is started from here on.
   *
   * @throws Error when one ends with a failure, or has to be killed
   */
  stopGateways(timeoutMs: number): Promise<void> {
    this.#stopping = true;
    return stopAll(this.#gateways, timeoutMs);
  }

  /** @throws Error when one ends with a failure, or has to be killed */
  stopNodes(timeoutMs: number): Promise<void> {
    return stopAll(this.#nodes, timeoutMs);
  }

  /** SIGKILL to whatever runs, at once. */
  killAll(): void {
    for (const { member } of [...this.#gateways, ...this.#nodes]) member.signal("SIGKILL");
  }

  async execute(command: Command): Promise<Answer> {
    if (command.kind === "status") return { kind: "status", status: this.status };
    if (!this.#wasReady) return refused("the cluster is still starting");
    if (this.#stopping) return refused("the cluster is stopping");
    if (command.kind === "add-node") return this.#addNode();
    const found = this.#find(command.target);
    if ("kind" in found) return found;
    const { name, phase } = found;
    if (phase === "starting" && command.kind !== "kill") return refused(`${name} is starting`);
    if (phase === "stopping") return refused(`${name} is stopping`);
    switch (command.kind) {
      case "restart":
        return this.#restart(found);
      case "forget":
        return this.#forget(found);
      case "kill":
        if (phase === "ended") return refused(`${name} does not run`);
        found.signal(`SIG${command.signal}`);
        if (command.signal === "KILL") await found.ended();
        return done(`${name} was sent SIG${command.signal}${found.isPaused ? WHEN_RESUMED : ""}`);
      case "pause": {
        if (phase === "ended") return refused(`${name} does not run`);
        const { forMs } = command;
        if (forMs !== null && forMs > DEV_PAUSE_MS_MAX) return refused("that is too long a pause");
        found.pause(forMs ?? undefined);
        const until = forMs === null ? "until it is resumed" : `for ${forMs / 1000} s`;
        return done(`${name} is paused ${until}`);
      }
      case "resume":
        if (!found.isPaused) return refused(`${name} is not paused`);
        found.resume();
        return done(`${name} goes on`);
    }
  }

  async #restart(member: Member): Promise<Answer> {
    // Not waiting when there is nothing to stop: of two restarts at once, the second finds a start.
    if (member.phase !== "ended") await member.stop(this.#options.config.shutdownTimeoutMs);
    if (this.#stopping) return refused("the cluster is stopping");
    const node = this.#nodes.find((candidate) => candidate.member === member);
    const starting: Starting =
      node === undefined
        ? // Not its readiness: without a quorum it would never come.
          { member, readyText: () => "serves" }
        : nodeStarting(member, node.place);
    return this.#begin(starting);
  }

  async #addNode(): Promise<Answer> {
    if (this.#adding) return refused("a node is being added already");
    if (this.#nodes.length >= DEV_NODES_MAX) {
      return refused(`there are ${DEV_NODES_MAX} nodes already`);
    }
    this.#adding = true;
    try {
      const nodePorts = this.#nodes.map(({ place }) => place.port);
      const gatewayPorts = this.#gateways.map(({ port }) => port);
      const port = await this.#options.findPort(new Set([...nodePorts, ...gatewayPorts]));
      if (this.#stopping) return refused("the cluster is stopping");
      this.#state = withNodes(this.#state, [port], this.#options.zones);
      writeState(this.#options.layout.statePath, this.#state);
      const place = this.#state.nodes.at(-1)!;
      const node = this.#newNode(place);
      this.#nodes = [...this.#nodes, node];
      return await this.#begin(nodeStarting(node.member, place));
    } finally {
      this.#adding = false;
    }
  }

  async #begin(starting: Starting): Promise<Answer> {
    try {
      await startTogether([starting], this.#options);
      return done(`${starting.member.name} ${starting.readyText()}`);
    } catch (error) {
      return refused(error instanceof Error ? error.message : String(error));
    }
  }

  #forget(member: Member): Answer {
    const { name } = member;
    if (member.phase !== "ended") return refused(`${name} still runs: kill it first`);
    if (!this.#nodes.some((node) => node.member === member)) return refused(`${name} is no node`);
    if (this.#nodes.length === 1) return refused(`${name} is the only node`);
    this.#state = withoutNode(this.#state, name);
    writeState(this.#options.layout.statePath, this.#state);
    this.#nodes = this.#nodes.filter((node) => node.member !== member);
    this.#writeClusterFile();
    const dataDir = this.#options.layout.dataDir(name);
    return done(`${name} will not be started again; its data stays in ${dataDir}`);
  }

  #find(target: Target): Member | Answer {
    if (target.kind === "gateway") {
      const gateway = this.#gateways[target.number - 1];
      if (gateway !== undefined) return gateway.member;
      return refused(`there is no gateway ${target.number}: there are ${this.#gateways.length}`);
    }
    const { node } = target;
    const isId = ({ member }: NodeMember) => String(nodeIdIn(member.servesLine)) === node;
    const isName = ({ place }: NodeMember) => place.name === node || place.name === `node-${node}`;
    const found = this.#nodes.find(isId) ?? this.#nodes.find(isName);
    if (found !== undefined) return found.member;
    const names = this.#nodes.map(({ place }) => place.name).join(", ");
    return refused(`there is no node "${node}": there are ${names}`);
  }

  #newNode(place: NodePlace): NodeMember {
    const { layout, config } = this.#options;
    const dataDir = layout.dataDir(place.name);
    const args = () => storageNodeArgs(place, { state: this.#state, config, dataDir });
    const { name } = place;
    const env = storageNodeEnv(config);
    const own = { name, args, env, servesLine: NODE_SERVES_LINE };
    return { place, member: this.#newMember(own, name) };
  }

  #newGateway(listen: HostPort, index: number): GatewayMember {
    const name = `gateway-${index + 1}`;
    const { config } = this.#options;
    const args = () => gatewayArgs(listen, { state: this.#state, config });
    const member = this.#newMember(
      { name, args, env: gatewayEnv(config), servesLine: GATEWAY_SERVES_LINE },
      `--gateway ${index + 1}`,
    );
    return { url: urlOf(listen), port: listen.port, member };
  }

  /** `operand` is how commands name it. */
  #newMember(
    own: Pick<MemberOptions, "name" | "args" | "env" | "servesLine">,
    operand: string,
  ): Member {
    const { layout, spawn, clock, report, dirFlag } = this.#options;
    const { name } = own;
    return new Member({
      ...own,
      logPath: layout.logPath(name),
      spawn,
      clock,
      onChange: () => this.#writeClusterFile(),
      onUnexpectedEnd: (pid, end) =>
        report(
          `${name} (pid ${pid}) ${describeEnd(end)}. Start it again with: ` +
            `bin/minikv dev restart ${operand}${dirFlag}`,
        ),
    });
  }

  #writeClusterFile(): void {
    if (!this.#wasReady) return;
    const { gateways, storageNodes } = this.status;
    const contents = {
      gateways: gateways.map(({ url, pid }) => ({ url, pid })),
      storageNodes: storageNodes.map(({ id, address, httpUrl, pid, dataDir, name }) => ({
        ...{ id, address, httpUrl, pid, dataDir, name },
      })),
    };
    const text = JSON.stringify(contents);
    if (text === this.#clusterFileText) return;
    try {
      writeJsonFile(this.#options.layout.clusterFilePath, contents);
      this.#clusterFileText = text;
    } catch (error) {
      // A full disk is one of the faults to play with: the next change tries again.
      this.#options.report(`cannot write cluster.json: ${String(error)}`);
    }
  }
}

const WHEN_RESUMED = ", which it takes when it is resumed";

const done = (message: string): Answer => ({ kind: "done", message });
const refused = (message: string): Answer => ({ kind: "refused", message });

function nodeStarting(member: Member, place: NodePlace): Starting {
  const readyText = () => {
    const id = nodeIdIn(member.servesLine);
    return `serves on ${addressOf(place)}${id === null ? "" : ` as node ${id}`}`;
  };
  return { member, readyText };
}

function statusOf(member: Member): MemberStatus {
  const { name, phase, isPaused, pid, lastEnd, logPath } = member;
  return { name, phase, paused: isPaused, pid, lastEnd: lastEnd ?? null, logPath };
}

/** Where this machine reaches a listener. */
function urlOf({ host, port }: HostPort): string {
  const isAny = host === "0.0.0.0" || host === "::";
  return `http://${formatHostPort({ host: isAny ? "127.0.0.1" : host, port })}`;
}

async function stopAll(
  members: readonly { readonly member: Member }[],
  timeoutMs: number,
): Promise<void> {
  const failures: string[] = [];
  await Promise.all(
    members.map(async ({ member }) => {
      const failure = await member.stop(timeoutMs);
      if (failure !== undefined) failures.push(`${member.name} ${failure}`);
    }),
  );
  if (failures.length > 0) throw new Error(failures.join("; "));
}
