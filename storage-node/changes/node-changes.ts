/** The change logs of a node, for the streams of gateways and for whoever publishes what is applied. */
import type { Hello } from "#proto/codec/messages.ts";
import type { Clock } from "#shared/clock.ts";
import { GrpcStatus } from "#shared/errors.ts";
import { CHANGE_READS_PENDING_MAX, CHANGE_STREAMS_MAX } from "#shared/limits.ts";
import type { MessageStream } from "#shared/message-stream.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import type { HostedReplicas } from "#storage-node/replica/hosted-replicas.ts";
import { ChangeTail } from "./change-tail.ts";
import { type ChangesBudget, type ChangesCounts, ChangesStream } from "./changes-stream.ts";
import { LogReader } from "./log-reader.ts";
import { StepLine } from "./step-line.ts";

export type NodeChangesOptions = {
  readonly engine: Pick<Engine, "iterate">;
  readonly clock: Clock;
  readonly hosted: HostedReplicas;
};

export type ChangesFigures = Readonly<ChangesCounts> & {
  readonly streams: number;
  readonly readsPending: number;
  readonly freshBatches: number;
  readonly freshChanges: number;
};

export class NodeChanges {
  readonly tail: ChangeTail;
  readonly #line: StepLine;
  readonly #log: LogReader;
  readonly #streams = new Set<ChangesStream>();
  readonly #budget: ChangesBudget = {
    readsPending: 0,
    readsPendingMax: CHANGE_READS_PENDING_MAX,
  };
  readonly #counts: ChangesCounts = {
    ...{ follows: 0, reads: 0, batches: 0, bytes: 0, tailSwitches: 0, fallsBehind: 0 },
  };
  #closed = false;

  constructor({ engine, clock, hosted }: NodeChangesOptions) {
    this.tail = new ChangeTail(hosted);
    this.#line = new StepLine(clock);
    this.#log = new LogReader({ engine, clock, tail: this.tail });
  }

  /** Serves one stream for as long as it lasts. Its hello is what this node says of itself. */
  serve(stream: MessageStream, hello: Hello): void {
    if (this.#closed || this.#streams.size >= CHANGE_STREAMS_MAX) {
      stream.listen({ onMessage: () => {}, onDrain: () => {}, onClosed: () => {} });
      const status = this.#closed
        ? { code: GrpcStatus.Unavailable, details: "the storage node is stopping" }
        : { code: GrpcStatus.ResourceExhausted, details: "too many streams follow this node" };
      stream.abort(status);
      return;
    }
    const opened = new ChangesStream({
      stream,
      hello,
      tail: this.tail,
      line: this.#line,
      log: this.#log,
      budget: this.#budget,
      counts: this.#counts,
      onClosed: (closed) => this.#streams.delete(closed),
    });
    this.#streams.add(opened);
  }

  figures(): ChangesFigures {
    const { readsPending } = this.#budget;
    return { ...this.#counts, ...this.tail.figures, streams: this.#streams.size, readsPending };
  }

  /** Ends all streams; none is taken any more. Idempotent. */
  close(): void {
    this.#closed = true;
    for (const stream of [...this.#streams]) stream.end();
  }
}
