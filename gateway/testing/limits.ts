/** Tenants, exchanges and callers for tests of rates and quotas. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { Caller } from "#gateway/auth/caller.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import { Cancellation } from "#gateway/storage/cancellation.ts";
import { tenantRowName } from "#gateway/tenants/registry.ts";
import { TenantRecordSchema, TenantState } from "#proto/gen/minikv/v1/directory_pb.ts";
import { EMPTY_BYTES } from "#shared/bytes.ts";
import { DEFAULT_TENANT, toTenantId } from "#shared/ids.ts";
import type { MemoryDirectory } from "./memory-directory.ts";

type TenantInit = MessageInitShape<typeof TenantRecordSchema>;

/** Puts the tenant's row into the directory: active, unless `more` says otherwise. */
export async function putTenant(
  directory: MemoryDirectory,
  id: number,
  more: TenantInit = {},
): Promise<void> {
  const name = id === DEFAULT_TENANT ? "default" : `tenant-${id}`;
  const record = create(TenantRecordSchema, { id, name, state: TenantState.ACTIVE, ...more });
  await directory.change([
    { name: tenantRowName(id), value: toBinary(TenantRecordSchema, record) },
  ]);
}

export function exchangeWith(
  headers: Readonly<Record<string, string>> = {},
  peerAddress = "192.0.2.1",
): Exchange {
  return {
    method: "PUT",
    target: "/v1/kv/a",
    requestId: "r",
    peerAddress,
    cancellation: new Cancellation(),
    isBodyUnannounced: headers["transfer-encoding"] !== undefined,
    header: (name) => headers[name],
    readBody: () => Promise.resolve(EMPTY_BYTES),
  };
}

export function callerOf(tenant: number): Caller {
  const id = toTenantId(tenant);
  const principal = { kind: "key", id: "k", tenant: id, role: "ReadWrite", prefixes: [] } as const;
  return { principal, tenant: id, answerHeaders: [] };
}
