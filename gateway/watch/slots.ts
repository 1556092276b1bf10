/** So many at a time; the others wait in line, of which each tenant has its own: they are served in turn. */
import type { TenantId } from "#shared/ids.ts";

export class Slots {
  #free: number;
  /** Only tenants with somebody in line; the next one to be served first. */
  readonly #lines = new Map<TenantId, (() => void)[]>();

  constructor(count: number) {
    this.#free = count;
  }

  take(tenant: TenantId): Promise<void> | undefined {
    if (this.#free > 0) {
      this.#free--;
      return undefined;
    }
    return new Promise((resolve) => {
      const line = this.#lines.get(tenant);
      if (line === undefined) this.#lines.set(tenant, [resolve]);
      else line.push(resolve);
    });
  }

  give(): void {
    for (const [tenant, line] of this.#lines) {
      const next = line.shift()!;
      // To the end.
      this.#lines.delete(tenant);
      if (line.length > 0) this.#lines.set(tenant, line);
      next();
      return;
    }
    this.#free++;
  }
}
