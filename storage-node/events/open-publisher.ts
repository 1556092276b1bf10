/** What a program does to have its storage node publish on the bus. */
import type { Clock } from "#shared/clock.ts";
import { BUS_CLOSE_TIMEOUT_MS } from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import type { BusFigures } from "#shared/runtime/bus.ts";
import type { Logger } from "#shared/runtime/log.ts";
import type { NatsConfig } from "#shared/runtime/nats-settings.ts";
import { openBus } from "#shared/runtime/open-bus.ts";
import type { StopStep } from "#shared/runtime/shutdown.ts";
import { noTracing, type Tracing } from "#shared/tracing.ts";
import type { Identity } from "#storage-node/data-directory.ts";
import { type ChangeTail, Publisher, type PublisherFigures } from "./publisher.ts";

export type NodePublisher = {
  /** Once it is known who the node is. */
  start(tail: ChangeTail, identity: Identity): void;
  /** Behind the one that closes the node: what that still applied is told too. */
  readonly stopSteps: readonly StopStep[];
  /** Undefined without a bus. */
  figures(): (BusFigures & PublisherFigures) | undefined;
};

export type OpenPublisherOptions = {
  readonly config: NatsConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly tracing?: Tracing;
};

/** @throws ConfigError when a file that the settings name cannot be read or used */
export async function openPublisher(options: OpenPublisherOptions): Promise<NodePublisher> {
  const { clock, tracing = noTracing } = options;
  const opened = await openBus({ ...options, name: "minikv storage-node" });
  if (opened === undefined) return { start: () => {}, stopSteps: [], figures: () => undefined };
  let publisher: Publisher | undefined;
  return {
    start: (tail, { nodeId, clusterId }) => {
      publisher = new Publisher({ bus: opened.bus, tail, nodeId, clusterId, clock, tracing });
      publisher.start();
      opened.start();
    },
    stopSteps: [
      {
        name: "leave the bus",
        run: async (remainingMs) => {
          publisher?.stop();
          await opened.close(Math.min(BUS_CLOSE_TIMEOUT_MS, remainingMs / 2));
        },
      },
    ],
    figures: () => publisher && { ...opened.bus.figures(), ...publisher.figures() },
  };
}
