/**
 * The directory of a gateway: all rows in memory, followed at the leader of the meta group.
 *
 * The leader is one of the members of that group. One is asked, and says who it is if it knows. When a
 * stream ends or falls silent the next one is opened, with back-off; meanwhile the rows stay as they are,
 * and `silenceMs` says how old they may be. A new stream brings all rows again. They are compared with those
 * that are here, so that whoever subscribed hears of each row that has changed or gone, and of no other.
 *
 * Rows count when the last part of their set has come, and never go back: a set that is older than what
 * was heard already comes from a leader that was deposed and does not know it yet. It is refused.
 */
import { create } from "@bufbuild/protobuf";
import { MetaLeader, type MetaLeaderOptions } from "#gateway/cluster/meta-leader.ts";
import {
  ChangeDirectoryRequestSchema,
  type FollowDirectoryResponse,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import { KvError } from "#shared/errors.ts";
import { REQUEST_ID_SIZE_BYTES } from "#shared/limits.ts";
import type {
  Directory,
  DirectoryListener,
  DirectoryMutation,
  DirectoryRow,
  TenantDemand,
  TenantShare,
  TenantUsage,
} from "./directory.ts";
import type { DirectoryRpc } from "./directory-rpc.ts";
import { FollowedStream } from "./followed-stream.ts";
import { RowSet } from "./row-set.ts";

export type DirectoryFollowerOptions = MetaLeaderOptions & {
  readonly rpc: DirectoryRpc;
  /** All rows have been seen once. */
  readonly onKnown?: () => void;
  /** A node could not be followed, and why; not repeated while it stays the same. */
  readonly onTrouble: (address: string, reason: string) => void;
  /** Who subscribed could not take a change of the row; the others have heard of it. */
  readonly onListenerFailed: (name: string, error: unknown) => void;
};

const NO_USAGE: TenantUsage = { bytes: 0, objects: 0 };
const NO_DEMAND: ReadonlyMap<number, TenantDemand> = new Map();

type Subscription = { readonly prefix: string; readonly listener: DirectoryListener };

/** Somebody waits for a revision to be seen. */
type Waiting = { readonly revision: number; readonly done: (isSeen: boolean) => void };

/** What has come on the current stream and does not count yet. */
class Staged {
  rows = new Map<string, DirectoryRow | undefined>();
  readonly usage = new Map<number, TenantUsage>();
  readonly shares = new Map<number, TenantShare>();
  /** The first set of the stream, and what is known with it, takes the place of what was there. */
  hasRows = false;
  hasUsage = false;
  hasShares = false;
}

export class DirectoryFollower implements Directory {
  readonly #options: DirectoryFollowerOptions;
  readonly #leader: MetaLeader;
  readonly #stream: FollowedStream;
  readonly #rows = new RowSet();
  readonly #subscriptions = new Set<Subscription>();
  readonly #waiting = new Set<Waiting>();
  #usage = new Map<number, TenantUsage>();
  #shares = new Map<number, TenantShare>();
  #staged = new Staged();
  #demand: () => ReadonlyMap<number, TenantDemand> = () => NO_DEMAND;
  #revision = 0;
  #heardAtMs = Number.NEGATIVE_INFINITY;
  #heardAtWallMs = Number.NEGATIVE_INFINITY;
  isKnown = false;
  usageVersion = 0;
  gateways = 1;

  constructor(options: DirectoryFollowerOptions) {
    this.#options = options;
    this.#leader = new MetaLeader(options);
    this.#stream = new FollowedStream({
      ...options,
      gatewayId: options.random.fill(new Uint8Array(REQUEST_ID_SIZE_BYTES)),
      demand: () => this.#demand(),
      onOpen: () => {
        this.#staged = new Staged();
      },
      onMessage: (message) => this.#receive(message),
    });
  }

  start(): void {
    this.#stream.start();
  }

  close(): void {
    this.#stream.close();
    for (const waiting of [...this.#waiting]) waiting.done(false);
  }

  /** Up to which the rows have been seen; 0 before the first set. */
  get revision(): number {
    return this.#revision;
  }

  silenceMs(): number {
    const { clock } = this.#options;
    // The monotonic clock of a machine that was suspended has stood still. Where the wall clock jumped
    // forward, too much is said, until the next message.
    return Math.max(clock.monotonicMs() - this.#heardAtMs, clock.nowMs() - this.#heardAtWallMs);
  }

  get(name: string): DirectoryRow | undefined {
    return this.#rows.get(name);
  }

  list(prefix: string): readonly DirectoryRow[] {
    return this.#rows.list(prefix);
  }

  subscribe(prefix: string, listener: DirectoryListener): () => void {
    const subscription = { prefix, listener };
    this.#subscriptions.add(subscription);
    return () => this.#subscriptions.delete(subscription);
  }

  usageOf(tenantId: number): TenantUsage {
    return this.#usage.get(tenantId) ?? NO_USAGE;
  }

  shareOf(tenantId: number): TenantShare {
    const share = this.#shares.get(tenantId);
    if (share !== undefined) return share;
    return { requests: 1 / this.gateways, bytes: 1 / this.gateways };
  }

  demandSource(source: () => ReadonlyMap<number, TenantDemand>): void {
    this.#demand = source;
  }

  /**
   * A lost answer is asked for again under the same request id, so the change is made once, and what is
   * answered is what became of it.
   */
  async change(
    mutations: readonly DirectoryMutation[],
    { deadlineMs }: { readonly deadlineMs: number },
  ): Promise<boolean> {
    const { clock, random, rpc } = this.#options;
    const untilMs = clock.monotonicMs() + deadlineMs - clock.nowMs();
    const request = create(ChangeDirectoryRequestSchema, {
      requestId: random.fill(new Uint8Array(REQUEST_ID_SIZE_BYTES)),
      mutations: mutations.map(({ name, value, expectedRevision }) => ({
        name,
        ...(value === undefined ? {} : { value }),
        ...(expectedRevision === undefined ? {} : { expectedRevision: BigInt(expectedRevision) }),
      })),
      deadlineMs: BigInt(Math.floor(deadlineMs)),
    });
    const { applied, revision } = await this.#leader.ask(
      deadlineMs,
      ({ address, clusterId }, timeoutMs) =>
        rpc.change(address, { ...request, clusterId }, timeoutMs),
    );
    const isSeen = await this.#seen(Number(revision), untilMs - clock.monotonicMs());
    // Who lost against another change reads the rows again: it should find that one.
    if (!applied || isSeen) return applied;
    const detail = "the directory was changed, but this gateway has not heard of it in time";
    throw new KvError("DEADLINE_EXCEEDED", detail, { outcome: "unknown" });
  }

  #seen(revision: number, withinMs: number): Promise<boolean> {
    if (this.#revision >= revision) return Promise.resolve(true);
    return new Promise((resolve) => {
      const waiting: Waiting = {
        revision,
        done: (isSeen) => {
          this.#waiting.delete(waiting);
          cancelTimer();
          resolve(isSeen);
        },
      };
      this.#waiting.add(waiting);
      const cancelTimer = this.#options.clock.after(Math.max(0, withinMs), () =>
        waiting.done(false),
      );
    });
  }

  /** Answers why the stream is of no use; undefined when it goes on. */
  #receive(message: FollowDirectoryResponse): string | undefined {
    const staged = this.#staged;
    for (const name of message.removed) staged.rows.set(name, undefined);
    for (const { name, value, revision } of message.rows) {
      staged.rows.set(name, { name, value, revision: Number(revision) });
    }
    const revision = Number(message.revision);
    if (revision > 0) {
      if (revision < this.#revision) return "its directory is older than what was heard before";
      this.#takeRows(staged, revision);
    }
    this.#takeUsage(staged, message);
    this.#takeShares(staged, message);
    return undefined;
  }

  #takeRows(staged: Staged, revision: number): void {
    const changes = staged.rows;
    staged.rows = new Map();
    if (!staged.hasRows) {
      for (const name of this.#rows.names()) if (!changes.has(name)) changes.set(name, undefined);
    }
    staged.hasRows = true;
    for (const [name, row] of changes) {
      if (this.#rows.get(name)?.revision === row?.revision) changes.delete(name);
    }
    this.#rows.apply(changes);
    this.#revision = revision;
    this.#heardAtMs = this.#options.clock.monotonicMs();
    this.#heardAtWallMs = this.#options.clock.nowMs();
    if (!this.isKnown) {
      this.isKnown = true;
      this.#options.onKnown?.();
    }
    for (const [name, row] of changes) {
      for (const { prefix, listener } of [...this.#subscriptions]) {
        if (name.startsWith(prefix)) this.#tell(listener, name, row);
      }
    }
    for (const waiting of [...this.#waiting]) {
      if (waiting.revision <= revision) waiting.done(true);
    }
  }

  /** A row that one of them cannot read neither ends the process nor keeps the change from the others. */
  #tell(listener: DirectoryListener, name: string, row: DirectoryRow | undefined): void {
    try {
      listener(name, row);
    } catch (error) {
      this.#options.onListenerFailed(name, error);
    }
  }

  #takeUsage(staged: Staged, { usage, usageKnown }: FollowDirectoryResponse): void {
    const target = staged.hasUsage ? this.#usage : staged.usage;
    for (const { tenantId, bytes, objects } of usage) {
      if (objects === 0n) target.delete(tenantId);
      else target.set(tenantId, { bytes: Number(bytes), objects: Number(objects) });
    }
    if (!usageKnown) return;
    if (!staged.hasUsage) this.#usage = staged.usage;
    staged.hasUsage = true;
    this.usageVersion++;
  }

  #takeShares(staged: Staged, { shares, gateways }: FollowDirectoryResponse): void {
    const target = staged.hasShares ? this.#shares : staged.shares;
    for (const { tenantId, requests, bytes } of shares) {
      if (requests === 0 && bytes === 0) target.delete(tenantId);
      else target.set(tenantId, { requests, bytes });
    }
    if (gateways === 0) return;
    this.gateways = gateways;
    if (!staged.hasShares) this.#shares = staged.shares;
    staged.hasShares = true;
  }
}
