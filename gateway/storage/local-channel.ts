/** The way to a storage node in the same process. The owner of the node closes the node itself. */
import type { Operation, OperationHandler, ResultBody } from "#proto/codec/messages.ts";
import { refusalOf } from "#proto/codec/operation-rules.ts";
import type { Clock } from "#shared/clock.ts";
import type { Channel, Readiness } from "./channel.ts";

export type LocalChannelOptions = {
  readonly handler: OperationHandler;
  readonly readiness: () => Readiness;
  readonly clock: Clock;
};

export class LocalChannel implements Channel {
  readonly #options: LocalChannelOptions;

  constructor(options: LocalChannelOptions) {
    this.#options = options;
  }

  send(operation: Operation, reply: (body: ResultBody) => void): void {
    const { handler, clock } = this.#options;
    // The same rules as at the door of a storage node that is reached over gRPC.
    const refusal = refusalOf(operation, clock.nowMs());
    if (refusal === undefined) handler.operate(operation, reply);
    else reply(refusal);
  }

  /** What was sent is with the handler already, and its answer is dropped by the caller. */
  cancel(): boolean {
    return false;
  }

  readiness(): Readiness {
    return this.#options.readiness();
  }

  async close(): Promise<void> {}
}
