/**
 * A key's secret at rest: an Argon2id hash, and two bytes that tell most wrong secrets without its work.
 *
 * Argon2id has the parameters that OWASP recommends (19 MiB, two passes, one lane) and takes about 50 ms.
 * The secrets here are random and carry 256 bits, so no hash, however fast, could be inverted by trying;
 * Argon2 guards against a source of randomness that proves weaker than thought.
 *
 * The check is the beginning of SHA-256 over id and secret. Whoever reads the directory learns 16 of the
 * 256 bits from it, and the 240 that are left are as far out of reach. In return, of 65,536 wrong secrets
 * 65,535 cost one SHA-256: nobody can keep the gateway busy with Argon2 by sending them. That a wrong
 * secret that passes the check takes longer to refuse tells its sender 16 bits that are worth as little.
 */
import { argon2, createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";

export type SecretHash = {
  /** In PHC string format, parameters and salt included. */
  readonly hash: string;
  readonly check: Uint8Array;
};

/** The work of Argon2, as a parameter: tests of what is around it do without. */
export type SecretHasher = {
  readonly hash: typeof hashSecret;
  readonly verify: typeof verifySecret;
};

/** In Node's names: KiB and passes. */
const COST = { memory: 19 * 1024, passes: 2, parallelism: 1 } as const;
const SALT_SIZE_BYTES = 16;
const TAG_SIZE_BYTES = 32;
const CHECK_SIZE_BYTES = 2;

/** Works on a thread of Node's pool. */
const argon2InPool = promisify(argon2);

async function hashSecret(id: string, secret: string): Promise<SecretHash> {
  const nonce = randomBytes(SALT_SIZE_BYTES);
  const tag = await argon2InPool("argon2id", {
    ...COST,
    ...{ message: secret, nonce, tagLength: TAG_SIZE_BYTES },
  });
  const { memory, passes, parallelism } = COST;
  const cost = `m=${memory},t=${passes},p=${parallelism}`;
  const hash = `$argon2id$v=19$${cost}$${base64Of(nonce)}$${base64Of(tag)}`;
  return { hash, check: checkOf(id, secret) };
}

/** Without the padding, as PHC strings have it. */
function base64Of(bytes: Buffer): string {
  return bytes.toString("base64").replace(/=+$/, "");
}

/** Keys that were made with the package `argon2` have `p` before `t`. */
const PHC =
  /^\$argon2id\$v=19\$m=(?<m>\d+),(?:t=(?<t>\d+),p=(?<p>\d+)|p=(?<p>\d+),t=(?<t>\d+))\$(?<salt>[\w+/]+)\$(?<tag>[\w+/]+)$/;

export function checkOf(id: string, secret: string): Uint8Array {
  const digest = createHash("sha256").update(`minikv api key\0${id}\0${secret}`).digest();
  return new Uint8Array(digest.subarray(0, CHECK_SIZE_BYTES));
}

/** False for nearly every wrong secret. */
export function passesCheck(check: Uint8Array, id: string, secret: string): boolean {
  return check.length === CHECK_SIZE_BYTES && timingSafeEqual(check, checkOf(id, secret));
}

/** The work of Argon2. Compares in constant time. False also for a hash that cannot be read. */
async function verifySecret(hash: string, secret: string): Promise<boolean> {
  const read = PHC.exec(hash)?.groups;
  if (read === undefined) return false;
  const tag = Buffer.from(read.tag!, "base64");
  try {
    const found = await argon2InPool("argon2id", {
      message: secret,
      nonce: Buffer.from(read.salt!, "base64"),
      memory: Number(read.m),
      passes: Number(read.t),
      parallelism: Number(read.p),
      tagLength: tag.length,
    });
    return timingSafeEqual(found, tag);
  } catch {
    return false;
  }
}

export const argon2Hasher: SecretHasher = { hash: hashSecret, verify: verifySecret };
