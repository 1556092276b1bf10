/** Tokens for tests: an API key in a directory in memory, and gateways that issue and verify. */
import { create, toBinary } from "@bufbuild/protobuf";
import type { Caller, Role } from "#gateway/auth/caller.ts";
import { FailureThrottle } from "#gateway/auth/failure-throttle.ts";
import type { ForeignIssuer } from "#gateway/auth/foreign-issuer.ts";
import {
  encodeKey,
  findKey,
  keyRowName,
  newKeyRecord,
  principalOf,
} from "#gateway/auth/key-records.ts";
import { type AuthFailure, Refusals } from "#gateway/auth/refusals.ts";
import { SigningKeys } from "#gateway/auth/signing-keys.ts";
import { TokenIssuer } from "#gateway/auth/token-issuer.ts";
import { TokenVerifier } from "#gateway/auth/token-verifier.ts";
import type { KeyWrapper } from "#gateway/codec/master-keys.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import { Cancellation } from "#gateway/storage/cancellation.ts";
import { TenantRegistry } from "#gateway/tenants/registry.ts";
import { TenantRecordSchema, TenantState } from "#proto/gen/minikv/v1/directory_pb.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import type { ManualClock } from "#shared/clock.ts";
import { DEFAULT_TENANT, type TenantId } from "#shared/ids.ts";
import { SeededRandom } from "#shared/random.ts";
import type { MemoryDirectory } from "./memory-directory.ts";

export const TEST_ISSUER = "https://kv.example";
export const TEST_AUDIENCE = "minikv";
const DAY_MS = 86_400_000;

export type TokenGateway = {
  readonly signingKeys: SigningKeys;
  readonly issuer: TokenIssuer;
  readonly verifier: TokenVerifier;
  /** Refusals that were told to the operator. */
  readonly failures: AuthFailure[];
};

export type TokenGatewayOptions = {
  readonly directory: MemoryDirectory;
  readonly clock: ManualClock;
  readonly wrapper?: KeyWrapper;
  readonly foreign?: readonly ForeignIssuer[];
  readonly failuresMax?: number;
};

export function tokenGateway(options: TokenGatewayOptions): TokenGateway {
  const { directory, clock, wrapper, foreign = [], failuresMax = 1e6 } = options;
  const failures: AuthFailure[] = [];
  const signingKeys = new SigningKeys({ directory, clock, rotationMs: 7 * DAY_MS, wrapper });
  const names = { issuer: TEST_ISSUER, audience: TEST_AUDIENCE };
  const common = { directory, clock, random: new SeededRandom(3), signingKeys, ...names };
  const refusals = new Refusals({
    byAddress: new FailureThrottle({
      ...{ clock, perSecond: 1, trackedMax: 100, burst: failuresMax },
    }),
    addressOf: ({ peerAddress }) => peerAddress,
    report: (failure) => failures.push(failure),
  });
  const verifier = new TokenVerifier({
    ...{ ...common, refusals, stalenessMaxMs: 60_000 },
    tenants: new TenantRegistry(directory),
    foreign: new Map(foreign.map((issuer) => [issuer.rules.url, issuer])),
  });
  return {
    signingKeys,
    issuer: new TokenIssuer({ ...common, ttlMs: 900_000 }),
    verifier,
    failures,
  };
}

export type TestKey = {
  readonly id?: string;
  readonly role?: Role;
  readonly tenant?: TenantId;
  readonly prefixes?: readonly Uint8Array[];
  readonly networks?: readonly string[];
  readonly expiresAtMs?: number;
};

export const TEST_KEY_ID = "0123456789abcdef";

/** Writes an API key's row, and returns who shows the key. */
export async function testKey(directory: MemoryDirectory, key: TestKey = {}): Promise<Caller> {
  const { id = TEST_KEY_ID, role = "ReadWrite", tenant = DEFAULT_TENANT } = key;
  const { prefixes = [], networks = [], expiresAtMs = 0 } = key;
  const record = newKeyRecord({
    ...{ id, role, tenant, prefixes, networks, expiresAtMs },
    secret: { hash: "none", check: EMPTY_BYTES },
    name: "of a test",
    createdAtMs: 1,
  });
  await directory.change([{ name: keyRowName(id), value: encodeKey(record) }]);
  const principal = principalOf(findKey(directory, id)!);
  return { principal, tenant: principal.tenant, answerHeaders: [] };
}

export async function testTenant(
  directory: MemoryDirectory,
  tenant: { readonly id: number; readonly name: string; readonly state?: TenantState },
): Promise<void> {
  const { id, name, state = TenantState.ACTIVE } = tenant;
  const value = toBinary(TenantRecordSchema, create(TenantRecordSchema, { id, name, state }));
  await directory.change([{ name: `tenant/${id.toString(16).padStart(8, "0")}`, value }]);
}

/** A request of which only the address matters. */
export const testExchange = (peerAddress = "192.0.2.1"): Exchange => ({
  method: "GET",
  target: "/v1/limits",
  requestId: "r",
  peerAddress,
  cancellation: new Cancellation(),
  isBodyUnannounced: false,
  header: () => undefined,
  readBody: () => Promise.resolve(EMPTY_BYTES),
});
