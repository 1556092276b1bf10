/**
 * A simulated machine with a storage node on it: the real node, opened as the product opens it, over a
 * data directory, a log and an engine in memory that forget what was not synced when the power goes.
 */
import { create } from "@bufbuild/protobuf";
import { GetStateHashRequestSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import type { ClusterMap } from "#shared/cluster-map.ts";
import { GrpcStatus, KvError } from "#shared/errors.ts";
import type { NodeId } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import { MemoryDisk, openMemory } from "#storage-node/engine/memory.ts";
import { MemberCandidate, type SelfDescription } from "#storage-node/meta/bootstrap.ts";
import { CandidateHandler } from "#storage-node/meta/cluster-handler.ts";
import type { ClusterHandler } from "#storage-node/meta/peers.ts";
import { type OpenNode, type OpenNodeOptions, openStorageNode } from "#storage-node/open-node.ts";
import type { Message } from "#storage-node/raft/types.ts";
import type { Replica } from "#storage-node/replica/replica.ts";
import { changesHello, nodeHello } from "#storage-node/rpc/hello.ts";
import { OperateStream } from "#storage-node/rpc/operate-stream.ts";
import { MemoryFileSystem } from "#storage-node/wal/memory-file-system.ts";
import { DIRECTORY, serveWatch, simPeers, WATCH } from "./calls.ts";
import { DirectoryFiles, SimDirectory } from "./directory.ts";
import { LateEngine } from "./late-engine.ts";
import type { Network, SimStream } from "./network.ts";
import type { Options } from "./options.ts";
import { Party, PartyClock } from "./party.ts";
import { PausingStream } from "./pausing-stream.ts";
import { SimTransport } from "./transport.ts";
import { Violation, violated } from "./violation.ts";

export const CLUSTER = "sim";
export const OPERATE = "operate";
export const CHANGES = "changes";
const VERSION = "sim";
const SEGMENT_SIZE_BYTES = 65_536;
const FREE_BYTES = 2 ** 40;
const ENGINE_WRITE_MS_MAX = 400;

export type MachineParts = {
  readonly name: string;
  readonly zone: string;
  readonly seeds: readonly string[];
  readonly bootstrapExpect: number;
  readonly random: SeededRandom;
  readonly options: Options;
  readonly network: Network;
  readonly machineAt: (address: string) => Machine | undefined;
  readonly onSend: (message: Message) => void;
  readonly onPlan: (machine: Machine, reasons: readonly string[]) => void;
};

/** One run of the process. */
type Life = {
  readonly party: Party;
  handler: ClusterHandler | undefined;
  open: OpenNode | undefined;
  transport: SimTransport | undefined;
  engine: Engine | undefined;
  fatal: unknown;
  /** Is being ended in order. */
  stopping: boolean;
};

export class Machine {
  readonly name: string;
  readonly parts: MachineParts;
  readonly #random: SeededRandom;
  /** Dice that nobody else draws. */
  readonly #engineRandom: SeededRandom;
  readonly #rate: number;
  #skewMs: number;
  #files: DirectoryFiles;
  #engineDisk = new MemoryDisk();
  #fs = new MemoryFileSystem();
  #life: Life | undefined;
  /** Writes of the directory that are under way. */
  #writing: (() => void)[] = [];
  #diskFreeMs = 0;
  #engineFreeMs = 0;
  #changesStreams = 0;
  /** Counts emptied disks: a directory is named by it. */
  incarnation = 0;
  /** How much slower than usual its disk is. */
  diskFactor = 1;
  /** Was started once. */
  hasBegun = false;
  /** Taken out of the cluster for good. */
  retired = false;

  constructor(parts: MachineParts) {
    const { random, options } = parts;
    this.parts = parts;
    this.name = parts.name;
    const seed = random.below(2 ** 32);
    this.#random = new SeededRandom(seed);
    this.#engineRandom = new SeededRandom(seed ^ 0xe491e);
    this.#rate = 1 + (random.float() - 0.5) * options.clockRateSpread;
    this.#skewMs = (random.float() - 0.5) * options.clockSkewMs;
    this.#files = new DirectoryFiles(this.#random);
  }

  get running(): boolean {
    return this.#life !== undefined;
  }
  get party(): Party | undefined {
    return this.#life?.party;
  }
  /** Serves; undefined while it is down, starts or waits for its cluster. */
  get open(): OpenNode | undefined {
    return this.#life?.open;
  }
  get handler(): ClusterHandler | undefined {
    return this.#life?.handler;
  }
  get transport(): SimTransport | undefined {
    return this.#life?.transport;
  }
  /** Of its data directory, also while it is down. */
  get nodeId(): NodeId | undefined {
    return this.#files.identity?.nodeId;
  }
  get hosted(): readonly Replica[] {
    return this.#life?.open?.node.host.hosted ?? [];
  }
  /** As it is on its disk. */
  get map(): ClusterMap | undefined {
    return this.#files.map;
  }

  start(): void {
    this.hasBegun = true;
    const { network, options } = this.parts;
    const clock = new PartyClock(network.agenda.nowMs, { rate: this.#rate, skewMs: this.#skewMs });
    const party = new Party(this.name, clock);
    const life: Life = {
      party,
      handler: undefined,
      open: undefined,
      transport: undefined,
      engine: undefined,
      fatal: undefined,
      stopping: false,
    };
    this.#life = life;
    this.#fs = this.#fs.restarted({
      intercept: () => (party.isOver ? { kind: "lost" } : undefined),
      defer: (run) => this.#afterDisk(life, run),
    });
    network.listen(this.name, {
      party,
      accept: (stream, purpose, from) => this.#accept(life, stream, purpose, from),
    });
    openStorageNode(this.#optionsOf(life, options)).then(
      (open) => {
        life.open = open;
        life.handler = open.cluster;
      },
      (error: unknown) => {
        life.fatal ??= error;
      },
    );
  }

  #optionsOf(life: Life, options: Options): OpenNodeOptions {
    const { network, machineAt, onSend, onPlan } = this.parts;
    const { party } = life;
    const calls = {
      network,
      party,
      at: (address: string) => {
        const target = machineAt(address);
        const { handler, party: theirs, open } = target ?? {};
        return handler && theirs && { party: theirs, handler, directory: open?.directory };
      },
    };
    const peers = simPeers(calls);
    const engineDisk = this.#engineDisk;
    const describe = (): SelfDescription => this.#describe();
    return {
      dataDirectory: "/data",
      nodeId: undefined,
      clusterId: undefined,
      engine: options.mayCompactLog ? "rocksdb" : "memory",
      walSegmentSizeBytes: SEGMENT_SIZE_BYTES,
      diskReserveBytes: 0,
      clock: party.clock,
      random: this.#random,
      freeSpace: (_path, done) => done(null, FREE_BYTES),
      softwareVersion: VERSION,
      cluster: {
        replicationFactor: options.replicationFactor,
        metaReplicas: options.metaReplicas,
        movesAtOnceMax: options.movesAtOnceMax,
        rebuildAfterMs: options.rebuildAfterMs,
      },
      disk: {
        openDirectory: async (wanted) =>
          new SimDirectory(this.#files, (done) => this.#writeFile(life, done), wanted),
        openEngine: async () => {
          const engine = openMemory(engineDisk);
          life.engine = options.lateEngine
            ? new LateEngine(engine, (write) => this.#afterEngine(life, write))
            : engine;
          return life.engine;
        },
        files: this.#fs,
      },
      describe,
      becomeMember: async (directory) => {
        const candidate = new MemberCandidate({
          self: describe(),
          peers,
          clock: party.clock,
          clusterId: `${CLUSTER}-${this.#random.fill(new Uint8Array(4)).toHex()}`,
          clusterName: CLUSTER,
          replicationFactor: options.replicationFactor,
          metaReplicas: options.metaReplicas,
          adopt: async (membership) => void (await directory.adopt(membership)),
          onWaiting: () => {},
        });
        life.handler = new CandidateHandler(describe(), VERSION, candidate);
        await candidate.run();
      },
      connect: ({ nodeId, clusterId }) => {
        const at = (address: string) => machineAt(address)?.transport;
        const transport = new SimTransport({ network, party, nodeId, clusterId, at, onSend });
        life.transport = transport;
        return { transport, peers };
      },
      onFatal: (error) => {
        life.fatal ??= error;
      },
      onWritable: () => {},
      onPlan: (reasons) => {
        if (!party.isOver) onPlan(this, reasons);
      },
      // A planner that throws would else only do nothing any more.
      onPlanFailure: (error) => {
        if (!(error instanceof KvError) && !party.isOver) life.fatal ??= error;
      },
      onRemoved: () => {},
    };
  }

  #describe(): SelfDescription {
    const { zone, seeds, bootstrapExpect } = this.parts;
    return {
      address: this.name,
      zone,
      host: this.name.split(":")[0]!,
      capacityBytes: 0,
      joinToken: this.#files.joinToken,
      seeds,
      bootstrapExpect,
    };
  }

  /** The disk answers one request after the other, each in its time. */
  #afterDisk({ party }: Life, run: () => void): void {
    const { agenda } = this.parts.network;
    const { delayMsMin, delayMsMax } = this.parts.options.disk;
    const delayMs = delayMsMin + this.#random.float() ** 3 * (delayMsMax - delayMsMin);
    this.#diskFreeMs = Math.max(this.#diskFreeMs, agenda.nowMs) + delayMs * this.diskFactor * 0.4;
    agenda.after(this.#diskFreeMs - agenda.nowMs, () => party.runSurely(run));
  }

  /** The engine writes one batch after the other; mostly at once, and now and then it takes long. */
  #afterEngine({ party }: Life, write: () => void): void {
    const { agenda } = this.parts.network;
    const delayMs = this.#engineRandom.float() ** 6 * ENGINE_WRITE_MS_MAX;
    this.#engineFreeMs = Math.max(this.#engineFreeMs, agenda.nowMs) + delayMs;
    agenda.after(this.#engineFreeMs - agenda.nowMs, () => party.runSurely(write));
  }

  #writeFile(life: Life, done: () => void): Promise<void> {
    return new Promise((resolve) => {
      if (life.party.isOver) return;
      this.#writing.push(done);
      this.#afterDisk(life, () => {
        this.#writing = this.#writing.filter((other) => other !== done);
        done();
        resolve();
      });
    });
  }

  #accept(life: Life, stream: SimStream, purpose: string, from: Party): void {
    const [kind, sender, receiver] = purpose.split(" ");
    if (kind === WATCH) serveWatch(life.handler, stream);
    else if (kind === DIRECTORY && life.open) life.open.directory.follow(stream);
    else if (kind === OPERATE) this.#serveOperate(life, stream);
    else if (kind === CHANGES) this.#serveChanges(life, stream);
    else if (kind === "snapshot" && Number(receiver) === this.nodeId && life.transport) {
      life.transport.accept(stream, Number(sender) as NodeId);
    } else refuse(stream, `${from.name} asks for ${purpose}`);
  }

  #serveOperate({ open, party, stopping }: Life, stream: SimStream): void {
    if (open === undefined || stopping) {
      refuse(stream, "the storage node belongs to no cluster yet");
      return;
    }
    const { nodeId, clusterId } = open.identity;
    new OperateStream({
      stream,
      handler: open.node,
      hello: nodeHello({ nodeId, clusterId, softwareVersion: VERSION }),
      clock: party.clock,
      onClosed: () => {},
    });
  }

  #serveChanges({ open, party, stopping }: Life, stream: SimStream): void {
    if (open === undefined || stopping) {
      refuse(stream, "the storage node belongs to no cluster yet");
      return;
    }
    const hello = changesHello({ ...open.identity, softwareVersion: VERSION });
    // Dice that nobody else draws.
    const random = new SeededRandom(this.#changesStreams++);
    open.node.changes.serve(new PausingStream(stream, party, random), hello);
  }

  /** The process ends now. Without power, what was not synced may be lost too. */
  crash({ losesPower }: { readonly losesPower: boolean }): void {
    const life = this.#life;
    if (life === undefined) return;
    life.party.end();
    this.#life = undefined;
    const random = this.#random;
    const luck = random.float();
    for (const done of this.#writing) {
      if (random.float() >= luck) break;
      done();
    }
    this.#writing = [];
    this.#diskFreeMs = 0;
    this.#engineFreeMs = 0;
    // A disk of its own for each life: what the dead one still flushes must not reach anybody.
    const left = new MemoryDisk();
    left.save(this.#engineDisk.saved);
    this.#engineDisk = left;
    if (!losesPower) return;
    const names = random.float();
    this.#fs = this.#fs.crash({
      sector: () => random.float() < luck,
      name: () => random.float() < names,
    });
  }

  /** As an operator restarts it: it hands over, answers what it has, and closes. */
  stop(done: () => void): void {
    const life = this.#life;
    if (life?.open === undefined || life.stopping) return;
    life.stopping = true;
    const { open } = life;
    const stopped = open.node.handOver(1_000).then(() => open.close(500));
    stopped.then(
      () => {
        if (life.party.isOver) return;
        this.crash({ losesPower: false });
        done();
      },
      (error: unknown) => {
        life.fatal ??= error;
      },
    );
  }

  /** Everything on its disk is gone; it begins as a new node. */
  wipe(): void {
    if (this.running) this.crash({ losesPower: true });
    this.incarnation++;
    this.#files = new DirectoryFiles(this.#random);
    this.#engineDisk = new MemoryDisk();
    this.#fs = new MemoryFileSystem();
  }

  jumpWall(byMs: number): void {
    this.#skewMs += byMs;
    this.party?.clock.jumpWall(byMs);
  }

  flush(): void {
    // Through the node's own maintenance it would come too late for a short run.
    if (this.#life?.open !== undefined) void this.#life.engine?.flush();
  }

  stateHash(group: number) {
    return this.#life?.open?.cluster.stateHash(create(GetStateHashRequestSchema, { group }));
  }

  /** To be asked after every step: a node never ends by itself here. */
  check(): void {
    const fatal = this.#life?.fatal;
    if (fatal === undefined || this.#life?.party.isOver) return;
    if (fatal instanceof Violation) throw fatal;
    const text = fatal instanceof Error ? (fatal.stack ?? fatal.message) : String(fatal);
    violated("node", `${this.name}: ${text}`, fatal);
  }
}

function refuse(stream: SimStream, details: string): void {
  stream.listen({ onMessage: () => {}, onDrain: () => {}, onClosed: () => {} });
  stream.abort({ code: GrpcStatus.Unavailable, details });
}
