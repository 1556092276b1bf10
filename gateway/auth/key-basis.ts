/**
 * What rests on an API key whose secret was right once: is it still the secret of a key that is valid?
 *
 * The row is decoded when it has changed, not when it is asked about. A key that was changed needs no second
 * Argon2 here: the hash that matched is among those of its row, or it is not.
 */
import type { BlockList } from "node:net";
import type { Directory } from "#gateway/directory/directory.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import type { Clock } from "#shared/clock.ts";
import type { Basis, Origin, Principal } from "./caller.ts";
import {
  endMsOf,
  liveSecrets,
  principalOf,
  type StoredKey,
  secretMark,
  storedKeyOf,
  whyNotValid,
} from "./key-records.ts";
import { isInside, networkList } from "./networks.ts";
import type { AuthFailure, Refusals } from "./refusals.ts";

type Reason = AuthFailure["reason"];

export type KeyBasisParts = {
  readonly directory: Directory;
  readonly clock: Clock;
  readonly refusals: Pick<Refusals, "addressOf">;
};

export class KeyBasis implements Basis {
  readonly keyId: string;
  readonly origin: Origin;
  principal: Principal;
  endsAtMs: number;
  readonly #parts: KeyBasisParts;
  readonly #rowName: string;
  readonly #secretHash: string;
  #revision: number;
  #networks: BlockList | undefined;
  /** Of the row as it was last seen. */
  #reason: Reason | undefined;

  /** @param secretHash of the secret that was shown, which is one of `key` */
  constructor(parts: KeyBasisParts, key: StoredKey, secretHash: string) {
    this.#parts = parts;
    this.keyId = key.record.id;
    this.#rowName = key.row.name;
    this.#secretHash = secretHash;
    this.origin = { secret: secretMark(secretHash) };
    this.#revision = key.row.revision;
    this.principal = { ...principalOf(key), basis: this };
    this.endsAtMs = Number.POSITIVE_INFINITY;
    this.#take(key);
  }

  whyNot(exchange: Exchange): Reason | undefined {
    const { directory, clock, refusals } = this.#parts;
    const row = directory.get(this.#rowName);
    if (row === undefined) return "unknown";
    if (row.revision !== this.#revision) {
      this.#revision = row.revision;
      const key = storedKeyOf(row, this.keyId);
      if (key === undefined) this.#reason = "unknown";
      else this.#take(key);
    }
    if (this.#reason !== undefined) return this.#reason;
    if (clock.nowMs() >= this.endsAtMs) return "expired";
    const networks = this.#networks;
    const isHere = networks === undefined || isInside(networks, refusals.addressOf(exchange));
    return isHere ? undefined : "network";
  }

  #take(key: StoredKey): void {
    const { record } = key;
    const nowMs = this.#parts.clock.nowMs();
    const secret = liveSecrets(record, nowMs).find(({ hash }) => hash === this.#secretHash);
    this.#reason = whyNotValid(record, nowMs) ?? (secret === undefined ? "revoked" : undefined);
    if (secret === undefined) return;
    this.endsAtMs = endMsOf(record, secret.expiresAtMs);
    this.#networks = networkList(record.networks);
    this.principal = { ...principalOf(key), basis: this };
  }
}
