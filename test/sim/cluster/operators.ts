/** Operators of the cluster: machines join, are drained, removed and replaced, leaders are moved. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ChangeClusterRequestSchema } from "#proto/gen/minikv/v1/cluster_pb.ts";
import { type ClusterMap, NodeState, nodesOfPlacement } from "#shared/cluster-map.ts";
import { KvError } from "#shared/errors.ts";
import type { NodeId } from "#shared/ids.ts";
import type { SeededRandom } from "#shared/random.ts";
import type { Agenda } from "./agenda.ts";
import type { Checker } from "./checker.ts";
import type { Gateway } from "./gateway.ts";
import type { Machine } from "./machine.ts";
import type { ChangeName, Options } from "./options.ts";

export type OperatorParts = {
  readonly agenda: Agenda;
  readonly random: SeededRandom;
  readonly machines: readonly Machine[];
  readonly gateways: readonly Gateway[];
  readonly checker: Checker;
  readonly options: Options;
  readonly onError: (error: unknown) => void;
  readonly onChange: (text: string) => void;
};

type Change = NonNullable<MessageInitShape<typeof ChangeClusterRequestSchema>["change"]>;

const CALL_TIMEOUT_MS = 4_000;
const REMOVAL_EVERY_MS = 700;
const UP_NODES_MIN = 3;

export class Operators {
  readonly #parts: OperatorParts;
  /** Nodes whose machines have lost everything. */
  readonly #lost = new Set<NodeId>();
  readonly done: Partial<Record<ChangeName, number>> = {};
  #over = false;
  #removing = false;
  #nextRemovalMs = 0;

  constructor(parts: OperatorParts) {
    this.#parts = parts;
  }

  begin(): void {
    for (const [name, everyMs] of Object.entries(this.#parts.options.changeEveryMs)) {
      this.#later(name as ChangeName, everyMs);
    }
  }

  /** Nothing new is begun; see `tidy`. */
  end(): void {
    this.#over = true;
  }

  #later(name: ChangeName, everyMs: number): void {
    const { agenda, random } = this.#parts;
    agenda.after(-Math.log(1 - random.float()) * everyMs, () => {
      if (this.#over) return;
      const { newestMap } = this.#parts.checker;
      if (newestMap !== undefined) this.#act(name, newestMap);
      this.#later(name, everyMs);
    });
  }

  #act(name: ChangeName, map: ClusterMap): void {
    const { random, machines } = this.#parts;
    const upNodes = map.nodes.filter(
      ({ id, state }) => state === NodeState.Up && !this.#lost.has(id),
    );
    const draining = map.nodes.find(({ state }) => state === NodeState.Draining);
    switch (name) {
      case "join": {
        const spare = machines.find((machine) => !machine.hasBegun && !machine.retired);
        if (spare === undefined) return;
        this.#count(name, spare.name);
        spare.start();
        return;
      }
      case "drain": {
        if (upNodes.length <= UP_NODES_MIN || draining !== undefined) return;
        const nodeId = upNodes[random.below(upNodes.length)]!.id;
        this.#ask(name, { case: "drain", value: { nodeId } });
        return;
      }
      case "cancelDrain":
        if (draining === undefined) return;
        this.#ask(name, { case: "cancelDrain", value: { nodeId: draining.id } });
        return;
      case "remove":
        this.tidy(map);
        return;
      case "transfer": {
        const placements = [...map.placements, map.meta];
        const placement = placements[random.below(placements.length)]!;
        const nodes = nodesOfPlacement(placement);
        const nodeId = nodes[random.below(nodes.length)]!;
        this.#ask(name, { case: "transfer", value: { group: placement.group, nodeId } });
        return;
      }
      case "rebalance":
        this.#ask(name, { case: "rebalance", value: {} });
        return;
      case "wipe":
        this.#wipe(map, upNodes.length);
        return;
    }
  }

  /** Whether nodes are left that are to be taken out. */
  get hasLost(): boolean {
    return this.#lost.size > 0;
  }

  /** Takes out a node that is drained or lost, if there is one. */
  tidy(map: ClusterMap): void {
    if (this.#removing || this.#parts.agenda.nowMs < this.#nextRemovalMs) return;
    this.#nextRemovalMs = this.#parts.agenda.nowMs + REMOVAL_EVERY_MS;
    for (const node of this.#lost) {
      if (!map.nodes.some(({ id }) => id === node)) this.#lost.delete(node);
    }
    const held = new Set([...map.placements, map.meta].flatMap(nodesOfPlacement));
    const node = map.nodes.find(
      ({ id, state }) => this.#lost.has(id) || (state === NodeState.Draining && !held.has(id)),
    )?.id;
    if (node === undefined) return;
    this.#removing = true;
    this.#ask("remove", { case: "remove", value: { nodeId: node } }, () => {
      this.#removing = false;
    });
  }

  /** Machines whose nodes are no longer in the cluster are switched off. */
  retire(map: ClusterMap): void {
    for (const machine of this.#parts.machines) {
      const { nodeId, retired } = machine;
      if (retired || nodeId === undefined || machine.map === undefined) continue;
      const wasMember = this.#members.has(nodeId);
      const isMember = map.nodes.some(({ id }) => id === nodeId);
      if (isMember) this.#members.add(nodeId);
      if (!wasMember || isMember) continue;
      machine.retired = true;
      if (machine.running) machine.crash({ losesPower: false });
    }
  }

  readonly #members = new Set<NodeId>();

  /**
   * A machine loses its disk. Done only where a group survives it: everybody is there, and up to date.
   */
  #wipe(map: ClusterMap, upNodes: number): void {
    const { machines, random, checker } = this.#parts;
    const members = map.nodes.map(({ id }) => checker.ownerOf(id));
    const allThere = members.every(
      (machine) => machine?.open !== undefined && machine.party?.isPaused === false,
    );
    if (!allThere || upNodes < UP_NODES_MIN || this.#lost.size > 0) return;
    if (!checker.isHealthy(map)) return;
    const machine = machines[random.below(machines.length)]!;
    const { nodeId } = machine;
    if (nodeId === undefined || !map.nodes.some(({ id }) => id === nodeId)) return;
    this.#count("wipe", `${machine.name} (node ${nodeId})`);
    this.#lost.add(nodeId);
    machine.wipe();
    machine.start();
  }

  #count(name: ChangeName, detail: string): void {
    this.done[name] = (this.done[name] ?? 0) + 1;
    this.#parts.onChange(`${name} ${detail}`);
  }

  #ask(name: ChangeName, change: Change, after = (): void => {}): void {
    const { gateways, random, onError } = this.#parts;
    const { admin, party } = gateways[random.below(gateways.length)]!;
    const request = create(ChangeClusterRequestSchema, { change });
    admin.change(request, { deadlineMs: party.clock.nowMs() + CALL_TIMEOUT_MS }).then(
      ({ detail }) => {
        this.#count(name, detail);
        after();
      },
      (error: unknown) => {
        after();
        this.#parts.onChange(`${name} refused: ${String(error)}`);
        // What an operator asks may be refused, or have come too late.
        if (!(error instanceof KvError) || error.code === "INTERNAL") onError(error);
      },
    );
  }
}
