/**
 * The credential that commands send to a gateway: an API key or a token, from the environment or a file.
 *
 * There is no option for the key itself: everybody on a machine sees the command lines of all processes.
 */
import { readFileSync } from "node:fs";
import { CREDENTIAL_LENGTH_MAX } from "#shared/limits.ts";

export const API_KEY_VARIABLE = "MINIKV_API_KEY";
export const API_KEY_FILE_VARIABLE = "MINIKV_API_KEY_FILE";

const VISIBLE = /^[!-+\--~]+$/;

/**
 * Undefined when none is given; then the gateway has to take requests without.
 *
 * @throws Error that says what is wrong, and nothing of the key
 */
export function clientKey(
  env: Readonly<Record<string, string | undefined>>,
  file: string | undefined,
): string | undefined {
  const path =
    file ?? (env[API_KEY_VARIABLE] === undefined ? env[API_KEY_FILE_VARIABLE] : undefined);
  const place = path ?? API_KEY_VARIABLE;
  const key = (path === undefined ? env[API_KEY_VARIABLE] : readFileSync(path, "latin1"))?.trim();
  if (key === undefined) return undefined;
  if (key.length <= CREDENTIAL_LENGTH_MAX && VISIBLE.test(key)) return key;
  throw new Error(`${place} holds no API key or token`);
}

/** The header that carries it. */
export const credentialHeader = (key: string | undefined): Readonly<Record<string, string>> =>
  key === undefined ? {} : { Authorization: `Bearer ${key}` };
