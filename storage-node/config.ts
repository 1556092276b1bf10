/** Settings of `minikv storage-node`: one process, one data directory. */
import { NODE_ID_MAX } from "#shared/ids.ts";
import {
  CLUSTER_NODES_MAX,
  DISK_RESERVE_BYTES_DEFAULT,
  META_REPLICAS_DEFAULT,
  NODE_REBUILD_AFTER_MS_DEFAULT,
  REPLICATION_FACTOR_DEFAULT,
  SNAPSHOT_BYTES_PER_SECOND_DEFAULT,
  SNAPSHOT_BYTES_PER_SECOND_MIN,
  WAL_BATCH_SIZE_BYTES_MAX,
  WAL_SEGMENT_SIZE_BYTES_DEFAULT,
  WAL_SEGMENT_SIZE_BYTES_MIN,
} from "#shared/limits.ts";
import { type ConfigOf, defineConfig, refuseExposedListener } from "#shared/runtime/config.ts";
import {
  clusterSettings,
  serverSettings,
  slowSettings,
  tlsSettings,
} from "#shared/runtime/config-common.ts";
import { natsSettings, refuseNatsConfig } from "#shared/runtime/nats-settings.ts";
import { hasTls, refusePartialTls } from "#shared/runtime/tls-settings.ts";
import { changeLogSettings } from "./changes/settings.ts";
import { probeSettings, refuseProbeConfig } from "./metrics/settings.ts";

const LABEL = /^[A-Za-z0-9._-]{0,64}$/;
const LABEL_FORM = "up to 64 letters, digits, dots, dashes, underscores";

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
  ...changeLogSettings,
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
    seeds: {
      key: "seeds",
      type: "addresses",
      optional: true,
      default: "",
      description: "Nodes of the cluster to found or to join. Without any, this node is a cluster.",
    },
    bootstrapExpect: {
      key: "bootstrap-expect",
      type: "int",
      min: 0,
      max: CLUSTER_NODES_MAX,
      default: 0,
      description: "Found a cluster when so many seeds are there; 0 only joins one.",
    },
    waitForJoin: {
      key: "wait-for-join",
      type: "bool",
      default: false,
      description: "With an empty directory, wait until `minikv cluster join` invites this node.",
    },
    advertise: {
      key: "advertise",
      type: "string",
      pattern: /^$|^\S+:\d+$/,
      form: "host:port",
      default: "",
      description: "Address under which the others reach this node; by default what it listens on.",
    },
    zone: {
      key: "zone",
      type: "string",
      pattern: LABEL,
      form: LABEL_FORM,
      default: "",
      description: "Failure domain, such as a rack: replicas are kept apart by zones.",
    },
    hostName: {
      key: "host-name",
      type: "string",
      pattern: LABEL,
      form: LABEL_FORM,
      default: "",
      description: "Machine that the node runs on: replicas are kept apart by machines.",
    },
    nodeId: {
      key: "node-id",
      type: "int",
      min: 0,
      max: NODE_ID_MAX,
      default: 0,
      description:
        "Number that this node must have; 0 for any. A cluster gives out numbers itself.",
    },
    replicationFactor: {
      key: "replication-factor",
      type: "int",
      min: 1,
      max: 7,
      default: REPLICATION_FACTOR_DEFAULT,
      description: "Copies of each vshard, where there are so many nodes. The same on all nodes.",
    },
    metaReplicas: {
      key: "meta-replicas",
      type: "int",
      min: 1,
      max: 7,
      default: META_REPLICAS_DEFAULT,
      description:
        "Copies of the cluster map, where there are so many nodes. The same on all nodes.",
    },
    rebuildAfterMs: {
      key: "rebuild-after",
      type: "duration",
      min: 1_000,
      max: 30 * 24 * 3_600_000,
      default: NODE_REBUILD_AFTER_MS_DEFAULT,
      description: "Silence after which a node's replicas are rebuilt on other nodes.",
    },
    ...probeSettings,
    ...slowSettings,
    ...clusterSettings,
    ...tlsSettings,
    ...natsSettings,
    ...serverSettings,
  },
  validate: (config) => {
    const { seeds, bootstrapExpect } = config;
    if (bootstrapExpect > 0 && seeds.length === 0) {
      return "bootstrap-expect founds a cluster together with seeds: name them, this node included";
    }
    // Under mutual TLS nobody comes in without a certificate of the cluster's authority.
    return (
      refusePartialTls(config) ??
      refuseNatsConfig(config) ??
      refuseProbeConfig(config) ??
      refuseExposedListener(
        config.listen,
        config.insecureListen || hasTls(config),
        "give --tls-ca, --tls-cert and --tls-key, ",
      )
    );
  },
});

export type StorageNodeConfig = ConfigOf<(typeof storageNodeConfig)["settings"]>;
