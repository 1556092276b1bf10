/** Throwaway certificates: an authority, and what it signs for addresses. */
import { createAuthority as create, type Validity } from "#bin/certs/x509.ts";
import type { TlsMaterial } from "#shared/runtime/grpc-credentials.ts";

export type Authority = {
  readonly ca: Buffer;
  /** A certificate for the address, such as "127.0.0.1", with its key and the authority's own. */
  issue(address: string, validity?: Validity): TlsMaterial;
};

export function createAuthority(name: string): Authority {
  const authority = create(name);
  return {
    ca: authority.ca,
    issue: (address, validity) => authority.issue(`node ${address}`, [address], validity),
  };
}
