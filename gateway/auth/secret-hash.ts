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
import { createHash, timingSafeEqual } from "node:crypto";
import argon2 from "argon2";

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

const ARGON2_OPTIONS = {
  type: argon2.argon2id,
  memoryCost: 19 * 1024,
  timeCost: 2,
  parallelism: 1,
} as const;
const CHECK_SIZE_BYTES = 2;

async function hashSecret(id: string, secret: string): Promise<SecretHash> {
  return { hash: await argon2.hash(secret, ARGON2_OPTIONS), check: checkOf(id, secret) };
}

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
  try {
    return await argon2.verify(hash, secret);
  } catch {
    return false;
  }
}

export const argon2Hasher: SecretHasher = { hash: hashSecret, verify: verifySecret };

/** A hasher whose work can be waited for. */
export type EndingHasher = SecretHasher & {
  /** Resolves when nothing is under way. */
  readonly ended: () => Promise<void>;
  readonly isAtWork: () => boolean;
};

/**
 * Argon2 works in threads of the process, and the package aborts the process when that exits from under it: the exit
 * code would be 134 and say nothing. So a process that stops waits for what is under way, and one that cannot ends at once.
 */
export function endingHasher({ hash, verify }: SecretHasher): EndingHasher {
  const underWay = new Set<Promise<unknown>>();
  const noted = async <T>(work: Promise<T>): Promise<T> => {
    underWay.add(work);
    try {
      return await work;
    } finally {
      underWay.delete(work);
    }
  };
  return {
    hash: (id, secret) => noted(hash(id, secret)),
    verify: (stored, secret) => noted(verify(stored, secret)),
    isAtWork: () => underWay.size > 0,
    ended: async () => {
      // What waits in a queue begins when the one before has ended; queues are bounded.
      while (underWay.size > 0) await Promise.allSettled(underWay);
    },
  };
}
