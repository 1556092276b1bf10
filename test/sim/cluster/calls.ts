/** The cluster service between simulated processes: calls with a time limit, and watches of the map. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type ClusterRpc, NoAnswer, type WatchMap } from "#gateway/cluster/cluster-rpc.ts";
import type { DirectoryRpc } from "#gateway/directory/directory-rpc.ts";
import { followStream } from "#gateway/directory/follow-stream.ts";
import { fromMapMessage, toMapMessage } from "#proto/codec/cluster-map.ts";
import {
  ClusterMapSchema,
  type ClusterMap as MapMessage,
} from "#proto/gen/minikv/v1/cluster_pb.ts";
import { utf8, utf8Decode } from "#shared/bytes.ts";
import { GrpcStatus, KvError } from "#shared/errors.ts";
import { CLUSTER_CALL_TIMEOUT_MS } from "#shared/limits.ts";
import type { ClusterHandler, ClusterPeers, DirectoryHandler } from "#storage-node/meta/peers.ts";
import type { Network, SimStream } from "./network.ts";
import type { Party } from "./party.ts";

/** What a node serves to whoever asks there. */
export type Served = {
  readonly party: Party;
  readonly handler: ClusterHandler;
  /** Undefined while it belongs to no cluster. */
  readonly directory: DirectoryHandler | undefined;
};
export type HandlerAt = (address: string) => Served | undefined;

export type CallParts = {
  readonly network: Network;
  readonly party: Party;
  readonly at: HandlerAt;
};

export const WATCH = "watch";
export const DIRECTORY = "directory";

/** @throws NoAnswer */
function ask<T>(
  { network, party, at }: CallParts,
  address: string,
  timeoutMs: number,
  invoke: (served: Served) => T | Promise<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const fail = (reason: string, mayHaveArrived: boolean): void =>
      reject(new NoAnswer(reason, { mayHaveArrived }));
    const cancelTimer = party.clock.after(timeoutMs, () => fail("no answer in time", true));
    const back = (finish: () => void): void => {
      network.agenda.after(network.delayMs(), () => {
        if (network.isCut(address, party.name)) return;
        party.runSurely(() => {
          cancelTimer();
          finish();
        });
      });
    };
    network.agenda.after(network.delayMs(), () => {
      if (network.isCut(party.name, address)) return;
      const target = at(address);
      if (target === undefined) {
        back(() => fail("connection refused", false));
        return;
      }
      target.party.runSurely(() => {
        answerOf(target, invoke).then(
          (answer) => back(() => resolve(answer)),
          (error: unknown) => back(() => fail(String(error), true)),
        );
      });
    });
  });
}

async function answerOf<T>(served: Served, invoke: (served: Served) => T | Promise<T>): Promise<T> {
  return await invoke(served);
}

export function simPeers(parts: CallParts): ClusterPeers {
  const call = async <T>(
    address: string,
    invoke: (handler: ClusterHandler) => T | Promise<T>,
  ): Promise<T> => {
    try {
      return await ask(parts, address, CLUSTER_CALL_TIMEOUT_MS, ({ handler }) => invoke(handler));
    } catch (error) {
      throw new KvError("UNAVAILABLE", String(error), { cause: error });
    }
  };
  return {
    discover: (address) => call(address, (handler) => handler.discover()),
    bootstrap: (address, request) => call(address, (handler) => handler.bootstrap(request)),
    join: (address, request) => call(address, (handler) => handler.join(request)),
    report: (address, request) => call(address, (handler) => handler.report(request)),
    watchMap: (address, clusterId, { onMap, onEnd }) =>
      watch(parts, address, clusterId, {
        onMap: (message) => onMap(fromMapMessage(message)),
        onClosed: onEnd,
      }),
    keepOnly: () => {},
    close: () => {},
  };
}

export function simClusterRpc(parts: CallParts): ClusterRpc {
  return {
    status: (address, timeoutMs) =>
      ask(parts, address, timeoutMs, ({ handler }) => handler.status()),
    change: (address, request, timeoutMs) =>
      ask(parts, address, timeoutMs, ({ handler }) => handler.change(request)),
  };
}

export const simDirectoryRpc = (parts: CallParts): DirectoryRpc => ({
  follow: (address, listener) =>
    followStream(
      parts.network.connect(parts.party, address, { purpose: DIRECTORY, waits: false }),
      listener,
    ),
  change: (address, request, timeoutMs) =>
    ask(parts, address, timeoutMs, ({ directory }) => {
      if (directory === undefined) throw new KvError("UNAVAILABLE", "it is still starting");
      return directory.changeDirectory(request);
    }),
});

export const simWatchMap =
  (parts: CallParts): WatchMap =>
  ({ address, clusterId, listener }) =>
    watch(parts, address, clusterId, listener);

function watch(
  { network, party }: CallParts,
  address: string,
  clusterId: string,
  listener: { readonly onMap: (map: MapMessage) => void; readonly onClosed: (why: string) => void },
): () => void {
  const stream = network.connect(party, address, { purpose: WATCH, waits: false });
  let ended = false;
  stream.listen({
    onMessage: (bytes) => {
      if (!ended) listener.onMap(fromBinary(ClusterMapSchema, bytes));
    },
    onDrain: () => {},
    onClosed: ({ details }) => {
      if (ended) return;
      ended = true;
      listener.onClosed(details);
    },
  });
  stream.write(utf8(clusterId));
  return () => {
    ended = true;
    stream.end();
  };
}

/** The node's end of a watch. */
export function serveWatch(handler: ClusterHandler | undefined, stream: SimStream): void {
  let stop = (): void => {};
  stream.listen({
    onMessage: (bytes) => {
      try {
        if (handler === undefined) throw new KvError("UNAVAILABLE", "it is still starting");
        stop = handler.watchMap(utf8Decode(bytes), (map) =>
          stream.write(toBinary(ClusterMapSchema, toMapMessage(map))),
        );
      } catch (error) {
        stream.abort({ code: GrpcStatus.FailedPrecondition, details: String(error) });
      }
    },
    onDrain: () => {},
    onClosed: () => stop(),
  });
}
