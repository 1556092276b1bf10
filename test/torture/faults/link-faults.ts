/** Faults of the network as layers of rules: who cannot hear whom. Pure. */
import type { Random } from "#shared/random.ts";
import { type Block, bothWays, type Layer, linkName } from "#test/torture/network/rules.ts";
import type { FaultKind } from "./schedule.ts";

export type Members = {
  readonly nodes: readonly string[];
  readonly gateways: readonly string[];
};

export type LinkFault = { readonly layer: Layer; readonly detail: string };

/** Undefined for what is no fault of links. */
export function linkFault(
  kind: FaultKind,
  victim: string,
  gateway: string | undefined,
  members: Members,
  random: Random,
): LinkFault | undefined {
  const peers = members.nodes.filter((node) => node !== victim);
  const everybody = [...peers, ...members.gateways];
  const block: Block = random.below(3) === 0 ? "reset" : "silent";
  const pairs = (others: readonly string[]) => others.map((other) => [victim, other] as const);
  switch (kind) {
    case "isolate":
      return { layer: bothWays(pairs(everybody), { block }), detail: block };
    case "isolateFromPeers":
      return { layer: bothWays(pairs(peers), { block }), detail: block };
    case "deaf":
      return { layer: oneWay(everybody, [victim]), detail: "hears nobody" };
    case "mute":
      return { layer: oneWay([victim], everybody), detail: "is not heard" };
    case "cutPair": {
      const peer = pick(peers, random);
      if (peer === undefined) return undefined;
      return { layer: bothWays([[victim, peer]], { block }), detail: `${peer}, ${block}` };
    }
    case "cutPairOneWay": {
      const peer = pick(peers, random);
      if (peer === undefined) return undefined;
      const isFrom = random.below(2) === 0;
      const layer = isFrom ? oneWay([victim], [peer]) : oneWay([peer], [victim]);
      return { layer, detail: isFrom ? `to ${peer}` : `from ${peer}` };
    }
    case "cutGateway": {
      if (gateway === undefined) return undefined;
      if (random.below(2) === 0) {
        return { layer: oneWay([victim], [gateway]), detail: `to ${gateway}` };
      }
      return { layer: bothWays([[victim, gateway]], { block }), detail: `${gateway}, ${block}` };
    }
    case "slowLinks": {
      const delayMs = 5 + random.below(200);
      return { layer: bothWays(pairs(everybody), { delayMs }), detail: `${delayMs} ms` };
    }
    case "narrowLinks": {
      const bytesPerSecond = 20_000 + random.below(500_000);
      return { layer: bothWays(pairs(peers), { bytesPerSecond }), detail: `${bytesPerSecond} B/s` };
    }
    default:
      return undefined;
  }
}

function oneWay(from: readonly string[], to: readonly string[]): Layer {
  return from.flatMap((a) => to.map((b) => [linkName(a, b), { block: "silent" }] as const));
}

function pick(names: readonly string[], random: Random): string | undefined {
  return names[random.below(Math.max(1, names.length))];
}
