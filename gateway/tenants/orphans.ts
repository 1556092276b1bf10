/**
 * Removes rows of the directory whose owner is gone: data keys and API keys of tenants that were deleted, and
 * times of use of API keys that were.
 *
 * The job that deletes a tenant removes what it finds, but a change may come behind its last look: the first data
 * key of a tenant, made for a write or a reseal that was in flight; a key that was made while the deletion was asked
 * for; a time of use, written without a condition. The meta group also applies a change, if late, after its asker's
 * deadline. Such rows let nobody in and open nothing, but nobody would ever remove them.
 *
 * **Why nothing is removed that is needed.** Rows are those of one revision of the directory, if an old one. An id is
 * given once, by the change that makes the tenant's row and moves `tenant-next` beyond it, and whatever names the
 * id came after that. So a row that names an id below `tenant-next` without a row was left behind, and no tenant will
 * have that id again. Only the revision that was seen is removed; all gateways may look, and one succeeds.
 */
import { fromBinary } from "@bufbuild/protobuf";
import type { Directory, DirectoryMutation, DirectoryRow } from "#gateway/directory/directory.ts";
import { ApiKeyRecordSchema, TenantRecordSchema } from "#proto/gen/minikv/v1/directory_pb.ts";
import type { Clock } from "#shared/clock.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import {
  DEADLINE_MS_DEFAULT,
  ORPHANS_LOOK_INTERVAL_MS,
  TENANT_DELETION_ROWS_PER_STEP,
} from "#shared/limits.ts";
import type { Random } from "#shared/random.ts";
import type { Logger } from "#shared/runtime/log.ts";
import { tenantRowName } from "./registry.ts";
import { NEXT_TENANT_ROW } from "./tenant-changes.ts";

export type OrphanSweepOptions = {
  readonly directory: Directory;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Pick<Logger, "info" | "warn">;
};

const DATA_KEY = /^data-key\/([0-9a-f]{8})\//;
const KEY_ROWS = "key/";
const KEY_USE_ROWS = "key-use/";
const ROOT_ROW = "root";

/** Rows that nobody owns, at most so many that one change can remove them. Pure. */
export function orphansIn(directory: Pick<Directory, "get" | "list">): readonly DirectoryRow[] {
  const next = idIn(directory.get(NEXT_TENANT_ROW));
  const isGone = (id: number | undefined): boolean =>
    id !== undefined &&
    id !== DEFAULT_TENANT &&
    next !== undefined &&
    id < next &&
    directory.get(tenantRowName(id)) === undefined;
  const orphans = [
    ...directory.list("data-key/").filter(({ name }) => isGone(tenantOfDataKey(name))),
    ...directory.list(KEY_ROWS).filter((row) => isGone(tenantOfKey(row)?.tenant)),
    ...directory.list(KEY_USE_ROWS).filter(({ name }) => isUseOfNobody(directory, name)),
  ];
  return orphans.slice(0, TENANT_DELETION_ROWS_PER_STEP);
}

function isUseOfNobody(directory: Pick<Directory, "get">, name: string): boolean {
  const id = name.slice(KEY_USE_ROWS.length);
  if (directory.get(KEY_ROWS + id) !== undefined) return false;
  const root = directory.get(ROOT_ROW);
  // A root key that this version cannot read may be the one.
  return root === undefined || (tenantOfKey(root)?.id ?? id) !== id;
}

function tenantOfDataKey(name: string): number | undefined {
  const hex = DATA_KEY.exec(name)?.[1];
  return hex === undefined ? undefined : Number.parseInt(hex, 16);
}

/** Undefined for a row that cannot be read: it is nobody's to remove. */
function tenantOfKey({ value }: DirectoryRow) {
  try {
    const { id, tenantId } = fromBinary(ApiKeyRecordSchema, value);
    return { id, tenant: tenantId || DEFAULT_TENANT };
  } catch {
    return undefined;
  }
}

function idIn(row: DirectoryRow | undefined): number | undefined {
  if (row === undefined) return undefined;
  try {
    return fromBinary(TenantRecordSchema, row.value).id;
  } catch {
    return undefined;
  }
}

/** Looks from time to time, which costs a pass over the names in memory. */
export class OrphanSweep {
  readonly #options: OrphanSweepOptions;
  #cancel: (() => void) | undefined;

  constructor(options: OrphanSweepOptions) {
    this.#options = options;
    this.#lookLater();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = () => undefined;
  }

  #lookLater(): void {
    const { clock, random } = this.#options;
    // Jittered, so that gateways do not all find the same.
    const delayMs = ORPHANS_LOOK_INTERVAL_MS / 2 + random.below(ORPHANS_LOOK_INTERVAL_MS);
    const cancel = clock.after(delayMs, () => {
      void this.#look().finally(() => {
        if (this.#cancel === cancel) this.#lookLater();
      });
    });
    this.#cancel = cancel;
  }

  /** Never rejects. */
  async #look(): Promise<void> {
    const { directory, clock, logger } = this.#options;
    try {
      const orphans = directory.isKnown ? orphansIn(directory) : [];
      if (orphans.length === 0) return;
      const mutations = orphans.map(
        ({ name, revision }): DirectoryMutation => ({
          ...{ name, value: undefined, expectedRevision: revision },
        }),
      );
      const deadlineMs = clock.nowMs() + DEADLINE_MS_DEFAULT;
      if (!(await directory.change(mutations, { deadlineMs }))) return;
      const rows = orphans.map(({ name }) => name);
      logger.info({ rows }, "rows of the directory were removed whose owner is gone");
    } catch (err) {
      logger.warn({ err }, "rows of the directory whose owner is gone are not removed yet");
    }
  }
}
