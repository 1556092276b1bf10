/** The row that tells a group's members as of its applied index; the pump writes it as it applies. */
import { KvError } from "#shared/errors.ts";
import type { GroupId } from "#shared/ids.ts";
import { isPromise, type MaybePromise } from "#shared/maybe-promise.ts";
import type { Engine } from "#storage-node/engine/engine.ts";
import { configurationRowKey } from "#storage-node/engine/layout.ts";
import { decodeConfiguration } from "#storage-node/raft/configuration.ts";
import type { Configuration } from "#storage-node/raft/types.ts";

/**
 * Undefined when no change of membership was ever applied: then the members are those with which the
 * group's log begins. @throws KvError DATA_CORRUPT
 */
export function loadConfiguration(
  group: GroupId,
  source: Pick<Engine, "get">,
): MaybePromise<Configuration | undefined> {
  const row = source.get(configurationRowKey(group));
  return isPromise(row) ? row.then((found) => decoded(group, found)) : decoded(group, row);
}

function decoded(group: GroupId, row: Uint8Array | undefined): Configuration | undefined {
  if (row === undefined) return undefined;
  try {
    return decodeConfiguration(row);
  } catch (cause) {
    throw new KvError("DATA_CORRUPT", `the configuration row of group ${group} does not decode`, {
      cause,
    });
  }
}
