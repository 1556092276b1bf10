/** A stream whose other end is the test, and a gateway's end of the protocol. Used by tests only. */
import type { ChangesRequest, ChangesResponse } from "#proto/codec/change-messages.ts";
import { decodeChangesResponse, encodeChangesRequest } from "#proto/codec/changes.ts";
import type { Hello } from "#proto/codec/messages.ts";
import { PROTOCOL_VERSION } from "#proto/codec/service.ts";
import type { Revision, VshardId } from "#shared/ids.ts";
import type { MessageStream, StreamListener, StreamStatus } from "#shared/message-stream.ts";

export const helloOf = (change: Partial<Hello> = {}): Hello => ({
  protocolVersion: PROTOCOL_VERSION,
  clusterId: "test",
  nodeId: 1,
  softwareVersion: "test",
  windowOperations: 16,
  windowBytes: 1 << 20,
  ...change,
});

/** The node's side writes here; `isOpen` false is a transport that asks for a pause. */
export class TestStream implements MessageStream {
  #listener: StreamListener | undefined;
  #blocked = false;
  isOpen = true;
  readonly received: ChangesResponse[] = [];
  /** Of each message. */
  readonly sizes: number[] = [];
  ended: StreamStatus | "end" | undefined;

  listen(listener: StreamListener): void {
    this.#listener = listener;
  }

  write(bytes: Uint8Array): boolean {
    // A copy: the sender may not use the same buffer for anything else.
    this.received.push(decodeChangesResponse(new Uint8Array(bytes)));
    this.sizes.push(bytes.length);
    this.#blocked = !this.isOpen;
    return this.isOpen;
  }

  end(): void {
    this.ended = "end";
  }

  abort(status: StreamStatus): void {
    this.ended = status;
  }

  /** The transport takes more, if it had asked for a pause. */
  open(): void {
    this.isOpen = true;
    if (!this.#blocked) return;
    this.#blocked = false;
    this.#listener!.onDrain();
  }

  say(request: Partial<ChangesRequest>): void {
    const nothing = { hello: undefined, reads: [], follows: [], unfollow: [] };
    this.sayBytes(encodeChangesRequest({ ...nothing, ...request }));
  }

  sayBytes(bytes: Uint8Array): void {
    this.#listener!.onMessage(bytes);
  }

  close(status: StreamStatus): void {
    this.#listener!.onClosed(status);
  }

  follow(vshard: VshardId, afterRevision: number | "head"): void {
    const fromHead = afterRevision === "head";
    const position = (fromHead ? 0 : afterRevision) as Revision;
    this.say({ follows: [{ vshard, afterRevision: position, fromHead }] });
  }

  read(callId: number, vshard: VshardId, afterRevision: number, bytesMax = 1 << 20): void {
    const position = afterRevision as Revision;
    this.say({ reads: [{ callId, vshard, afterRevision: position, headOnly: false, bytesMax }] });
  }

  head(callId: number, vshard: VshardId): void {
    const afterRevision = 0 as Revision;
    this.say({ reads: [{ callId, vshard, afterRevision, headOnly: true, bytesMax: 0 }] });
  }

  get batches() {
    return this.received.flatMap(({ batches }) => batches);
  }

  get results() {
    return this.received.flatMap(({ results }) => results);
  }

  get endings() {
    return this.received.flatMap(({ ended }) => ended);
  }
}

/** A few turns of the event loop: passes, steps, flushes. */
export async function turns(count = 8): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}
