/** Compression and encryption of a gateway, put together. */
import type { Directory } from "#gateway/directory/directory.ts";
import type { ManagedRoute } from "#gateway/http/managed-route.ts";
import type { JobKind } from "#gateway/jobs/job.ts";
import type { ResealableStorage, Storage } from "#gateway/storage/storage.ts";
import type { Tenants } from "#gateway/tenants/registry.ts";
import type { Clock } from "#shared/clock.ts";
import type { Random } from "#shared/random.ts";
import { DataKeys } from "./data-keys.ts";
import type { MasterKeys } from "./master-keys.ts";
import { ResealJob } from "./reseal-job.ts";
import { encryptionRoutes } from "./routes.ts";
import { SealedStorage } from "./sealed-storage.ts";
import { ValueCodec } from "./value-codec.ts";

export type CodecOptions = {
  /** See `loadMasterKeys`. */
  readonly masterKeys: MasterKeys | undefined;
  readonly compressAbove: number;
  /** Around the storage itself, such as one that counts against quotas. */
  readonly storage: Storage;
  /** Where values are encrypted anew. */
  readonly innermost: ResealableStorage;
  readonly directory: Directory;
  readonly tenants: Pick<Tenants, "byName" | "get">;
  readonly clock: Clock;
  /** The system's: keys come from it. */
  readonly random: Random;
};

export type Codec = {
  /** For routes. Also where nothing is to be compressed or encrypted: what once was still reads. */
  readonly storage: Storage;
  /** Makes what is stored what the client stored. @throws KvError */
  readonly open: ValueCodec["open"];
  readonly routes: readonly ManagedRoute[];
  readonly jobs: readonly JobKind[];
};

export function openCodec(options: CodecOptions): Codec {
  const { masterKeys, storage, innermost, directory, clock, random } = options;
  const compressAboveBytes = options.compressAbove;
  const keys = new DataKeys({ directory, masterKeys, clock, random });
  const codec = new ValueCodec({ keys, compressAboveBytes });
  return {
    storage: new SealedStorage({ storage, codec, keys }),
    open: (ref, stored, deadlineMs) => codec.open(ref, stored, deadlineMs),
    routes: encryptionRoutes({ ...options, compressAboveBytes }),
    jobs: [new ResealJob({ directory, storage: innermost, codec, clock })],
  };
}
