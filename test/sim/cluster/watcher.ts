/**
 * A follower of all change logs, as simple as can be: it follows each vshard at whatever node it takes for
 * the leader, and goes on elsewhere from its position when the follow ends or the connection breaks.
 */
import type { ChangeBatch, ChangesResponse, FollowEnded } from "#proto/codec/change-messages.ts";
import { decodeChangesResponse, encodeChangesRequest } from "#proto/codec/changes.ts";
import { PROTOCOL_VERSION } from "#proto/codec/service.ts";
import { placementOf } from "#shared/cluster-map.ts";
import { ERRORS } from "#shared/errors.ts";
import {
  groupOfVshard,
  nodeOfReplica,
  type Revision,
  VSHARD_COUNT,
  type VshardId,
} from "#shared/ids.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import type { SeededRandom } from "#shared/random.ts";
import type { Gateway } from "./gateway.ts";
import { CHANGES } from "./machine.ts";
import type { Network } from "./network.ts";
import { violated } from "./violation.ts";

const LOOK_MS = 120;
/** A connection over which nothing came for so long is given up. */
const SILENT_MS = 2_500;

const NOTHING = { hello: undefined, reads: [], follows: [], unfollow: [] };

export type WatcherParts = {
  readonly gateway: Gateway;
  readonly network: Network;
  readonly random: SeededRandom;
  readonly onBatch: (batch: ChangeBatch) => void;
  /** Changes behind `from`, up to and with `to`, are not in the log any more. */
  readonly onCompacted: (vshard: VshardId, from: Revision, to: Revision) => void;
};

type Link = {
  readonly stream: MessageStream;
  readonly address: string;
  greeted: boolean;
  heardMs: number;
  isOver: boolean;
};

/** Where one vshard is followed. */
type Watched = {
  readonly vshard: VshardId;
  position: Revision;
  link: Link | undefined;
  /** Of the follow in progress. */
  isConfirmed: boolean;
  hint: string | undefined;
  tries: number;
};

export class Watcher {
  readonly #parts: WatcherParts;
  readonly #links = new Map<string, Link>();
  readonly #watched: readonly Watched[] = Array.from({ length: VSHARD_COUNT }, (_, vshard) => ({
    ...{ vshard: vshard as VshardId, position: 0 as Revision, link: undefined },
    ...{ isConfirmed: false, hint: undefined, tries: 0 },
  }));
  /** Times that it had to go on elsewhere. */
  moves = 0;

  constructor(parts: WatcherParts) {
    this.#parts = parts;
  }

  positionOf(vshard: VshardId): Revision {
    return this.#watched[vshard]!.position;
  }

  begin(): void {
    this.#parts.gateway.party.clock.after(LOOK_MS, () => {
      this.#look();
      this.begin();
    });
  }

  #look(): void {
    const { clock } = this.#parts.gateway.party;
    for (const link of this.#links.values()) {
      if (clock.monotonicMs() - link.heardMs > SILENT_MS) {
        link.stream.end();
        this.#lost(link);
      } else if (link.greeted) link.stream.write(encodeChangesRequest(NOTHING));
    }
    for (const watched of this.#watched) if (watched.link === undefined) this.#follow(watched);
  }

  #follow(watched: Watched): void {
    const { storage } = this.#parts.gateway;
    const { vshard, hint, position } = watched;
    const { map } = storage;
    if (map === undefined) return;
    const replicas = placementOf(map, groupOfVshard(vshard))?.replicas ?? [];
    const addresses = replicas.flatMap(
      ({ replica }) => map.nodes.find(({ id }) => id === nodeOfReplica(replica))?.address ?? [],
    );
    const next = addresses[watched.tries++ % Math.max(1, addresses.length)];
    const address = hint !== undefined && addresses.includes(hint) ? hint : next;
    watched.hint = undefined;
    if (address === undefined) return;
    const link = this.#links.get(address) ?? this.#connect(address);
    if (!link.greeted) return;
    watched.link = link;
    watched.isConfirmed = false;
    this.moves++;
    const follows = [{ vshard, afterRevision: position, fromHead: false }];
    link.stream.write(encodeChangesRequest({ ...NOTHING, follows }));
  }

  #connect(address: string): Link {
    const { network, gateway } = this.#parts;
    const { party, storage } = gateway;
    const stream = network.connect(party, address, { purpose: CHANGES, waits: false });
    const heardMs = party.clock.monotonicMs();
    const link: Link = { stream, address, greeted: false, heardMs, isOver: false };
    this.#links.set(address, link);
    stream.listen({
      onMessage: (bytes) => {
        if (!link.isOver) this.#receive(link, decodeChangesResponse(bytes));
      },
      onDrain: () => {},
      onClosed: () => this.#lost(link),
    });
    const hello = {
      ...{ protocolVersion: PROTOCOL_VERSION, clusterId: storage.map!.clusterId, nodeId: 0 },
      ...{ softwareVersion: "sim", windowOperations: 0, windowBytes: 0 },
    };
    stream.write(encodeChangesRequest({ ...NOTHING, hello }));
    return link;
  }

  #lost(link: Link): void {
    link.isOver = true;
    if (this.#links.get(link.address) === link) this.#links.delete(link.address);
    for (const watched of this.#watched) if (watched.link === link) watched.link = undefined;
  }

  #receive(link: Link, { hello, batches, ended }: ChangesResponse): void {
    link.heardMs = this.#parts.gateway.party.clock.monotonicMs();
    if (hello !== undefined) link.greeted = true;
    for (const batch of batches) this.#take(link, batch);
    for (const end of ended) this.#ended(link, end);
  }

  #take(link: Link, batch: ChangeBatch): void {
    const watched = this.#watched[batch.vshard]!;
    if (watched.link !== link) return;
    const { vshard, previousRevision, changes } = batch;
    if (previousRevision !== watched.position) {
      const what = `vshard ${vshard}: a batch behind ${previousRevision} came to a follower`;
      violated("watchers see every change", `${what} that is at ${watched.position}`);
    }
    watched.isConfirmed = true;
    watched.position = (previousRevision + changes.length) as Revision;
    this.#parts.onBatch(batch);
  }

  #ended(link: Link, { vshard, failure, oldestRevision }: FollowEnded): void {
    const watched = this.#watched[vshard]!;
    if (watched.link !== link) return;
    watched.link = undefined;
    const { map } = this.#parts.gateway.storage;
    watched.hint = map?.nodes.find(({ id }) => id === failure.leaderNodeId)?.address;
    if (failure.code !== ERRORS.COMPACTED.wire) return;
    if (oldestRevision <= watched.position + 1) {
      const what = `vshard ${vshard}: compacted up to ${oldestRevision}`;
      violated("watchers see every change", `${what} for a follower at ${watched.position}`);
    }
    const to = (oldestRevision - 1) as Revision;
    this.#parts.onCompacted(vshard, watched.position, to);
    watched.position = to;
  }
}
