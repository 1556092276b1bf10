/**
 * A connection that stops speaking HTTP: which request may ask for it, and how one is refused that does.
 *
 * It is a request like any other until it is answered with 101: its target, Host and rate are looked at, its sender
 * let in, and a refusal is a problem with its status, on a response object that gets the socket for that.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { isWebSocketTarget } from "#gateway/watch/http/watch-routes.ts";
import {
  asksForWebSocket,
  type UpgradeRequest,
  type WatchSockets,
} from "#gateway/watch/http/websocket.ts";
import type { OwnMachineOnly } from "#shared/runtime/own-machine.ts";
import type { Connection } from "./connection.ts";
import type { Answer } from "./exchange.ts";
import type { NodeExchange } from "./node-exchange.ts";
import { refusalAnswer } from "./problem.ts";
import { refusalOf } from "./request-refusals.ts";
import { originForm } from "./request-target.ts";

/**
 * Only on a connection on which nothing else is answered, or is still leaving: frames would mix with answers, and a
 * refusal finds the socket taken, however small the answer before it was.
 */
export function mayUpgrade(incoming: IncomingMessage, connection: Connection | undefined): boolean {
  if (!asksForWebSocket(incoming)) return false;
  return connection?.isQuiet === true && isWebSocketTarget(originForm(incoming.url ?? "/"));
}

export type UpgradeParts = {
  readonly connection: Connection;
  readonly exchange: NodeExchange;
  /** Without a socket yet. */
  readonly outgoing: ServerResponse;
  readonly sockets: WatchSockets;
  readonly hasTls: boolean;
  /** Of the listener. */
  readonly guard: OwnMachineOnly | undefined;
  readonly send: (answer: Answer) => void;
  /** Told how it was answered; 0 when its client has gone. */
  readonly count: (status: number) => void;
};

export async function upgradeConnection(
  request: UpgradeRequest,
  { connection, exchange, outgoing, sockets, hasTls, guard, send, count }: UpgradeParts,
): Promise<void> {
  const { socket } = request;
  // Those of the HTTP server are gone. That the connection ends is told by `close`.
  socket.on("error", () => undefined);
  outgoing.shouldKeepAlive = false;
  connection.running = exchange;
  const refusal = refusalOf(exchange, "none", guard);
  const answer =
    refusal === undefined
      ? await sockets.upgrade(
          exchange,
          request,
          (upgraded) => {
            connection.upgraded = upgraded;
          },
          hasTls,
        )
      : refusalAnswer(exchange.requestId, refusal, false);
  connection.running = undefined;
  if (answer === undefined) {
    count(connection.upgraded === undefined ? 0 : 101);
    return;
  }
  count(answer.status);
  if (socket.destroyed) return;
  outgoing.assignSocket(socket);
  outgoing.once("finish", () => socket.destroySoon());
  send(answer);
}
