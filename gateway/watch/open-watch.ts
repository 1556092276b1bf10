/** The watches of a gateway, put together: where changes come from, the feed and the hub. */
import type { StopStep } from "#shared/runtime/shutdown.ts";
import type { ChangeLog, LiveChanges } from "./change-source.ts";
import { Hub, type HubOptions } from "./hub.ts";
import type { Watches } from "./watches.ts";

export type WatchOptions = Omit<HubOptions, "log" | "live"> & {
  /** Logs, and news where nothing else carries them. */
  readonly changes: ChangeLog & LiveChanges;
  /** Carries news instead, such as a bus. */
  readonly live?: LiveChanges | undefined;
};

export type OpenedWatch = {
  readonly watches: Watches;
  readonly figures: Hub["figures"];
  /** The process begins to stop. */
  readonly stopping: () => void;
  /** Before storage is closed, from which values are read. */
  readonly stopStep: StopStep;
};

export function openWatch({ changes, live, ...options }: WatchOptions): OpenedWatch {
  const hub = new Hub({ ...options, log: changes, live: live ?? changes });
  return {
    watches: hub,
    figures: () => hub.figures(),
    stopping: () => hub.drain(),
    stopStep: { name: "close watches", run: () => hub.close() },
  };
}
