/** Routes about encryption over a directory in memory. Used by tests only. */
import { masterKeyLine, parseMasterKeys } from "#gateway/codec/master-keys.ts";
import { encryptionRoutes } from "#gateway/codec/routes.ts";
import type { Directory } from "#gateway/directory/directory.ts";
import type { ManagedRoute } from "#gateway/http/managed-route.ts";
import { TenantRegistry } from "#gateway/tenants/registry.ts";
import type { Clock } from "#shared/clock.ts";
import { SeededRandom } from "#shared/random.ts";

export const testEncryptionRoutes = (directory: Directory, clock: Clock): readonly ManagedRoute[] =>
  encryptionRoutes({
    ...{ directory, clock, random: new SeededRandom(3), compressAboveBytes: 512 },
    tenants: new TenantRegistry(directory),
    masterKeys: parseMasterKeys(masterKeyLine(new SeededRandom(4))),
  });
