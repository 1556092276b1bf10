/**
 * `/admin/encryption` and the rotation of keys, for administrators of the cluster. Nothing here shows a
 * key, wrapped or not.
 */
import { bodyOf, queryOf, refuseWebPages } from "#gateway/admin/requests.ts";
import type { Directory, DirectoryRow } from "#gateway/directory/directory.ts";
import type { Answer } from "#gateway/http/exchange.ts";
import {
  jsonAnswer,
  type ManagedMethod,
  type ManagedRequest,
  type ManagedRoute,
} from "#gateway/http/managed-route.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import { parseTimeoutMs } from "#gateway/http/timeout.ts";
import { JOB_ROWS, jobRecordOf, newJob } from "#gateway/jobs/job.ts";
import type { Tenants } from "#gateway/tenants/registry.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import type { TenantId } from "#shared/ids.ts";
import { UNREADABLE_KEYS_LISTED_MAX } from "#shared/limits-codec.ts";
import type { Random } from "#shared/random.ts";
import {
  currentNumberOf,
  DATA_KEY_ROWS,
  dataKeyRowName,
  newDataKey,
  parseDataKeyRowName,
} from "./data-key-rows.ts";
import { isDamaged, surveyDataKeys } from "./key-survey.ts";
import type { MasterKeys } from "./master-keys.ts";
import { rewrapAll } from "./master-rotation.ts";
import { decodeResealing, newResealing, RESEAL_JOBS, resealJobName } from "./reseal-job.ts";

export type EncryptionRouteParts = {
  readonly directory: Directory;
  readonly tenants: Pick<Tenants, "byName" | "get">;
  readonly masterKeys: MasterKeys | undefined;
  /** 0 when nothing is compressed. */
  readonly compressAboveBytes: number;
  readonly clock: Clock;
  readonly random: Random;
};

type Change = (request: ManagedRequest, deadlineMs: number) => Promise<Answer>;

export function encryptionRoutes(parts: EncryptionRouteParts): readonly ManagedRoute[] {
  const routes = new EncryptionRoutes(parts);
  const change = (run: Change): ManagedMethod => ({
    access: "cluster.change",
    run: (request) => routes.change(request, run),
  });
  return [
    {
      path: "/admin/encryption",
      methods: new Map([["GET", { access: "cluster.read", run: routes.status }]]),
    },
    {
      path: "/admin/encryption/rotate-master",
      methods: new Map([["POST", change(routes.rotateMaster)]]),
    },
    {
      path: "/admin/tenants/:name/rotate-key",
      methods: new Map([["POST", change(routes.rotateKey)]]),
    },
  ];
}

class EncryptionRoutes {
  readonly #parts: EncryptionRouteParts;

  constructor(parts: EncryptionRouteParts) {
    this.#parts = parts;
  }

  async change(request: ManagedRequest, run: Change): Promise<Answer> {
    const { exchange } = request;
    refuseWebPages(exchange);
    queryOf(exchange, []);
    const timeoutMs = parseTimeoutMs(exchange);
    await bodyOf(exchange, []);
    return await run(request, this.#parts.clock.nowMs() + timeoutMs);
  }

  readonly status = async ({ exchange }: ManagedRequest): Promise<Answer> => {
    queryOf(exchange, []);
    this.#assertKnown();
    const { directory, masterKeys, compressAboveBytes } = this.#parts;
    const rows = directory.list(DATA_KEY_ROWS);
    const { byMasterKey, unreadable } = await surveyDataKeys(rows, masterKeys);
    return jsonAnswer(exchange, {
      encrypts: masterKeys !== undefined,
      compresses_above: compressAboveBytes === 0 ? null : compressAboveBytes,
      master_key: masterKeys?.currentId ?? null,
      data_keys: rows.length,
      wrapped_with: [...byMasterKey].map(([id, dataKeys]) => ({
        ...{ master_key: id, data_keys: dataKeys, known_here: masterKeys?.has(id) ?? false },
      })),
      data_keys_unreadable: unreadable.length,
      unreadable: unreadable.slice(0, UNREADABLE_KEYS_LISTED_MAX).map(({ row, reason }) => {
        const address = parseDataKeyRowName(row);
        const tenant = address && this.#parts.tenants.get(address.tenant)?.name;
        return { row, tenant: tenant ?? null, data_key: address?.number ?? null, reason };
      }),
      rotations: directory.list(RESEAL_JOBS).map((row) => this.#rotationJson(row)),
    });
  };

  readonly rotateMaster: Change = async ({ exchange }, deadlineMs) => {
    const { directory, random } = this.#parts;
    const masterKeys = this.#masterKeys();
    const parts = { directory, masterKeys, random };
    const { rewrapped, unreadable } = await rewrapAll(parts, deadlineMs);
    return jsonAnswer(exchange, {
      ...{ master_key: masterKeys.currentId, rewrapped, keys_unreadable: unreadable.length },
      unreadable: unreadable.slice(0, UNREADABLE_KEYS_LISTED_MAX),
    });
  };

  readonly rotateKey: Change = async ({ exchange, parameter }, deadlineMs) => {
    const { directory, clock, random } = this.#parts;
    const masterKeys = this.#masterKeys();
    const tenant = this.#tenant(parameter("name"));
    const current = currentNumberOf(directory, tenant);
    const currentRow = directory.get(dataKeyRowName(tenant, current));
    const isUnderWay = () => directory.get(JOB_ROWS + resealJobName(tenant)) !== undefined;
    // Nothing can be brought under a damaged key: a rotation to one goes on with the next key.
    const isStuck = isUnderWay() && currentRow !== undefined && isDamaged(currentRow, masterKeys);
    const number = current + 1;
    const job = newJob(resealJobName(tenant), newResealing(number), clock.nowMs());
    const isMade = await directory.change(
      [newDataKey({ tenant, number }, { masterKeys, random, clock }), ...(isStuck ? [] : [job])],
      { deadlineMs },
    );
    if (!isMade && !isStuck && isUnderWay()) {
      const detail = "a rotation of this tenant's key is under way; GET /admin/encryption shows it";
      throw new RequestRefused("ALREADY_EXISTS", detail);
    }
    if (!isMade) {
      const detail = "the tenant has got a data key at the same time, try again";
      throw new RequestRefused("CONFLICT", detail);
    }
    return jsonAnswer(exchange, { tenant: parameter("name"), data_key: number }, 202);
  };

  #rotationJson(row: DirectoryRow) {
    const id = Number.parseInt(row.name.slice(RESEAL_JOBS.length), 16) as TenantId;
    const tenant = this.#parts.tenants.get(id)?.name ?? null;
    const rotation = rotationOf(row);
    if (rotation === undefined) {
      const nothing = { examined: 0, resealed: 0, unreadable: 0, started_at: null };
      return { tenant, data_key: null, phase: "unreadable", ...nothing, wait_seconds: 0 };
    }
    const { number, phase, isLast, examined, resealed, unreadable, waitMs, startedAt } = rotation;
    return {
      tenant,
      data_key: number,
      phase: phase === "waiting" ? "waiting" : isLast ? "checking" : "resealing",
      ...{ examined, resealed, unreadable, started_at: startedAt },
      wait_seconds: Math.ceil(waitMs / 1000),
    };
  }

  #tenant(name: string): TenantId {
    const tenant = this.#parts.tenants.byName(name);
    if (tenant !== undefined && tenant.state !== "deleting") return tenant.id;
    throw new RequestRefused("RESOURCE_NOT_FOUND", "there is no tenant of this name");
  }

  #masterKeys(): MasterKeys {
    this.#assertKnown();
    if (this.#parts.masterKeys !== undefined) return this.#parts.masterKeys;
    throw new RequestRefused("ENCRYPTION_KEY_MISSING", "this gateway has no master key");
  }

  #assertKnown(): void {
    if (this.#parts.directory.isKnown) return;
    throw new KvError("UNAVAILABLE", "the directory is not known yet", { outcome: "not_applied" });
  }
}

/** Undefined when it cannot be read, which hides no other. */
function rotationOf(row: DirectoryRow) {
  const record = jobRecordOf(row);
  if (record === undefined) return undefined;
  try {
    const startedAt = new Date(Number(record.startedAtMs)).toISOString();
    return { ...decodeResealing(record.progress), startedAt };
  } catch {
    return undefined;
  }
}
