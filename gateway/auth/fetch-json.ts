/**
 * Fetches a JSON document of another server, distrusting it: follows no redirect, which could lead a
 * gateway to addresses that only it can reach, and reads no more than a bound.
 */
import { concatBytes } from "#shared/bytes.ts";
import { OIDC_DOCUMENT_SIZE_BYTES_MAX } from "#shared/limits-tokens.ts";
import { type JsonObject, parseStrictObject } from "./strict-json.ts";

/** @throws Error when there is no such object there; never with what the server sent */
export type FetchJson = (url: string, signal: AbortSignal) => Promise<JsonObject>;

export const fetchJson: FetchJson = async (url, signal) => {
  const response = await fetch(url, {
    redirect: "error",
    headers: { Accept: "application/json" },
    signal,
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`${url} answered with status ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  // Leaving the loop early cancels the rest.
  for await (const chunk of response.body ?? []) {
    sizeBytes += chunk.length;
    if (sizeBytes > OIDC_DOCUMENT_SIZE_BYTES_MAX) {
      throw new Error(`${url} is larger than ${OIDC_DOCUMENT_SIZE_BYTES_MAX} bytes`);
    }
    chunks.push(chunk);
  }
  const document = parseStrictObject(concatBytes(...chunks));
  if (document === undefined) throw new Error(`${url} is no JSON object`);
  return document;
};
