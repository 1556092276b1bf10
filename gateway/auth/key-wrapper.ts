/** What keeps secrets in the directory from whoever reads a data directory: the master key. */
import type { MaybePromise } from "#shared/maybe-promise.ts";

export interface KeyWrapper {
  /** Of the master key that wraps now. */
  readonly currentId: string;
  /** `context` names what the bytes are: a secret cannot be put in another one's place. */
  wrap(bytes: Uint8Array, context: string): MaybePromise<Uint8Array>;
  /** @throws when the master key is not known here, or the bytes were changed */
  unwrap(id: string, bytes: Uint8Array, context: string): MaybePromise<Uint8Array>;
}
