/**
 * What a request shows to say who sends it, one kind of credential per verifier.
 *
 * The gate takes the credential from the request (`Authorization: Bearer …` or `X-API-Key`, never more
 * than one) and asks the verifiers in turn. The first one that knows its kind decides alone: a wrong
 * credential of one kind never becomes a right one of another.
 */
import type { Exchange } from "#gateway/http/exchange.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import type { Principal } from "./caller.ts";

export interface CredentialVerifier {
  /**
   * Undefined: not a credential of this kind. At once where the credential is known; the promise is for
   * one that has to be verified.
   *
   * @param credential 1 to CREDENTIAL_LENGTH_MAX visible ASCII characters
   * @throws RequestRefused UNAUTHENTICATED, RATE_LIMITED, UNAVAILABLE
   */
  verify(credential: string, exchange: Exchange): Principal | Promise<Principal> | undefined;
}

const REALM = 'Bearer realm="minikv"';

/** No credentials were given (RFC 6750, 3: then without an error). */
export const noCredentials = (): RequestRefused =>
  new RequestRefused(
    "UNAUTHENTICATED",
    "this needs credentials: an API key or a token in Authorization: Bearer, or a key in X-API-Key",
    { headers: ["WWW-Authenticate", REALM] },
  );

/**
 * The one answer to every credential that is not valid: it does not tell an unknown key from a wrong
 * secret, nor an expired one from a revoked one.
 */
export const wrongCredentials = (): RequestRefused =>
  new RequestRefused("UNAUTHENTICATED", "these credentials are not valid (any more)", {
    headers: ["WWW-Authenticate", `${REALM}, error="invalid_token"`],
  });

/** Before the directory is known, "there is none" could be wrong, and who hears it does not ask again. */
export const directoryUnknown = (): RequestRefused =>
  new RequestRefused("UNAVAILABLE", "the gateway does not know the cluster's directory yet");
