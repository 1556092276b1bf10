/** A simulated gateway process: the real storage client, map follower and operators' door. */
import { MetaLeaderAdmin } from "#gateway/cluster/cluster-admin.ts";
import { MapFollower } from "#gateway/cluster/map-follower.ts";
import { DirectoryFollower } from "#gateway/directory/directory-follower.ts";
import { StorageClient } from "#gateway/storage/client.ts";
import { StreamChannel } from "#gateway/storage/stream-channel.ts";
import { STREAM_OPERATIONS_PER_BATCH_MAX } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { type HandlerAt, simClusterRpc, simDirectoryRpc, simWatchMap } from "./calls.ts";
import { CLUSTER, OPERATE } from "./machine.ts";
import type { Network } from "./network.ts";
import { Party, PartyClock } from "./party.ts";

export class Gateway {
  readonly party: Party;
  readonly storage: StorageClient;
  readonly admin: MetaLeaderAdmin;
  /** Undefined in runs without a directory. */
  readonly directory: DirectoryFollower | undefined;

  constructor(
    name: string,
    parts: {
      readonly network: Network;
      readonly seeds: readonly string[];
      readonly at: HandlerAt;
      readonly random: SeededRandom;
      readonly skewMs: number;
      readonly hasDirectory: boolean;
    },
  ) {
    const { network, seeds, at } = parts;
    const { nowMs } = network.agenda;
    const clock = new PartyClock(nowMs, { rate: 1, skewMs: parts.skewMs });
    const party = new Party(name, clock);
    const random = new SeededRandom(parts.random.below(2 ** 32));
    const calls = { network, party, at };
    this.party = party;
    const follower = new MapFollower({
      seeds,
      clusterName: CLUSTER,
      watch: simWatchMap(calls),
      clock,
      random,
      onMap: (map) => this.storage.setMap(map),
      onTrouble: () => {},
    });
    this.storage = new StorageClient({
      clock,
      random,
      onUnknownNode: () => follower.lookElsewhere(),
      whyNoMap: () => follower.problem,
      connect: (node) =>
        new StreamChannel({
          connector: {
            peer: node.address,
            operationsGatheredMax: STREAM_OPERATIONS_PER_BATCH_MAX,
            givesUpSilent: true,
            open: () => network.connect(party, node.address, { purpose: OPERATE, waits: true }),
            close: () => {},
          },
          clusterId: CLUSTER,
          nodeId: node.id,
          softwareVersion: "sim",
          clock,
          random,
        }),
    });
    const leader = {
      clusterId: () => this.storage.map?.clusterId,
      addresses: () => this.storage.map?.nodes.map(({ address }) => address) ?? [],
      addressOf: (id: number) => this.storage.map?.nodes.find((node) => node.id === id)?.address,
      whyNone: () => follower.problem,
      clock,
      random,
    };
    this.admin = new MetaLeaderAdmin({ ...leader, rpc: simClusterRpc(calls) });
    follower.start();
    if (!parts.hasDirectory) return;
    this.directory = new DirectoryFollower({
      ...leader,
      rpc: simDirectoryRpc(calls),
      onTrouble: () => {},
      onListenerFailed: (_, error) => {
        throw error;
      },
    });
    this.directory.start();
  }
}
