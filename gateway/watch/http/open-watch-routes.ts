/** The routes of watches, put together. */
import { WatchTickets, type WatchTicketsOptions } from "./tickets.ts";
import { WatchGuard, type WatchGuardOptions } from "./watch-guard.ts";
import { WatchRoutes, type WatchRoutesParts } from "./watch-routes.ts";

export type WatchRoutesOptions = Omit<WatchRoutesParts, "tickets" | "guard"> &
  Pick<WatchGuardOptions, "directory" | "stalenessMaxMs"> & {
    readonly tickets: WatchTicketsOptions;
  };

export function openWatchRoutes(options: WatchRoutesOptions): WatchRoutes {
  const { gate, watches, clock, random, audit, reportFailure } = options;
  const { directory, stalenessMaxMs, whyNoWatches } = options;
  return new WatchRoutes({
    ...{ gate, watches, clock, random, audit, reportFailure, whyNoWatches },
    tickets: new WatchTickets(options.tickets),
    guard: new WatchGuard({ gate, directory, stalenessMaxMs, clock }),
  });
}
