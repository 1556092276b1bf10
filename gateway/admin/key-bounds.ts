/**
 * How long, and from where, a key may work that somebody makes: no longer, and from nowhere else, than what he came
 * with. Who steals a credential that ends would otherwise have made himself a better one in time.
 *
 * What ends is the credential that was shown, not the key behind it: a token of this cluster, one of a foreign issuer
 * (whether that still vouches for its holder after its end nobody here can tell), a secret that was rotated out: that
 * must not be good for a new secret of the very key that somebody has just secured.
 */
import type { Principal } from "#gateway/auth/caller.ts";
import type { StoredKey } from "#gateway/auth/key-records.ts";
import type { KeyStore } from "#gateway/auth/key-store.ts";
import { areWithin } from "#gateway/auth/networks.ts";
import { wrongCredentials } from "#gateway/auth/verifier.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import { RequestRefused } from "#gateway/http/problem.ts";

export type KeyBounds = {
  /** 0 for ever. */
  readonly expiresAtMs: number;
  /** None for everywhere. */
  readonly networks: readonly string[];
};

const NO_BOUNDS: KeyBounds = { expiresAtMs: 0, networks: [] };

export const boundsIn = ({ record }: StoredKey): KeyBounds => ({
  expiresAtMs: Number(record.expiresAtMs),
  networks: record.networks,
});

/**
 * Those of whoever sends a request, when all of it has come. Looked at again then: he may have taken long over its
 * body, and what is not valid any more must not leave a key behind that is.
 *
 * @throws RequestRefused UNAUTHENTICATED when his credentials are not valid any more
 */
export function boundsOf(
  { basis }: Principal,
  exchange: Exchange,
  store: Pick<KeyStore, "find">,
): KeyBounds {
  // Nothing ends it: authentication is off, or it is the root key of the settings.
  if (basis === undefined) return NO_BOUNDS;
  if (basis.whyNot(exchange) !== undefined) throw wrongCredentials();
  const { keyId, endsAtMs } = basis;
  const expiresAtMs = Number.isFinite(endsAtMs) ? Math.floor(endsAtMs) : 0;
  if (keyId === undefined) return { expiresAtMs, networks: [] };
  const key = store.find(keyId);
  if (key === undefined) throw wrongCredentials();
  const own = boundsIn(key);
  // A token is remembered with its own end; its key may have been bounded since.
  const ends = [expiresAtMs, own.expiresAtMs].filter((endMs) => endMs !== 0);
  return { ...own, expiresAtMs: ends.length === 0 ? 0 : Math.min(...ends) };
}

/** @throws RequestRefused FORBIDDEN when a key with `bounds` could do what the maker's credentials cannot */
export function refuseBeyond(maker: KeyBounds, bounds: KeyBounds): void {
  const endsLater = bounds.expiresAtMs === 0 || bounds.expiresAtMs > maker.expiresAtMs;
  if (maker.expiresAtMs !== 0 && endsLater) {
    throw new RequestRefused(
      "FORBIDDEN",
      "the key would work for longer than your own credentials",
    );
  }
  if (!areWithin(bounds.networks, maker.networks)) {
    throw new RequestRefused("FORBIDDEN", "the key would work from where your own does not");
  }
}
