/** Which way news of changes come to this gateway: over the bus where there is one, else from the leaders. */
import type { Clock } from "#shared/clock.ts";
import type { Random } from "#shared/random.ts";
import type { BusFigures } from "#shared/runtime/bus.ts";
import type { Logger } from "#shared/runtime/log.ts";
import type { NatsConfig } from "#shared/runtime/nats-settings.ts";
import { openBus } from "#shared/runtime/open-bus.ts";
import type { LiveChanges } from "./change-source.ts";
import { NatsLive, type NatsLiveFigures } from "./nats-live.ts";

export type LiveSourceOptions = {
  readonly nats: NatsConfig;
  /** Of the cluster map; undefined before there is one. */
  readonly clusterId: () => string | undefined;
  /** Follows of the leaders, for a gateway without a bus. */
  readonly direct: () => LiveChanges;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
};

export type LiveSource = {
  readonly live: LiveChanges;
  /** Undefined without a bus. */
  readonly busFigures: (() => BusFigures & NatsLiveFigures) | undefined;
};

/** @throws ConfigError when a file that the settings name cannot be read or used */
export async function openLiveSource(options: LiveSourceOptions): Promise<LiveSource> {
  const { nats, clusterId, direct, clock, random, logger } = options;
  const opened = await openBus({ config: nats, name: "minikv gateway", clock, random, logger });
  if (opened === undefined) return { live: direct(), busFigures: undefined };
  const live = new NatsLive({
    bus: opened.bus,
    open: () => opened.start(),
    close: () => opened.close(),
    clusterId,
    clock,
    onMalformed: (detail) => logger.warn({ detail }, "a message of the bus is of no use"),
  });
  return { live, busFigures: () => ({ ...opened.bus.figures(), ...live.figures() }) };
}
