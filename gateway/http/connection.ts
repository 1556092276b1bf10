/**
 * One client connection: runs its requests one after the other.
 *
 * Node hands over pipelined requests as it parses them, all at once. Their answers would still be
 * in order, but their effects would not: a GET could miss the PUT sent before it on the same
 * connection. So each waits for the one before it, and a bounded number may wait.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { Cancellation } from "#gateway/storage/cancellation.ts";
import type { NodeExchange } from "./node-exchange.ts";

export type QueuedRequest = {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
  /** What its `Expect` header asks for. */
  readonly expectation: "none" | "continue" | "unknown";
};

/** Of a socket: the connection that it is. */
const CONNECTION = Symbol("connection");

type ServedSocket = Socket & { [CONNECTION]?: Connection | undefined };

export class Connection {
  readonly socket: Socket;
  /** The request that is being answered. */
  running: NodeExchange | undefined;
  /** Parsed requests that wait for the running one, oldest first. */
  readonly waiting: QueuedRequest[] = [];
  /** Of the request that was received last. */
  lastOutgoing: ServerResponse | undefined;
  /** What it is since it stopped speaking HTTP. */
  upgraded: { readonly stop: () => void } | undefined;
  /** Set once nothing more may be answered here but the running request. */
  isEnding = false;
  /** Cancelled when the socket closes. One for all requests, since they run one by one. */
  readonly cancellation = new Cancellation();

  private constructor(socket: Socket) {
    this.socket = socket;
  }

  /** To be called once for a socket. */
  static begin(socket: ServedSocket): Connection {
    const connection = new Connection(socket);
    socket[CONNECTION] = connection;
    return connection;
  }

  /** Undefined when none was begun, and when it has closed. */
  static of(socket: ServedSocket): Connection | undefined {
    return socket[CONNECTION];
  }

  /** To be called when the socket has closed. */
  closed(): void {
    (this.socket as ServedSocket)[CONNECTION] = undefined;
    this.isEnding = true;
    this.waiting.length = 0;
    this.cancellation.cancel();
  }

  /**
   * Whether all that was received is answered, and the last answer has left: until Node lets go of it the socket
   * belongs to it, and can be given to nobody else.
   */
  get isQuiet(): boolean {
    if (this.running !== undefined || this.isEnding) return false;
    const last = this.lastOutgoing;
    return last === undefined || (last.writableFinished && last.socket === null);
  }

  /** Whether a request is running whose answer has not begun to leave. */
  get isAnswering(): boolean {
    return this.running !== undefined && !this.running.outgoing.headersSent;
  }

  /** Lets the running request finish, drops those behind it, and then closes. */
  endAfterRunning(): void {
    this.isEnding = true;
    this.waiting.length = 0;
    const { running, upgraded } = this;
    if (upgraded !== undefined) upgraded.stop();
    else if (running === undefined) this.socket.destroySoon();
    else if (!running.outgoing.headersSent) running.outgoing.shouldKeepAlive = false;
  }
}
