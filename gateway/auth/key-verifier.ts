/**
 * Verifies API keys: once with Argon2, and from then on by what is remembered.
 *
 * What is remembered is bound to the revision of the key's row in the directory, and every request compares
 * the two. So a key that is changed, revoked, rotated or deleted is verified anew (and refused) from the
 * moment on at which this gateway's directory knows; there is no list of verdicts to be cleared, and no
 * message about it that could be missed.
 *
 * The order of refusals keeps Argon2 from those who have no key: form and checksum, an unknown id, a key
 * that is not valid, the two bytes of the check, and only then a place in the line. Cached credentials pass
 * by all of it.
 */
import type { BlockList } from "node:net";
import type { Directory } from "#gateway/directory/directory.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import type { ApiKeyRecord } from "#proto/gen/minikv/v1/directory_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { KEY_USE_INTERVAL_MS, KEY_VERDICTS_MAX } from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import { API_KEY_MARK, type ApiKey, parseApiKey } from "./api-key.ts";
import type { Principal } from "./caller.ts";
import type { FailureThrottle } from "./failure-throttle.ts";
import { KeyBasis } from "./key-basis.ts";
import { endMsOf, findKey, liveSecrets, whyNotValid } from "./key-records.ts";
import type { KeyUses } from "./key-use.ts";
import { isInside, networkList } from "./networks.ts";
import { type Refusals, tooManyFailures } from "./refusals.ts";
import { passesCheck, type SecretHasher } from "./secret-hash.ts";
import { VerdictCache } from "./verdict-cache.ts";
import type { CredentialVerifier } from "./verifier.ts";
import type { WorkQueue } from "./work-queue.ts";

export type KeyVerifierOptions = {
  readonly directory: Directory;
  readonly clock: Clock;
  readonly random: Random;
  readonly refusals: Refusals;
  /** Runs of Argon2 that found the secret wrong, by key id. */
  readonly byKey: FailureThrottle;
  /** Of all runs of Argon2 in this gateway. */
  readonly queue: WorkQueue;
  readonly uses: KeyUses;
  /** How long the directory may be silent before its rows are no longer believed. */
  readonly stalenessMaxMs: number;
  /** The root key of the settings, as text. */
  readonly rootKey?: string | undefined;
  readonly hasher: SecretHasher;
};

type Verdict = {
  readonly principal: Principal;
  readonly rowName: string;
  readonly revision: number;
  /** When the key or its secret expires; Infinity for never. */
  readonly endMs: number;
  readonly networks: BlockList | undefined;
  useDueMs: number;
};

/** By its settings, so without a row. Who holds the settings of a gateway may do everything anyway. */
const CONFIGURED_ROOT: Principal = {
  kind: "root",
  id: "root",
  tenant: DEFAULT_TENANT,
  role: "ClusterAdmin",
  prefixes: [],
};

export class KeyVerifier implements CredentialVerifier {
  readonly #options: KeyVerifierOptions;
  readonly #cache: VerdictCache<Verdict>;
  /** First verifications under way, by the credential's name; as many as the line has places. */
  readonly #pending = new Map<string, Promise<Verdict>>();
  readonly #rootName: string | undefined;

  constructor(options: KeyVerifierOptions) {
    this.#options = options;
    this.#cache = new VerdictCache({ random: options.random, entriesMax: KEY_VERDICTS_MAX });
    const { rootKey } = options;
    this.#rootName = rootKey === undefined ? undefined : this.#cache.nameOf(rootKey);
  }

  /** Credentials that are remembered as verified or refused. */
  get remembered(): number {
    return this.#cache.size;
  }

  verify(credential: string, exchange: Exchange): Principal | Promise<Principal> | undefined {
    if (!credential.startsWith(API_KEY_MARK)) return undefined;
    // The name is a hash that nobody outside can compute: how far two of them agree tells nothing.
    const name = this.#cache.nameOf(credential);
    // It needs no directory, and so works while the meta group has no leader: to see why.
    if (name === this.#rootName) return CONFIGURED_ROOT;
    this.#refuseSilence();
    const nowMs = this.#options.clock.nowMs();
    const verdict = this.#cache.get(name);
    if (verdict !== undefined && this.#holds(verdict, nowMs)) {
      return this.#use(verdict, exchange, nowMs);
    }
    const first = this.#pending.get(name) ?? this.#begin(credential, name, exchange);
    return first.then(
      (found) => this.#use(found, exchange, this.#options.clock.nowMs()),
      (error: unknown) => {
        if (error !== WRONG) throw error;
        return this.#options.refusals.refuse(exchange, "secret", parseApiKey(credential)?.id);
      },
    );
  }

  #holds({ rowName, revision, endMs }: Verdict, nowMs: number): boolean {
    return nowMs < endMs && this.#options.directory.get(rowName)?.revision === revision;
  }

  /** @throws RequestRefused UNAUTHENTICATED when the client's address is outside the key's networks */
  #use(verdict: Verdict, exchange: Exchange, nowMs: number): Principal {
    const { refusals, uses } = this.#options;
    const { principal, networks } = verdict;
    if (networks !== undefined && !isInside(networks, refusals.addressOf(exchange))) {
      refusals.refuse(exchange, "network", principal.id);
    }
    if (nowMs >= verdict.useDueMs) {
      verdict.useDueMs = nowMs + KEY_USE_INTERVAL_MS;
      uses.note(principal.id, nowMs);
    }
    return principal;
  }

  /** @throws RequestRefused UNAVAILABLE: a revocation could have been missed */
  #refuseSilence(): void {
    const { directory, stalenessMaxMs } = this.#options;
    if (directory.isKnown && directory.silenceMs() <= stalenessMaxMs) return;
    const detail = directory.isKnown
      ? "the gateway has not heard from the cluster's directory for too long to trust its keys"
      : "the gateway does not know the cluster's directory yet";
    throw new RequestRefused("UNAVAILABLE", detail);
  }

  /** All that can be refused at once is; the rest takes its place in the line. */
  #begin(credential: string, name: string, exchange: Exchange): Promise<Verdict> {
    const { directory, clock, refusals, byKey, queue } = this.#options;
    const key = parseApiKey(credential);
    if (key === undefined) return refusals.refuse(exchange, "malformed");
    const { id, secret } = key;
    const stored = findKey(directory, id);
    if (stored === undefined) return refusals.refuse(exchange, "unknown", id);
    const nowMs = clock.nowMs();
    const why = whyNotValid(stored.record, nowMs);
    if (why !== undefined) return refusals.refuse(exchange, why, id);
    const hashes = liveSecrets(stored.record, nowMs)
      .filter(({ check }) => passesCheck(check, id, secret))
      .map(({ hash }) => hash);
    if (hashes.length === 0) return refusals.refuse(exchange, "secret", id);
    const waitMs = byKey.waitMs(id);
    if (waitMs > 0) throw tooManyFailures("wrong secrets of this key come too often", waitMs);
    if (!queue.hasRoom) throw tooManyVerifications();
    // Counted before its end is known: else many at once would all find the bucket full.
    byKey.fail(id);
    const run = queue.run(() => this.#verifyFirst(key, hashes));
    if (run === undefined) throw tooManyVerifications();
    const first = run
      .then(
        (verdict) => {
          byKey.forgive(id);
          this.#cache.set(name, verdict);
          return verdict;
        },
        (error: unknown) => {
          if (error !== WRONG) byKey.forgive(id);
          throw error;
        },
      )
      .finally(() => this.#pending.delete(name));
    this.#pending.set(name, first);
    return first;
  }

  async #verifyFirst({ id, secret }: ApiKey, hashes: readonly string[]): Promise<Verdict> {
    let right: string | undefined;
    for (const hash of hashes) {
      if (await this.#options.hasher.verify(hash, secret)) right = hash;
    }
    if (right === undefined) throw WRONG;
    // The directory may have changed, or gone silent, while Argon2 ran: what it says now counts.
    this.#refuseSilence();
    const { directory, clock } = this.#options;
    const stored = findKey(directory, id);
    const nowMs = clock.nowMs();
    const secretNow = stored && liveSecretOf(stored.record, right, nowMs);
    if (stored === undefined || secretNow === undefined) throw WRONG;
    return {
      principal: new KeyBasis(this.#options, stored, right).principal,
      rowName: stored.row.name,
      revision: stored.row.revision,
      endMs: endMsOf(stored.record, secretNow.expiresAtMs),
      networks: networkList(stored.record.networks),
      useDueMs: 0,
    };
  }
}

/** What a first verification ends with; each request that waits for it is answered on its own. */
const WRONG = new Error("the credential is not valid");

/** Undefined when the key is not valid any more, or this secret of it. */
function liveSecretOf(record: ApiKeyRecord, hash: string, nowMs: number) {
  if (whyNotValid(record, nowMs) !== undefined) return undefined;
  return liveSecrets(record, nowMs).find((secret) => secret.hash === hash);
}

const tooManyVerifications = (): RequestRefused =>
  new RequestRefused("OVERLOADED", "too many keys wait for their first verification");
