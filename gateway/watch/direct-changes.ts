/**
 * Change logs and news straight from the storage nodes: reads are answered, and follows fed, by the leader of
 * each vshard.
 *
 * Who leads is what the storage client has learned; what is learned here, it learns too. A follow that ends, breaks or
 * is not confirmed is begun again, elsewhere when the node says so, from the position that the listener has by
 * then: nothing is lost in between, it only comes later.
 */
import type { ChangeBatch, FollowEnded, ReadChangesResult } from "#proto/codec/change-messages.ts";
import type { Failure } from "#proto/codec/messages.ts";
import type { Clock } from "#shared/clock.ts";
import { errorCodeFromWire, KvError } from "#shared/errors.ts";
import type { NodeId, Revision, VshardId } from "#shared/ids.ts";
import {
  CHANGES_BACKOFF_MS_MAX,
  CHANGES_BACKOFF_MS_MIN,
  CHANGES_FOLLOW_TIMEOUT_MS,
  CHANGES_REDIRECTS_AT_ONCE_MAX,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import type {
  ChangeLog,
  LiveChanges,
  LiveListener,
  LogCallOptions,
  LogHead,
  LogPiece,
} from "./change-source.ts";
import { type ChangesConnector, ChangesLink, isFailure, type ReadAnswer } from "./changes-link.ts";

export type NodeAddress = { readonly id: NodeId; readonly address: string };

/** What is known of leaders; `Router` of the storage client has it. */
export type Leaders = {
  readonly leaderOf: (vshard: VshardId) => NodeAddress | undefined;
  readonly prove: (vshard: VshardId, node: NodeId) => void;
  readonly redirect: (vshard: VshardId, node: NodeId, leader: NodeId) => boolean;
  readonly passOver: (vshard: VshardId, node: NodeId) => void;
};

export type DirectChangesOptions = {
  readonly leaders: Leaders;
  readonly clusterId: () => string | undefined;
  readonly connect: (node: NodeAddress) => ChangesConnector;
  readonly softwareVersion: string;
  readonly clock: Clock;
  readonly random: Random;
};

type Follow = {
  readonly vshard: VshardId;
  readonly position: () => Revision;
  /** Where it was asked for. */
  link: ChangesLink | undefined;
  isConfirmed: boolean;
  /** Monotonic: since when nobody feeds it, while it is not confirmed. */
  lostAtMs: number;
  backoffMs: number;
  redirects: number;
  cancelTimer: () => void;
};

type Ask = {
  readonly afterRevision: Revision;
  readonly headOnly: boolean;
  readonly bytesMax: number;
};

export class DirectChanges implements ChangeLog, LiveChanges {
  readonly #options: DirectChangesOptions;
  /** By node and address. */
  readonly #links = new Map<string, ChangesLink>();
  readonly #follows = new Map<VshardId, Follow>();
  #listener: LiveListener | undefined;
  #closed = false;
  readonly #counters = { followsBegun: 0, followsEnded: 0, linksBroken: 0 };

  constructor(options: DirectChangesOptions) {
    this.#options = options;
  }

  start(listener: LiveListener): void {
    this.#listener = listener;
  }

  listen(vshard: VshardId, position: () => Revision): void {
    this.unlisten(vshard);
    const follow: Follow = {
      ...{ vshard, position, link: undefined, isConfirmed: false },
      lostAtMs: this.#options.clock.monotonicMs(),
      backoffMs: CHANGES_BACKOFF_MS_MIN,
      redirects: 0,
      cancelTimer: () => {},
    };
    this.#follows.set(vshard, follow);
    this.#begin(follow);
  }

  unlisten(vshard: VshardId): void {
    const follow = this.#follows.get(vshard);
    if (follow === undefined) return;
    this.#follows.delete(vshard);
    follow.cancelTimer();
    follow.link?.unfollow(vshard);
  }

  silenceMs(vshard: VshardId): number {
    const follow = this.#follows.get(vshard);
    if (follow === undefined) return Number.POSITIVE_INFINITY;
    const heardAtMs = follow.isConfirmed ? follow.link!.heardAtMs : follow.lostAtMs;
    return this.#options.clock.monotonicMs() - heardAtMs;
  }

  async read(
    vshard: VshardId,
    afterRevision: Revision,
    bytesMax: number,
    options: LogCallOptions,
  ): Promise<LogPiece> {
    const ask = { afterRevision, headOnly: false, bytesMax };
    const { failure, batch, headRevision, oldestRevision } = await this.#ask(vshard, ask, options);
    if (failure !== undefined) return { kind: "compacted", oldestRevision, headRevision };
    const changes = batch ?? { vshard, previousRevision: afterRevision, changes: [] };
    return { kind: "changes", batch: changes, headRevision };
  }

  async head(vshard: VshardId, options: LogCallOptions): Promise<LogHead> {
    const ask = { afterRevision: 0 as Revision, headOnly: true, bytesMax: 0 };
    const { headRevision, oldestRevision } = await this.#ask(vshard, ask, options);
    return { headRevision, oldestRevision };
  }

  figures() {
    let followsConfirmed = 0;
    for (const { isConfirmed } of this.#follows.values()) if (isConfirmed) followsConfirmed++;
    return { ...this.#counters, links: this.#links.size, followsConfirmed };
  }

  /** As a log and as a carrier of news: both end. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { cancelTimer } of this.#follows.values()) cancelTimer();
    this.#follows.clear();
    for (const link of [...this.#links.values()]) link.close();
    this.#links.clear();
  }

  /** Asks leaders until one answers. @throws KvError when the deadline has passed, or nothing else helps */
  async #ask(
    vshard: VshardId,
    ask: Ask,
    { deadlineMs }: LogCallOptions,
  ): Promise<ReadChangesResult> {
    const { clock, leaders, random } = this.#options;
    let backoffMs = CHANGES_BACKOFF_MS_MIN;
    let redirects = 0;
    let last = new KvError("UNAVAILABLE", "no storage node is known for the vshard");
    for (;;) {
      if (this.#closed) throw new KvError("UNAVAILABLE", "the gateway is stopping");
      const leader = leaders.leaderOf(vshard);
      const link = leader && this.#linkTo(leader);
      if (link !== undefined) {
        const answer = await this.#askAt(link, vshard, ask, deadlineMs);
        const failure = isFailure(answer) ? answer : answer.failure;
        const code = failure && errorCodeFromWire(failure.code);
        if (!isFailure(answer) && (failure === undefined || code === "COMPACTED")) {
          leaders.prove(vshard, link.nodeId);
          return answer;
        }
        last = errorOf(failure!);
        if (!isWorthAnother(last)) throw last;
        if (isFailure(answer)) leaders.passOver(vshard, link.nodeId);
        const isElsewhere = this.#learn(vshard, link.nodeId, failure!);
        if (isElsewhere && redirects++ < CHANGES_REDIRECTS_AT_ONCE_MAX) continue;
      }
      const delayMs = backoffMs * (0.5 + random.float() / 2);
      if (clock.nowMs() + delayMs >= deadlineMs) throw last;
      backoffMs = Math.min(backoffMs * 2, CHANGES_BACKOFF_MS_MAX);
      redirects = 0;
      await new Promise<void>((resolve) => clock.after(delayMs, resolve));
    }
  }

  #askAt(link: ChangesLink, vshard: VshardId, ask: Ask, deadlineMs: number): Promise<ReadAnswer> {
    const { clock } = this.#options;
    return new Promise((resolve, reject) => {
      // The read stays in flight until it is answered or the stream ends: nobody waits for it.
      const cancelTimer = clock.after(Math.max(0, deadlineMs - clock.nowMs()), () => {
        reject(new KvError("DEADLINE_EXCEEDED", "the storage node did not answer in time"));
      });
      link.read({ vshard, ...ask }, (answer) => {
        cancelTimer();
        resolve(answer);
      });
    });
  }

  #linkTo(node: NodeAddress): ChangesLink | undefined {
    const { connect, clusterId, softwareVersion, clock, random } = this.#options;
    const cluster = clusterId();
    if (cluster === undefined || this.#closed) return undefined;
    const name = `${node.id} ${node.address}`;
    let link = this.#links.get(name);
    if (link !== undefined) return link;
    link = new ChangesLink({
      ...{ connector: connect(node), clusterId: cluster, nodeId: node.id },
      ...{ softwareVersion, clock, random },
      listener: {
        onBatch: (from, batch) => this.#receive(from, batch),
        onEnded: (from, ended) => this.#ended(from, ended),
        onBroken: (from) => this.#broken(from),
        onIdle: () => this.#links.delete(name),
      },
    });
    this.#links.set(name, link);
    return link;
  }

  /** Returns whether another node is to be asked now. */
  #learn(vshard: VshardId, node: NodeId, failure: Failure): boolean {
    const { leaders } = this.#options;
    if (errorCodeFromWire(failure.code) !== "NOT_LEADER") return false;
    const leader = failure.leaderNodeId as NodeId;
    if (leader !== 0) return leaders.redirect(vshard, node, leader);
    leaders.passOver(vshard, node);
    return false;
  }

  #begin(follow: Follow): void {
    const { vshard } = follow;
    const leader = this.#options.leaders.leaderOf(vshard);
    const link = leader && this.#linkTo(leader);
    if (link === undefined || !link.follow(vshard, follow.position())) {
      this.#beginLater(follow);
      return;
    }
    this.#counters.followsBegun++;
    follow.link = link;
    follow.cancelTimer = this.#options.clock.after(CHANGES_FOLLOW_TIMEOUT_MS, () => {
      link.unfollow(vshard);
      this.#lose(follow);
      this.#beginLater(follow);
    });
  }

  #beginLater(follow: Follow): void {
    const { clock, random } = this.#options;
    const delayMs = follow.backoffMs * (0.5 + random.float() / 2);
    follow.backoffMs = Math.min(follow.backoffMs * 2, CHANGES_BACKOFF_MS_MAX);
    follow.redirects = 0;
    follow.cancelTimer = clock.after(delayMs, () => this.#begin(follow));
  }

  #receive(link: ChangesLink, batch: ChangeBatch): void {
    const follow = this.#follows.get(batch.vshard);
    if (follow === undefined || follow.link !== link) return;
    if (!follow.isConfirmed) {
      follow.isConfirmed = true;
      follow.cancelTimer();
      follow.backoffMs = CHANGES_BACKOFF_MS_MIN;
      follow.redirects = 0;
      this.#options.leaders.prove(batch.vshard, link.nodeId);
    }
    if (batch.changes.length > 0) this.#listener!.onBatch(batch);
  }

  #ended(link: ChangesLink, { vshard, failure, oldestRevision }: FollowEnded): void {
    const follow = this.#follows.get(vshard);
    if (follow === undefined || follow.link !== link) return;
    this.#counters.followsEnded++;
    this.#lose(follow);
    if (errorCodeFromWire(failure.code) === "COMPACTED") {
      // The listener reads the log, and finds out what it has lost.
      this.#listener!.onHead(vshard, (oldestRevision - 1) as Revision);
      this.#beginLater(follow);
      return;
    }
    const isElsewhere = this.#learn(vshard, link.nodeId, failure);
    if (isElsewhere && follow.redirects++ < CHANGES_REDIRECTS_AT_ONCE_MAX) this.#begin(follow);
    else this.#beginLater(follow);
  }

  #broken(link: ChangesLink): void {
    if (this.#closed) return;
    this.#counters.linksBroken++;
    for (const follow of this.#follows.values()) {
      if (follow.link !== link) continue;
      this.#lose(follow);
      // A node that is stopped or cut off does not say that it leads no more: others do.
      this.#options.leaders.passOver(follow.vshard, link.nodeId);
      this.#beginLater(follow);
    }
  }

  #lose(follow: Follow): void {
    follow.cancelTimer();
    if (follow.isConfirmed) follow.lostAtMs = follow.link!.heardAtMs;
    follow.link = undefined;
    follow.isConfirmed = false;
  }
}

const errorOf = ({ code, detail }: Failure): KvError =>
  new KvError(errorCodeFromWire(code), detail);

const isWorthAnother = ({ code }: KvError): boolean =>
  code === "NOT_LEADER" || code === "UNAVAILABLE" || code === "OVERLOADED";
