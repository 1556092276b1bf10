/**
 * Keeps a link connected: dials, says hello on both lanes, and dials again with back-off when a stream
 * has gone. Of two nodes, the one with the lower id has it.
 *
 * Each attempt has a connection of its own. gRPC's own reconnecting would add its back-off to ours and
 * know nothing of what a peer answered to our hello.
 */
import type { Clock } from "#shared/clock.ts";
import { GrpcStatus } from "#shared/errors.ts";
import {
  STREAM_RECONNECT_BACKOFF_MS_MAX,
  STREAM_RECONNECT_BACKOFF_MS_MIN,
} from "#shared/limits.ts";
import type { StreamStatus } from "#shared/message-stream.ts";
import type { Random } from "#shared/random.ts";
import type { NodeConnection } from "./grpc-connection.ts";
import { greet, helloTo, type NodeIdentity, refusalOf, refused } from "./handshake.ts";
import { Lane, type NodeHello } from "./hello-codec.ts";
import type { Link, LinkLane } from "./link.ts";

export type DialerOptions = {
  readonly identity: NodeIdentity;
  readonly peer: NodeIdentity["nodeId"];
  readonly link: Link;
  readonly connect: (address: string) => NodeConnection;
  readonly clock: Clock;
  readonly random: Random;
};

export class Dialer {
  readonly #options: DialerOptions;
  #address: string;
  #connection: NodeConnection | undefined;
  #backoffMs = STREAM_RECONNECT_BACKOFF_MS_MIN;
  #cancelRetry = (): void => {};
  #closed = false;

  constructor(address: string, options: DialerOptions) {
    this.#options = options;
    this.#address = address;
  }

  start(): void {
    this.#dial();
  }

  /** Where the peer is from now on. A connection to where it was is given up. */
  redirect(address: string): void {
    if (address === this.#address) return;
    this.#address = address;
    this.#backoffMs = STREAM_RECONNECT_BACKOFF_MS_MIN;
    this.#hangUp();
    const { link } = this.#options;
    const details = `it is to be reached at ${address} now`;
    if (!link.idle) link.disconnect({ code: GrpcStatus.Unavailable, details });
    this.#dial();
  }

  /** The link has both lanes. */
  connected(): void {
    this.#backoffMs = STREAM_RECONNECT_BACKOFF_MS_MIN;
  }

  /** The link has lost its streams, or did not get them. */
  disconnected(): void {
    if (this.#closed || this.#connection === undefined) return;
    this.#hangUp();
    const { clock, random } = this.#options;
    const delayMs = this.#backoffMs * (0.5 + random.float() / 2);
    this.#backoffMs = Math.min(this.#backoffMs * 2, STREAM_RECONNECT_BACKOFF_MS_MAX);
    this.#cancelRetry = clock.after(delayMs, () => this.#dial());
  }

  close(): void {
    this.#closed = true;
    this.#hangUp();
  }

  #hangUp(): void {
    this.#cancelRetry();
    const connection = this.#connection;
    // First, so that nothing that its streams say now is heard.
    this.#connection = undefined;
    connection?.close();
  }

  #dial(): void {
    const connection = this.#options.connect(this.#address);
    this.#connection = connection;
    this.#open(connection, Lane.Control);
    this.#open(connection, Lane.Appends);
  }

  #open(connection: NodeConnection, lane: LinkLane): void {
    const { identity, peer, link, clock } = this.#options;
    if (this.#connection !== connection) return;
    const stream = connection.openLink();
    const failed = (status: StreamStatus): void => {
      if (this.#connection === connection) link.disconnect(status);
    };
    greet({
      stream,
      clock,
      say: helloTo(peer, lane, identity),
      hear: (theirs) => {
        const reason = this.#refusalOf(theirs, lane);
        if (reason !== undefined) return refused(reason);
        if (this.#connection !== connection) return refused("it was dialled anew");
        return { kind: "accepted", open: () => link.adopt(lane, stream, theirs) };
      },
      onFailed: failed,
    });
  }

  #refusalOf(theirs: NodeHello, lane: Lane): string | undefined {
    const { identity, peer } = this.#options;
    const reason = refusalOf(theirs, identity);
    if (reason !== undefined) return reason;
    if (theirs.nodeId !== peer) {
      return `node ${theirs.nodeId} answers at ${this.#address}, not node ${peer}`;
    }
    return theirs.lane === lane ? undefined : `node ${peer} answers on another lane`;
  }
}
