/** What keeps secrets in the directory from whoever reads a data directory: the master key. */
import type { MasterKeys } from "#gateway/codec/master-keys.ts";
import type { MaybePromise } from "#shared/maybe-promise.ts";
import type { Random } from "#shared/random.ts";

export interface KeyWrapper {
  /** Of the master key that wraps now. */
  readonly currentId: string;
  /** `context` names what the bytes are: a secret cannot be put in another one's place. */
  wrap(bytes: Uint8Array, context: string): MaybePromise<Uint8Array>;
  /** @throws when the master key is not known here, or the bytes were changed */
  unwrap(id: string, bytes: Uint8Array, context: string): MaybePromise<Uint8Array>;
}

const SCOPE = "signing keys of tokens";

/** @param random must be secure */
export const signingKeyWrapper = (masterKeys: MasterKeys, random: Random): KeyWrapper => ({
  currentId: masterKeys.currentId,
  wrap: (bytes, context) => masterKeys.wrap({ scope: SCOPE, name: context }, bytes, random).wrapped,
  unwrap: (masterKeyId, wrapped, context) =>
    masterKeys.unwrap({ scope: SCOPE, name: context }, { masterKeyId, wrapped }),
});
