/**
 * The credential that a cluster begins with: of its administrator, with the right to do everything.
 *
 * With `root-key` or `root-key-file` in the settings the operator has made it, and no row knows it.
 * Otherwise the first gateway that finds none makes one and shows it once. Row `root` may only be made
 * where there is none, so of two gateways that start at the same time one makes it and one shows it.
 */
import { readFileSync } from "node:fs";
import type { Directory } from "#gateway/directory/directory.ts";
import type { Clock } from "#shared/clock.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { DEADLINE_MS_DEFAULT, ROOT_KEY_POLL_MS } from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import { ConfigError } from "#shared/runtime/config.ts";
import { formatApiKey, makeApiKey, parseApiKey } from "./api-key.ts";
import { encodeKey, newKeyRecord, ROOT_ROW, storedKeyOf } from "./key-records.ts";
import type { SecretHasher } from "./secret-hash.ts";
import type { AuthConfig } from "./settings.ts";

/** Longer files hold no key: so much is not read to find out. */
const FILE_LENGTH_MAX = 256;

/**
 * The root key of the settings.
 *
 * @throws ConfigError when the file cannot be read, or holds no key. Says nothing of what it holds.
 */
export function configuredRootKey(
  { rootKey, rootKeyFile }: Pick<AuthConfig, "rootKey" | "rootKeyFile">,
  readFile: (path: string) => string = (path) => readFileSync(path, "latin1"),
): string | undefined {
  if (rootKey === "" && rootKeyFile === "") return undefined;
  const place = rootKey === "" ? `root-key-file (${rootKeyFile})` : "root-key";
  let text = rootKey;
  if (rootKey === "") {
    try {
      text = readFile(rootKeyFile);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new ConfigError(`${place} cannot be read: ${reason}`, { cause });
    }
  }
  const key = text.length > FILE_LENGTH_MAX ? "" : text.trim();
  if (parseApiKey(key) !== undefined) return key;
  throw new ConfigError(`${place} is no API key, or has a typing error; minikv root-key makes one`);
}

export type RootKeyMakerOptions = {
  readonly directory: Directory;
  readonly clock: Clock;
  readonly random: Random;
  readonly hasher: SecretHasher;
  /** Shows the new key, this once. Not the log: that is kept, and sent elsewhere. */
  readonly show: (key: string) => void;
  readonly onTrouble: (error: unknown) => void;
};

/** Makes the first root key as soon as the directory is known and has none. */
export class RootKeyMaker {
  readonly #options: RootKeyMakerOptions;
  #cancelTimer: (() => void) | undefined;
  #isClosed = false;
  #looking: Promise<void> | undefined;
  #made: { readonly id: string; readonly text: string; readonly value: Uint8Array } | undefined;
  #hasReported = false;

  constructor(options: RootKeyMakerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#looking = this.#look();
  }

  /** Resolves when the attempt under way has ended: what it has made is shown, or was not made. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelTimer?.();
    await this.#looking;
  }

  /** Never rejects. */
  async #look(): Promise<void> {
    const { directory, clock, onTrouble } = this.#options;
    try {
      if (directory.isKnown && (await this.#makeOnce())) return;
    } catch (error) {
      if (!this.#hasReported) onTrouble(error);
      this.#hasReported = true;
    }
    if (this.#isClosed) return;
    this.#cancelTimer = clock.after(ROOT_KEY_POLL_MS, () => this.start());
  }

  /** Whether there is a root key now. The same key at each attempt: an answer may have been lost. */
  async #makeOnce(): Promise<boolean> {
    const { directory, clock, show } = this.#options;
    if (directory.get(ROOT_ROW) === undefined) {
      const { value } = (this.#made ??= await this.#make());
      const mutation = { name: ROOT_ROW, value, expectedRevision: 0 };
      await directory.change([mutation], { deadlineMs: clock.nowMs() + DEADLINE_MS_DEFAULT });
    }
    const row = directory.get(ROOT_ROW);
    if (row === undefined) return false;
    const made = this.#made;
    if (made !== undefined && storedKeyOf(row)?.record.id === made.id) show(made.text);
    this.#made = undefined;
    return true;
  }

  async #make() {
    const { clock, random, hasher } = this.#options;
    const key = makeApiKey(random);
    const record = newKeyRecord({
      id: key.id,
      secret: await hasher.hash(key.id, key.secret),
      tenant: DEFAULT_TENANT,
      role: "ClusterAdmin",
      name: "root",
      expiresAtMs: 0,
      prefixes: [],
      networks: [],
      createdAtMs: clock.nowMs(),
    });
    return { id: key.id, text: formatApiKey(key), value: encodeKey(record) };
  }
}
