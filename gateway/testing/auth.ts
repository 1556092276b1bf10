/** Authentication for tests: a directory in memory, tenants and keys made in it, a hash that costs nothing. */
import { create, toBinary } from "@bufbuild/protobuf";
import { type ApiKey, formatApiKey, makeApiKey } from "#gateway/auth/api-key.ts";
import type { Role } from "#gateway/auth/caller.ts";
import {
  encodeKey,
  findKey,
  keyRowName,
  type NewKey,
  newKeyRecord,
} from "#gateway/auth/key-records.ts";
import { type Auth, type AuthOptions, openAuth } from "#gateway/auth/open-auth.ts";
import type { AuthFailure } from "#gateway/auth/refusals.ts";
import { checkOf } from "#gateway/auth/secret-hash.ts";
import type { AuthConfig } from "#gateway/auth/settings.ts";
import type { DirectoryMutation } from "#gateway/directory/directory.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import { Cancellation } from "#gateway/storage/cancellation.ts";
import { TenantRegistry } from "#gateway/tenants/registry.ts";
import {
  type ApiKeyRecord,
  TenantRecordSchema,
  TenantState,
} from "#proto/gen/minikv/v1/directory_pb.ts";
import { ManualClock } from "#shared/clock.ts";
import { DEFAULT_TENANT, type TenantId, toTenantId } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import { createLogger } from "#shared/runtime/log.ts";
import { MemoryDirectory } from "./memory-directory.ts";

/** The hash of a secret is the secret: Argon2 has its own tests. */
export const plainHasher = {
  hash: (id: string, secret: string) =>
    Promise.resolve({ hash: `plain:${secret}`, check: checkOf(id, secret) }),
  verify: (hash: string, secret: string) => Promise.resolve(hash === `plain:${secret}`),
};

/** The first gateway makes the root key. */
export const AUTH_CONFIG: AuthConfig = {
  auth: "required",
  rootKey: "",
  rootKeyFile: "",
  authStalenessMaxMs: 60_000,
};

/** Of the settings, by default. */
export const ROOT_KEY = formatApiKey(makeApiKey(new SeededRandom(99)));

export class TestAuth {
  readonly clock: ManualClock;
  readonly directory: MemoryDirectory;
  readonly random = new SeededRandom(7);
  readonly failures: AuthFailure[] = [];
  /** What was shown to the operator. */
  readonly shown: string[] = [];
  readonly tenants: TenantRegistry;
  readonly auth: Auth;

  constructor(
    options: Partial<AuthOptions> & {
      readonly clock?: ManualClock;
      readonly directory?: MemoryDirectory;
    } = {},
  ) {
    this.clock = options.clock ?? new ManualClock();
    this.directory = options.directory ?? new MemoryDirectory();
    this.tenants = new TenantRegistry(this.directory);
    this.auth = openAuth({
      config: { ...AUTH_CONFIG, rootKey: ROOT_KEY },
      listen: { host: "127.0.0.1", port: 0 },
      random: this.random,
      logger: createLogger({ level: "fatal", program: "test" }),
      hasher: plainHasher,
      onFailure: (failure) => this.failures.push(failure),
      show: (text) => this.shown.push(text),
      ...options,
      clock: this.clock,
      directory: this.directory,
      tenants: this.tenants,
    });
    this.auth.start();
  }

  async addTenant(
    id: number,
    name: string,
    state: TenantState = TenantState.ACTIVE,
  ): Promise<TenantId> {
    const record = create(TenantRecordSchema, { id, name, state });
    const row = `tenant/${id.toString(16).padStart(8, "0")}`;
    await this.directory.change([{ name: row, value: toBinary(TenantRecordSchema, record) }]);
    return toTenantId(id);
  }

  /** The text of a key with the secret of another one. */
  withSecretOf({ id }: ApiKey, { secret }: ApiKey): string {
    return formatApiKey({ id, secret });
  }

  changeKey(id: string, edit: (record: ApiKeyRecord) => unknown): Promise<void> {
    return this.changeKeyWith((mutations) => this.directory.change(mutations), id, edit);
  }

  async changeKeyWith(
    change: (mutations: readonly DirectoryMutation[]) => Promise<unknown>,
    id: string,
    edit: (record: ApiKeyRecord) => unknown,
  ): Promise<void> {
    const { row, record } = findKey(this.directory, id)!;
    edit(record);
    await change([{ name: row.name, value: encodeKey(record) }]);
  }

  /** A key in the directory, as text and in its parts. */
  async addKey(
    role: Role,
    more: Partial<NewKey> = {},
  ): Promise<ApiKey & { readonly text: string }> {
    const key = makeApiKey(this.random);
    const record = newKeyRecord({
      id: key.id,
      secret: await plainHasher.hash(key.id, key.secret),
      tenant: DEFAULT_TENANT,
      role,
      name: "test",
      expiresAtMs: 0,
      prefixes: [],
      networks: [],
      createdAtMs: this.clock.nowMs(),
      ...more,
    });
    await this.directory.change([{ name: keyRowName(key.id), value: encodeKey(record) }]);
    return { ...key, text: formatApiKey(key) };
  }
}

/** A request that brings only headers. */
export function exchangeWith(
  headers: Readonly<Record<string, string>>,
  peerAddress = "192.0.2.1",
): Exchange {
  return {
    method: "GET",
    target: "/v1/kv/a",
    requestId: "r-1",
    peerAddress,
    cancellation: new Cancellation(),
    isBodyUnannounced: false,
    header: (name) => headers[name],
    readBody: () => Promise.resolve(new Uint8Array(0)),
  };
}

export const bearer = (key: { readonly text: string } | string) => ({
  authorization: `Bearer ${typeof key === "string" ? key : key.text}`,
});
