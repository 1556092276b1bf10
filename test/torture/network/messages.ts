/** Between `network.ts` and the thread that carries the traffic (`network-thread.ts`). */
import type { LinkName, LinkRule } from "./rules.ts";

export type NetworkRequest =
  /** A proxy for a node. Answered with its port. */
  | { readonly kind: "open"; readonly node: string }
  | { readonly kind: "target"; readonly node: string; readonly port: number | undefined }
  | { readonly kind: "process"; readonly name: string; readonly pid: number }
  | { readonly kind: "rules"; readonly rules: readonly (readonly [LinkName, LinkRule])[] }
  /** Breaks the connections that `source` has to `node` now. */
  | { readonly kind: "reset"; readonly source: string | undefined; readonly node: string }
  | { readonly kind: "figures" }
  | { readonly kind: "close" };

export type NetworkFigures = {
  readonly connections: number;
  /** Connections for which nobody could be found: rules of single links did not hold for them. */
  readonly unknownSources: number;
};

/** The thread did not get to carry anything for a while; in milliseconds since 1970. */
export type NetworkPause = {
  readonly kind: "paused";
  readonly fromMs: number;
  readonly untilMs: number;
};

/** Every request is answered, in order. */
export type NetworkReply =
  | { readonly kind: "opened"; readonly port: number }
  | { readonly kind: "figures"; readonly figures: NetworkFigures }
  | { readonly kind: "done" };
