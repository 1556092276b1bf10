/**
 * What is remembered of credentials that were verified, found by a keyed hash of the credential.
 *
 * The credential itself is never kept. Its name here is SHA-256 over a key that was drawn when the process
 * started and the credential: nobody outside can compute a name, so nobody can choose credentials whose
 * names meet, and how long it takes to find one tells nothing. The order key, then credential needs no HMAC
 * here: lengthening a hash helps only who sees it, and these never leave this object.
 *
 * Two maps instead of an order of use: what is asked for moves to the young one, and when that is full, it
 * becomes the old one and the old one is dropped. So an entry that is asked for at least once while half of
 * the room fills up stays, and a hit costs one look.
 */
import { hash } from "node:crypto";
import type { Random } from "#shared/random.ts";

const KEY_SIZE_BYTES = 32;

export class VerdictCache<T> {
  readonly #key: string;
  readonly #halfMax: number;
  #young = new Map<string, T>();
  #old = new Map<string, T>();

  constructor(options: { readonly random: Random; readonly entriesMax: number }) {
    const key = options.random.fill(new Uint8Array(KEY_SIZE_BYTES));
    this.#key = Buffer.from(key.buffer, key.byteOffset, key.length).toString("hex");
    this.#halfMax = Math.max(1, Math.floor(options.entriesMax / 2));
  }

  get size(): number {
    return this.#young.size + this.#old.size;
  }

  nameOf(credential: string): string {
    return hash("sha256", this.#key + credential, "hex");
  }

  get(name: string): T | undefined {
    const young = this.#young.get(name);
    if (young !== undefined) return young;
    const old = this.#old.get(name);
    if (old !== undefined) {
      this.#old.delete(name);
      this.set(name, old);
    }
    return old;
  }

  set(name: string, verdict: T): void {
    if (this.#young.size >= this.#halfMax && !this.#young.has(name)) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(name, verdict);
  }

  delete(name: string): void {
    this.#young.delete(name);
    this.#old.delete(name);
  }
}
