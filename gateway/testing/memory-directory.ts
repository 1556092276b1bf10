/** A directory in memory, alone in its cluster. Used by tests only. */
import type {
  Directory,
  DirectoryListener,
  DirectoryMutation,
  DirectoryRow,
  TenantDemand,
  TenantShare,
  TenantUsage,
} from "#gateway/directory/directory.ts";
import { KvError } from "#shared/errors.ts";
import {
  DIRECTORY_MUTATIONS_MAX,
  DIRECTORY_NAME_SIZE_BYTES_MAX,
  DIRECTORY_VALUE_SIZE_BYTES_MAX,
} from "#shared/limits.ts";

const NO_USAGE: TenantUsage = { bytes: 0, objects: 0 };
const WHOLE: TenantShare = { requests: 1, bytes: 1 };

export class MemoryDirectory implements Directory {
  isKnown = true;
  /** What `silenceMs` says. */
  silence = 0;
  usageVersion = 1;
  gateways = 1;
  /** Thrown by each change while set. */
  failure: unknown;
  readonly usage = new Map<number, TenantUsage>();
  readonly shares = new Map<number, TenantShare>();
  demand: () => ReadonlyMap<number, TenantDemand> = () => new Map();
  readonly #rows = new Map<string, DirectoryRow>();
  readonly #listeners = new Set<{ prefix: string; listener: DirectoryListener }>();
  #revision = 0;

  silenceMs(): number {
    return this.silence;
  }

  get(name: string): DirectoryRow | undefined {
    return this.#rows.get(name);
  }

  list(prefix: string): readonly DirectoryRow[] {
    return [...this.#rows.values()]
      .filter(({ name }) => name.startsWith(prefix))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  subscribe(prefix: string, listener: DirectoryListener): () => void {
    const entry = { prefix, listener };
    this.#listeners.add(entry);
    return () => this.#listeners.delete(entry);
  }

  async change(mutations: readonly DirectoryMutation[]): Promise<boolean> {
    if (this.failure !== undefined) throw this.failure;
    const fault = faultOf(mutations);
    if (fault !== undefined) throw new KvError("INVALID_ARGUMENT", fault);
    const isAsExpected = ({ name, expectedRevision }: DirectoryMutation) =>
      expectedRevision === undefined || (this.get(name)?.revision ?? 0) === expectedRevision;
    if (!mutations.every(isAsExpected)) return false;
    for (const { name, value } of mutations) {
      const revision = ++this.#revision;
      if (value === undefined) this.#rows.delete(name);
      else this.#rows.set(name, { name, value, revision });
      for (const { prefix, listener } of [...this.#listeners]) {
        if (name.startsWith(prefix)) listener(name, this.#rows.get(name));
      }
    }
    return true;
  }

  usageOf(tenantId: number): TenantUsage {
    return this.usage.get(tenantId) ?? NO_USAGE;
  }

  shareOf(tenantId: number): TenantShare {
    return this.shares.get(tenantId) ?? WHOLE;
  }

  demandSource(source: () => ReadonlyMap<number, TenantDemand>): void {
    this.demand = source;
  }
}

/** As storage nodes refuse a change before they look at any row. */
function faultOf(mutations: readonly DirectoryMutation[]): string | undefined {
  if (mutations.length < 1 || mutations.length > DIRECTORY_MUTATIONS_MAX) {
    return `${mutations.length} rows in one change`;
  }
  const names = new Set(mutations.map(({ name }) => name));
  if (names.size < mutations.length) return "a row is named twice";
  for (const { name, value } of mutations) {
    if (!/^[\x20-\x7e]+$/.test(name) || name.length > DIRECTORY_NAME_SIZE_BYTES_MAX) return name;
    if ((value?.length ?? 0) > DIRECTORY_VALUE_SIZE_BYTES_MAX) return `${name} is too large`;
  }
  return undefined;
}
