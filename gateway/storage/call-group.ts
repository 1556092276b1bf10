/**
 * Several calls that one caller waits for together: they share its cancellation and its deadline.
 */
import type { OperationBody } from "#proto/codec/messages.ts";
import { KvError } from "#shared/errors.ts";
import type { VshardId } from "#shared/ids.ts";
import type { AnyResult, Call, CallRequest } from "./call.ts";
import type { CallOptions } from "./storage.ts";

/** Starts a call, unless it is refused and has been answered with that. */
export type StartCall = <T>(request: CallRequest<T>) => Call<T> | undefined;

export class CallGroup {
  readonly #startCall: StartCall;
  readonly #options: CallOptions;
  readonly #callOptions: CallOptions;
  readonly #running = new Set<Pick<Call<unknown>, "cancel">>();
  #listens = false;

  constructor(startCall: StartCall, options: CallOptions) {
    const { deadlineMs, trace, cancellation } = options;
    this.#startCall = startCall;
    this.#options = options;
    this.#callOptions = trace === undefined ? { deadlineMs } : { deadlineMs, trace };
    if (cancellation === undefined || cancellation.isCancelled) return;
    cancellation.listen(() => this.cancel());
    this.#listens = true;
  }

  /** One of `resolve` and `reject` runs, now or later. */
  start<T>(
    vshard: VshardId,
    body: OperationBody,
    convert: (result: AnyResult) => T,
    resolve: (value: T) => void,
    reject: (error: KvError) => void,
  ): void {
    if (this.#options.cancellation?.isCancelled) {
      reject(new KvError("CANCELLED", "the caller went away", { outcome: "not_applied" }));
      return;
    }
    let call: Call<T> | undefined;
    let isOver = false;
    const end = (): void => {
      isOver = true;
      if (call !== undefined) this.#running.delete(call);
    };
    call = this.#startCall({
      vshard,
      body,
      options: this.#callOptions,
      convert,
      resolve: (value) => {
        end();
        resolve(value);
      },
      reject: (error) => {
        end();
        reject(error);
      },
    });
    // It may have ended before it was known here.
    if (call !== undefined && !isOver) this.#running.add(call);
  }

  /** Nobody waits for the calls any more; each of them is answered so. */
  cancel(): void {
    for (const call of [...this.#running]) if (this.#running.has(call)) call.cancel();
  }

  /** To be called when no further call will be started. */
  release(): void {
    if (!this.#listens) return;
    this.#listens = false;
    this.#options.cancellation?.release();
  }
}
