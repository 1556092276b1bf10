/** Settings of change logs, of a storage node and of the all-in-one. */
import {
  CHANGE_LOG_AGE_MS_DEFAULT,
  CHANGE_LOG_AGE_MS_MIN,
  CHANGE_LOG_REVISIONS_KEPT,
  CHANGE_LOG_REVISIONS_MIN,
  CHANGE_LOG_SIZE_BYTES_DEFAULT,
  CHANGE_LOG_SIZE_BYTES_MIN,
} from "#shared/limits.ts";
import type { ChangeLogRetention } from "#storage-node/machine/journal-trim.ts";

export const changeLogSettings = {
  changeLogRevisions: {
    key: "change-log-revisions",
    type: "int",
    min: CHANGE_LOG_REVISIONS_MIN,
    max: 2 ** 40,
    default: CHANGE_LOG_REVISIONS_KEPT,
    description: "Newest changes of each vshard that can be watched from; older ones are dropped.",
  },
  changeLogAgeMs: {
    key: "change-log-age",
    type: "duration",
    min: CHANGE_LOG_AGE_MS_MIN,
    max: 10 * 365 * 24 * 3_600_000,
    default: CHANGE_LOG_AGE_MS_DEFAULT,
    description: "Changes that are older are dropped, also when there are fewer.",
  },
  changeLogSizeBytes: {
    key: "change-log-size",
    type: "bytes",
    min: CHANGE_LOG_SIZE_BYTES_MIN,
    max: 2 ** 40,
    default: CHANGE_LOG_SIZE_BYTES_DEFAULT,
    description:
      "Size of the change log of each vshard beyond which its oldest changes are dropped.",
  },
} as const;

export function changeLogRetention(config: {
  readonly changeLogRevisions: number;
  readonly changeLogAgeMs: number;
  readonly changeLogSizeBytes: number;
}): ChangeLogRetention {
  return {
    revisionsKept: config.changeLogRevisions,
    ageMsMax: config.changeLogAgeMs,
    sizeBytesMax: config.changeLogSizeBytes,
  };
}
