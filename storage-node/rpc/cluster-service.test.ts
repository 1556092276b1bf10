import { EventEmitter } from "node:events";
import { expect, it } from "vitest";
import { GrpcStatus } from "#shared/errors.ts";
import { MAP_WATCHERS_MAX } from "#shared/limits.ts";
import type { ClusterHandler } from "#storage-node/meta/peers.ts";
import { clusterService } from "./cluster-service.ts";

/** A call of WatchMap, as far as the service looks at it. */
class FakeCall extends EventEmitter {
  readonly request = { clusterId: "c-1" };
  readonly destroyed = false;
  failure: { readonly code: number; readonly details: string } | undefined;

  constructor() {
    super();
    this.on("error", (failure) => {
      this.failure = failure;
    });
  }
}

it("clusterService() lets a bounded number watch the map, and others when one has gone", () => {
  const watching = new Set<object>();
  const watchMap: ClusterHandler["watchMap"] = (_, onMap) => {
    watching.add(onMap);
    return () => watching.delete(onMap);
  };
  const { handlers } = clusterService(() => ({ watchMap }) as ClusterHandler);
  const watch = (): FakeCall => {
    const call = new FakeCall();
    (handlers.watchMap as unknown as (call: FakeCall) => void)(call);
    return call;
  };
  const calls = Array.from({ length: MAP_WATCHERS_MAX }, watch);
  expect(calls.every(({ failure }) => failure === undefined)).toBe(true);
  const refused = watch();
  expect(watching.size).toBe(MAP_WATCHERS_MAX);
  expect(refused.failure).toEqual({
    code: GrpcStatus.ResourceExhausted,
    details: `${MAP_WATCHERS_MAX} watch the map at this node already`,
  });
  // It was none of them, and takes the place of nobody.
  refused.emit("close");
  expect(watch().failure?.code).toBe(GrpcStatus.ResourceExhausted);
  calls[0]!.emit("cancelled");
  calls[0]!.emit("close");
  expect(watch()).toMatchObject({ failure: undefined });
  expect(watching.size).toBe(MAP_WATCHERS_MAX);
});
