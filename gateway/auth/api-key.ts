/**
 * The text of an API key: `mkv_<id>_<secret><crc>`.
 *
 * The id (16 characters) names the key and is no secret. The secret (43 characters) carries 256 bits. The
 * checksum (6 characters) is the CRC32 of everything before it: typing errors are found without asking
 * anybody, and scanners of leaked text tell a key from what only looks like one. All three are Base62, so
 * that a key is one word in every shell, URL and editor.
 */
import { crc32 } from "node:zlib";
import { assert } from "#shared/assert.ts";
import type { Random } from "#shared/random.ts";

export type ApiKey = { readonly id: string; readonly secret: string };

export const API_KEY_MARK = "mkv_";
export const API_KEY_ID_LENGTH = 16;
export const API_KEY_SECRET_LENGTH = 43;
const CHECKSUM_LENGTH = 6;
const SECRET_START = API_KEY_MARK.length + API_KEY_ID_LENGTH + 1;
const CHECKSUM_START = SECRET_START + API_KEY_SECRET_LENGTH;
export const API_KEY_LENGTH = CHECKSUM_START + CHECKSUM_LENGTH;

const ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE = ALPHABET.length;
/** Bytes from here on are drawn again: a remainder of them would prefer the first characters. */
const FAIR_BYTES = Math.floor(256 / BASE) * BASE;
const DRAW_SIZE_BYTES = 64;
/** A draw gives 62 characters on average; that so many give too few does not happen. */
const DRAWS_MAX = 100;

const FORM = /^mkv_[0-9A-Za-z]{16}_[0-9A-Za-z]{49}$/;
const ID_FORM = /^[0-9A-Za-z]{16}$/;

export const isApiKeyId = (text: string): boolean => ID_FORM.test(text);

/** @param random must be secure: `systemRandom()` is, a seeded one is not. */
export function makeApiKey(random: Random): ApiKey {
  return { id: base62(random, API_KEY_ID_LENGTH), secret: makeSecret(random) };
}

/** The next secret of a key that is rotated. */
export const makeSecret = (random: Random): string => base62(random, API_KEY_SECRET_LENGTH);

export function formatApiKey({ id, secret }: ApiKey): string {
  const body = `${API_KEY_MARK}${id}_${secret}`;
  return body + checksumOf(body);
}

/** Undefined for anything that is no whole key with the right checksum. Never throws. */
export function parseApiKey(text: string): ApiKey | undefined {
  if (text.length !== API_KEY_LENGTH || !FORM.test(text)) return undefined;
  // No secret: whoever has a key can compute it. So it need not be compared in constant time.
  if (checksumOf(text.slice(0, CHECKSUM_START)) !== text.slice(CHECKSUM_START)) return undefined;
  return {
    id: text.slice(API_KEY_MARK.length, SECRET_START - 1),
    secret: text.slice(SECRET_START, CHECKSUM_START),
  };
}

function checksumOf(body: string): string {
  let rest = crc32(body);
  let digits = "";
  for (let i = 0; i < CHECKSUM_LENGTH; i++) {
    digits = ALPHABET[rest % BASE] + digits;
    rest = Math.floor(rest / BASE);
  }
  return digits;
}

function base62(random: Random, length: number): string {
  const bytes = new Uint8Array(DRAW_SIZE_BYTES);
  let text = "";
  for (let draw = 0; draw < DRAWS_MAX && text.length < length; draw++) {
    for (const byte of random.fill(bytes)) {
      if (byte < FAIR_BYTES && text.length < length) text += ALPHABET[byte % BASE];
    }
  }
  bytes.fill(0);
  assert(text.length === length, "random bytes are random");
  return text;
}
