/** Puts a program's bus together: connection, seal, and what the log says of both. */
import type { Clock } from "#shared/clock.ts";
import { BUS_CLOSE_TIMEOUT_MS, BUS_MALFORMED_TOLD_INTERVAL_MS } from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import { type Bus, type BusState, NatsBus } from "./bus.ts";
import { loadSealKeys, SealedBus } from "./bus-seal.ts";
import { ConfigError } from "./config.ts";
import { formatHostPort } from "./config-value.ts";
import type { Logger } from "./log.ts";
import { hasNats, type NatsConfig, parseNatsUrl } from "./nats-settings.ts";

export type OpenBus = {
  readonly bus: Bus;
  /** Begins to connect; returns at once. */
  start(): void;
  close(timeoutMs?: number): Promise<void>;
};

export type OpenBusOptions = {
  readonly config: NatsConfig;
  /** What the server's monitoring shows. */
  readonly name: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
};

/**
 * Undefined without `nats-url`.
 *
 * @throws ConfigError when a file that the settings name cannot be read or used
 */
export async function openBus(options: OpenBusOptions): Promise<OpenBus | undefined> {
  const { config, name, clock, random, logger } = options;
  if (!hasNats(config)) return undefined;
  const parsed = parseNatsUrl(config.natsUrl);
  if (parsed === undefined) throw new ConfigError("nats-url is no list of servers");
  const keys = loadSealKeys(config);
  // The client library costs time and memory, which nobody without a bus has to pay.
  const { natsDial } = await import("./nats.ts");
  const connection = new NatsBus({
    servers: parsed.servers.map(formatHostPort),
    dial: natsDial({ config, tls: parsed.tls, name }),
    clock,
    random,
    onState: onBusState(logger),
  });
  return {
    bus:
      keys.length === 0
        ? connection
        : new SealedBus(connection, { keys, random, onRefused: onRefused(clock, logger) }),
    start: () => connection.start(),
    close: (timeoutMs = BUS_CLOSE_TIMEOUT_MS) => connection.close(timeoutMs),
  };
}

/** Another key, or none: somebody forges, or the members' settings differ. Now and then, not for each message. */
function onRefused(clock: Clock, logger: Logger): () => void {
  let toldMs = Number.NEGATIVE_INFINITY;
  return () => {
    const nowMs = clock.monotonicMs();
    if (nowMs - toldMs < BUS_MALFORMED_TOLD_INTERVAL_MS) return;
    toldMs = nowMs;
    logger.warn({}, "a message of the bus is not sealed under a key of ours");
  };
}

/** One line for each change. Without the bus everything works, more slowly. */
const onBusState =
  (logger: Logger) =>
  (state: BusState): void => {
    if (state.kind === "connected") {
      logger.info({ server: state.server }, "connected to the bus");
    } else if (state.kind === "disconnected") {
      logger.warn({ reason: state.reason }, "no bus; it is tried again, watches go on without it");
    } else {
      logger.warn({ detail: state.detail }, "the bus does not permit this program's messages");
    }
  };
