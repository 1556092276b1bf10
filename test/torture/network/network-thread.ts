/**
 * The thread that carries all traffic between the processes of a cluster under test. A thread of its own,
 * so that neither the clients' load nor the checking of histories delays a heartbeat.
 */
import { parentPort } from "node:worker_threads";
import type { NetworkPause, NetworkReply, NetworkRequest } from "./messages.ts";
import { NodeProxy, type ProxyContext } from "./proxy.ts";

const context: ProxyContext = { rules: new Map(), processes: new Map(), unknownSources: 0 };
const proxies = new Map<string, NodeProxy>();
const port = parentPort!;

async function carryOut(request: NetworkRequest): Promise<NetworkReply> {
  switch (request.kind) {
    case "open": {
      const proxy = new NodeProxy(request.node, context);
      proxies.set(request.node, proxy);
      return { kind: "opened", port: await proxy.listen() };
    }
    case "target":
      proxies.get(request.node)!.targetPort = request.port;
      return { kind: "done" };
    case "process": {
      // Ids are used again by the system: only the newest process of a name counts.
      for (const [pid, name] of context.processes) {
        if (name === request.name) context.processes.delete(pid);
      }
      context.processes.set(request.pid, request.name);
      return { kind: "done" };
    }
    case "rules":
      context.rules = new Map(request.rules);
      for (const proxy of proxies.values()) proxy.refresh();
      return { kind: "done" };
    case "reset":
      proxies.get(request.node)!.resetFrom(request.source);
      return { kind: "done" };
    case "figures": {
      let connections = 0;
      for (const proxy of proxies.values()) connections += proxy.connections;
      const { unknownSources } = context;
      return { kind: "figures", figures: { connections, unknownSources } };
    }
    case "close":
      for (const proxy of proxies.values()) proxy.close();
      return { kind: "done" };
    default:
      return request satisfies never;
  }
}

const LOOK_MS = 50;
const PAUSE_MS_LEAST = 100;

let lookedMs = performance.now();
setInterval(() => {
  const nowMs = performance.now();
  const fromMs = performance.timeOrigin + lookedMs + LOOK_MS;
  const untilMs = performance.timeOrigin + nowMs;
  lookedMs = nowMs;
  if (untilMs - fromMs < PAUSE_MS_LEAST) return;
  port.postMessage({ kind: "paused", fromMs, untilMs } satisfies NetworkPause);
}, LOOK_MS);

let last: Promise<void> = Promise.resolve();
port.on("message", (request: NetworkRequest) => {
  last = last.then(async () => {
    // Not closed here after `close`: the answer could be lost with the port. Whoever asks ends the thread.
    port.postMessage(await carryOut(request));
  });
});
