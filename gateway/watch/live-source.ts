/** News of changes over the bus, where there is one; without it they come from the leaders. */
import type { Clock } from "#shared/clock.ts";
import type { Random } from "#shared/random.ts";
import type { BusFigures } from "#shared/runtime/bus.ts";
import type { Logger } from "#shared/runtime/log.ts";
import type { NatsConfig } from "#shared/runtime/nats-settings.ts";
import { openBus } from "#shared/runtime/open-bus.ts";
import type { LiveChanges } from "./change-source.ts";
import { NatsLive, type NatsLiveFigures } from "./nats-live.ts";

export type LiveSourceOptions = {
  readonly config: NatsConfig;
  /** Of the cluster map; undefined before there is one. */
  readonly clusterId: () => string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
};

export type LiveSource = {
  readonly live: LiveChanges;
  readonly figures: () => BusFigures & NatsLiveFigures;
};

/**
 * Undefined without a bus. It connects when it is started, and is closed by who starts it.
 *
 * @throws ConfigError when a file that the settings name cannot be read or used
 */
export async function openLiveSource(options: LiveSourceOptions): Promise<LiveSource | undefined> {
  const { clusterId, clock, logger } = options;
  const opened = await openBus({ ...options, name: "minikv gateway" });
  if (opened === undefined) return undefined;
  const live = new NatsLive({
    bus: opened.bus,
    open: () => opened.start(),
    close: () => opened.close(),
    clusterId,
    clock,
    onMalformed: (detail) => logger.warn({ detail }, "a message of the bus is of no use"),
  });
  return { live, figures: () => ({ ...opened.bus.figures(), ...live.figures() }) };
}
