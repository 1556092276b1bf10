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
import { jobRecordOf, newJob } from "#gateway/jobs/job.ts";
import type { Tenants } from "#gateway/tenants/registry.ts";
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { type TenantId, toTenantId } from "#shared/ids.ts";
import type { Random } from "#shared/random.ts";
import { currentNumberOf, DATA_KEY_ROWS, newDataKey, readDataKeyRow } from "./data-key-rows.ts";
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
    const byMasterKey = new Map<string, number>();
    const rows = directory.list(DATA_KEY_ROWS);
    for (const row of rows) {
      const { masterKeyId } = readDataKeyRow(row);
      byMasterKey.set(masterKeyId, (byMasterKey.get(masterKeyId) ?? 0) + 1);
    }
    return jsonAnswer(exchange, {
      encrypts: masterKeys !== undefined,
      compresses_above: compressAboveBytes === 0 ? null : compressAboveBytes,
      master_key: masterKeys?.currentId ?? null,
      data_keys: rows.length,
      wrapped_with: [...byMasterKey].map(([id, dataKeys]) => ({
        ...{ master_key: id, data_keys: dataKeys, known_here: masterKeys?.has(id) ?? false },
      })),
      rotations: directory.list(RESEAL_JOBS).map((row) => this.#rotationJson(row)),
    });
  };

  readonly rotateMaster: Change = async ({ exchange }, deadlineMs) => {
    const { directory, random } = this.#parts;
    const masterKeys = this.#masterKeys();
    const rewrapped = await rewrapAll({ directory, masterKeys, random }, deadlineMs);
    return jsonAnswer(exchange, { master_key: masterKeys.currentId, rewrapped });
  };

  readonly rotateKey: Change = async ({ exchange, parameter }, deadlineMs) => {
    const { directory, clock, random } = this.#parts;
    const masterKeys = this.#masterKeys();
    const tenant = this.#tenant(parameter("name"));
    const number = currentNumberOf(directory, tenant) + 1;
    const isMade = await directory.change(
      [
        newDataKey({ tenant, number }, { masterKeys, random, clock }),
        newJob(resealJobName(tenant), newResealing(number), clock.nowMs()),
      ],
      { deadlineMs },
    );
    if (!isMade) {
      const detail = "a rotation of this tenant's key is under way; GET /admin/encryption shows it";
      throw new RequestRefused("ALREADY_EXISTS", detail);
    }
    return jsonAnswer(exchange, { tenant: parameter("name"), data_key: number }, 202);
  };

  #rotationJson(row: DirectoryRow) {
    const id = toTenantId(Number.parseInt(row.name.slice(RESEAL_JOBS.length), 16));
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
