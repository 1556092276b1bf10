/** Settings of `minikv storage-node`: one process, one data directory. */
import { NODE_ID_MAX } from "#shared/ids.ts";
import {
  DISK_RESERVE_BYTES_DEFAULT,
  SNAPSHOT_BYTES_PER_SECOND_DEFAULT,
  SNAPSHOT_BYTES_PER_SECOND_MIN,
  WAL_BATCH_SIZE_BYTES_MAX,
  WAL_SEGMENT_SIZE_BYTES_DEFAULT,
  WAL_SEGMENT_SIZE_BYTES_MIN,
} from "#shared/limits.ts";
import { type ConfigOf, defineConfig, refuseExposedListener } from "#shared/runtime/config.ts";
import { clusterSettings, serverSettings } from "#shared/runtime/config-common.ts";

/** What the data directory needs; the all-in-one has the same. */
export const dataSettings = {
  dataDir: {
    key: "data-dir",
    type: "path",
    default: "./data",
    description: "Directory of the log and the engine. One process at a time may use it.",
  },
  engine: {
    key: "engine",
    type: "enum",
    values: ["rocksdb", "classic-level", "memory"],
    default: "rocksdb",
    description: "Storage engine. The engine of an existing data directory cannot be changed.",
  },
  diskReserveBytes: {
    key: "disk-reserve",
    type: "bytes",
    min: 0,
    max: 2 ** 50,
    default: DISK_RESERVE_BYTES_DEFAULT,
    description: "Free disk space below which writes are refused with 507.",
  },
  walSegmentSizeBytes: {
    key: "wal-segment-size",
    type: "bytes",
    min: WAL_SEGMENT_SIZE_BYTES_MIN,
    max: 64 * WAL_BATCH_SIZE_BYTES_MAX,
    default: WAL_SEGMENT_SIZE_BYTES_DEFAULT,
    description: "Size of one preallocated file of the write-ahead log.",
  },
} as const;

export const storageNodeConfig = defineConfig({
  program: "storage-node",
  description: "Stores data: Raft, write-ahead log and engine. Serves gateways over gRPC.",
  settings: {
    listen: {
      key: "listen",
      type: "listen",
      default: "127.0.0.1:7400",
      description: "Address for gateways and other storage nodes (gRPC).",
    },
    ...dataSettings,
    snapshotBytesPerSecond: {
      key: "snapshot-rate",
      type: "bytes",
      min: SNAPSHOT_BYTES_PER_SECOND_MIN,
      max: 2 ** 40,
      default: SNAPSHOT_BYTES_PER_SECOND_DEFAULT,
      description: "Bytes per second of all snapshots together that this node sends to others.",
    },
    nodeId: {
      key: "node-id",
      type: "int",
      min: 1,
      max: NODE_ID_MAX,
      default: 1,
      description: "Number of this node in its cluster. Never reuse the number of a lost node.",
    },
    ...clusterSettings,
    ...serverSettings,
  },
  validate: (config) => refuseExposedListener(config.listen, config.insecureListen),
});

export type StorageNodeConfig = ConfigOf<(typeof storageNodeConfig)["settings"]>;
