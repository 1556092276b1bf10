/** What must hold all along, whatever happens; looked at after every step. */
import { type ClusterMap, placementOf } from "#shared/cluster-map.ts";
import type { GroupId, LogIndex, NodeId } from "#shared/ids.ts";
import type { Configuration, Message } from "#storage-node/raft/types.ts";
import type { Machine } from "./machine.ts";
import { violated } from "./violation.ts";

const LEADERS_MESSAGES: ReadonlySet<Message["kind"]> = new Set(["append", "heartbeat"]);
const HASH_EVERY_MS = 400;

type Known = { readonly index: LogIndex; readonly configuration: Configuration };

/** What is known of a data directory. */
type Directory = {
  /** Group → replica. */
  hosted: Map<GroupId, number>;
  mapVersion: number;
  /** The life that is watched. */
  open: object | undefined;
};

export class Checker {
  readonly #machines: readonly Machine[];
  readonly #leaders = new Map<string, number>();
  readonly #maps = new Map<number, string>();
  readonly #directories = new Map<string, Directory>();
  /** Replica → directory that has it or had it. */
  readonly #owners = new Map<string, string>();
  readonly #destroyed = new Set<string>();
  readonly #newest = new Map<GroupId, Known>();
  readonly #hashes = new Map<string, string>();
  #nextHashMs = 0;
  /** For results. */
  hashesCompared = 0;
  newestMap: ClusterMap | undefined;

  constructor(machines: readonly Machine[]) {
    this.#machines = machines;
  }

  get elections(): number {
    return this.#leaders.size;
  }
  get mapVersions(): number {
    return this.#maps.size;
  }
  get replicasDestroyed(): number {
    return this.#destroyed.size;
  }
  get replicasMade(): number {
    return this.#owners.size;
  }

  onSend({ kind, group, term, from }: Message): void {
    if (LEADERS_MESSAGES.has(kind)) this.#leads(group, term, from);
  }

  #leads(group: GroupId, term: number, replica: number): void {
    const name = `${group}/${term}`;
    const known = this.#leaders.get(name);
    if (known === undefined) this.#leaders.set(name, replica);
    else if (known !== replica) {
      violated("one leader per term", `group ${group}, term ${term}: ${known} and ${replica}`);
    }
  }

  afterStep(nowMs: number): void {
    for (const machine of this.#machines) {
      for (const { raft, group, isLeader } of machine.hosted) {
        if (isLeader) this.#leads(group, raft.term, raft.id);
        this.#learn(group, { index: raft.status().applied, configuration: raft.configuration });
      }
    }
    for (const machine of this.#machines) this.#lookAt(machine);
    if (nowMs < this.#nextHashMs) return;
    this.#nextHashMs = nowMs + HASH_EVERY_MS;
    for (const machine of this.#machines) this.#compareHashes(machine);
  }

  #learn(group: GroupId, known: Known): void {
    const newest = this.#newest.get(group);
    if (newest === undefined || newest.index < known.index) this.#newest.set(group, known);
  }

  #lookAt(machine: Machine): void {
    const { open, name, incarnation } = machine;
    if (open === undefined) return;
    const directory = this.#directoryOf(`${name}#${incarnation}`);
    if (directory.open !== open) {
      directory.open = open;
      open.cluster.watchMap("", (map) => this.#onMap(machine, directory, map));
    }
    const hosted = new Map(machine.hosted.map(({ group, raft }) => [group, raft.id as number]));
    for (const [group, replica] of hosted) this.#owns(`${name}#${incarnation}`, group, replica);
    for (const [group, replica] of directory.hosted) {
      if (hosted.get(group) !== replica) this.#isDestroyed(group, replica, name);
    }
    directory.hosted = hosted;
  }

  #directoryOf(name: string): Directory {
    const known = this.#directories.get(name);
    if (known !== undefined) return known;
    const made: Directory = { hosted: new Map(), mapVersion: -1, open: undefined };
    this.#directories.set(name, made);
    return made;
  }

  #onMap(machine: Machine, directory: Directory, map: ClusterMap): void {
    if (machine.party?.isOver !== false || directory.open !== machine.open) return;
    if (map.version < directory.mapVersion) {
      const detail = `${machine.name} goes from map ${directory.mapVersion} to ${map.version}`;
      violated("maps go forward", detail);
    }
    directory.mapVersion = map.version;
    const text = JSON.stringify(map);
    const known = this.#maps.get(map.version);
    if (known === undefined) this.#maps.set(map.version, text);
    else if (known !== text) {
      violated("maps go forward", `map ${map.version} is ${known}\nand on ${machine.name} ${text}`);
    }
    if (map.version > (this.newestMap?.version ?? -1)) this.newestMap = map;
  }

  #owns(directory: string, group: GroupId, replica: number): void {
    const id = `${group}/${replica}`;
    const owner = this.#owners.get(id);
    if (owner === undefined) this.#owners.set(id, directory);
    else if (owner !== directory) {
      violated("replica ids are never reused", `${id} is of ${owner}, and now of ${directory}`);
    } else if (this.#destroyed.has(id)) {
      violated("replica ids are never reused", `${id} of ${directory} was destroyed, and is back`);
    }
  }

  #isDestroyed(group: GroupId, replica: number, name: string): void {
    this.#destroyed.add(`${group}/${replica}`);
    const newest = this.#newest.get(group);
    if (newest === undefined) return;
    const { voters, outgoing } = newest.configuration;
    if (![...voters, ...outgoing].some((id) => id === replica)) return;
    const detail = `${name} destroys ${replica} of group ${group}, whose members are ${voters}`;
    violated("destroyed when out of the group", `${detail} as of entry ${newest.index}`);
  }

  #compareHashes(machine: Machine): void {
    const { party } = machine;
    if (machine.open === undefined || party === undefined || party.isPaused) return;
    for (const { group } of machine.hosted) {
      const asking = machine.stateHash(group);
      asking?.then(
        ({ failure, appliedIndex, hash }) => {
          if (failure === undefined && !party.isOver) {
            this.#compareHash(machine.name, group, Number(appliedIndex), hash.toHex());
          }
        },
        () => {},
      );
    }
  }

  #broken: unknown;

  #compareHash(name: string, group: GroupId, index: number, hash: string): void {
    this.hashesCompared++;
    const at = `${group}@${index}`;
    const known = this.#hashes.get(at);
    if (known === undefined) this.#hashes.set(at, `${hash} on ${name}`);
    else if (!known.startsWith(hash)) {
      // Thrown by the next step: here nobody would hear of it.
      this.#broken ??= `group ${group} behind entry ${index}: ${known}, ${hash} on ${name}`;
    }
  }

  check(): void {
    if (this.#broken !== undefined) violated("replicas are equal", String(this.#broken));
  }

  /** The node that leads a group, as far as can be seen from outside. */
  leaderOf(group: GroupId): Machine | undefined {
    let best: { machine: Machine; term: number } | undefined;
    for (const machine of this.#machines) {
      const replica = machine.hosted.find((hosted) => hosted.group === group);
      if (replica?.isLeader && replica.raft.term > (best?.term ?? -1)) {
        best = { machine, term: replica.raft.term };
      }
    }
    return best?.machine;
  }

  /** Every group has what the map says, and everybody is up to date. */
  isHealthy(map: ClusterMap): boolean {
    return [...map.placements, map.meta].every(({ group }) => this.whyUnsettled(map, group) === "");
  }

  /** What is still to be done for a group; empty when nothing is. */
  whyUnsettled(map: ClusterMap, group: GroupId): string {
    const { replicas } = placementOf(map, group);
    const roles = replicas.filter(({ role }) => role !== "voter");
    if (roles.length > 0) return `group ${group}: ${roles.map(({ role }) => role)}`;
    const leader = this.leaderOf(group)?.hosted.find((hosted) => hosted.group === group);
    if (leader === undefined) return `group ${group} has no leader`;
    const { configuration, peers, lastIndex, commit } = leader.raft.status();
    const { voters, outgoing, learners } = configuration;
    const wanted = replicas.map(({ replica }) => replica as number).sort((a, b) => a - b);
    const have = [...voters].map(Number).sort((a, b) => a - b);
    if (wanted.join() !== have.join() || outgoing.length + learners.length > 0) {
      return `group ${group}: the map has ${wanted}, the group ${have}, ${outgoing}, ${learners}`;
    }
    const late = peers.filter(({ match }) => match !== lastIndex);
    if (late.length > 0) return `group ${group}: ${late.map(({ id }) => id)} lag`;
    return commit === lastIndex ? "" : `group ${group}: not all is committed`;
  }

  ownerOf(node: NodeId): Machine | undefined {
    return this.#machines.find((machine) => machine.nodeId === node);
  }
}
