/** The storage node's metrics: what each is called, and what it means. `docs/metrics.md` has the same list. */
import type { MetricDescription } from "#shared/runtime/metrics.ts";

const OPERATIONS = {
  operations: {
    name: "minikv_node_operations_total",
    type: "counter",
    labels: ["operation", "outcome"],
    help: "Operations of gateways that were answered: ok, or the error's code (not_leader is a redirect).",
  },
  operationDuration: {
    name: "minikv_node_operation_duration_seconds",
    type: "histogram",
    labels: ["operation"],
    help: "From the arrival of an operation on its stream until its answer.",
  },
  streams: {
    name: "minikv_node_streams",
    type: "gauge",
    labels: [],
    help: "Streams of gateways that are open.",
  },
} as const satisfies Record<string, MetricDescription>;

const RAFT = {
  groups: {
    name: "minikv_node_raft_groups",
    type: "gauge",
    labels: [],
    help: "Raft groups with a replica here.",
  },
  groupsLed: {
    name: "minikv_node_raft_groups_led",
    type: "gauge",
    labels: [],
    help: "Groups whose leader is the replica here.",
  },
  groupsWithoutLeader: {
    name: "minikv_node_raft_groups_without_leader",
    type: "gauge",
    labels: [],
    help: "Groups with a replica here whose leader is not known here.",
  },
  groupsQuorumAtRisk: {
    name: "minikv_node_raft_groups_quorum_at_risk",
    type: "gauge",
    labels: [],
    help: "Groups led here of which a voter does not answer, and one more would cost the quorum.",
  },
  termChanges: {
    name: "minikv_node_raft_term_changes_total",
    type: "counter",
    labels: [],
    help: "Terms that replicas here have entered.",
  },
  leaderChanges: {
    name: "minikv_node_raft_leader_changes_total",
    type: "counter",
    labels: [],
    help: "How often a replica here saw another leader than the one before.",
  },
  proposals: {
    name: "minikv_node_raft_proposals_total",
    type: "counter",
    labels: [],
    help: "Commands proposed to groups that are led here, those of expiry included.",
  },
  proposalsPending: {
    name: "minikv_node_raft_proposals_pending",
    type: "gauge",
    labels: [],
    help: "Commands that wait to be proposed.",
  },
  proposalsPendingBytes: {
    name: "minikv_node_raft_proposals_pending_bytes",
    type: "gauge",
    labels: [],
    help: "Their size.",
  },
  proposalsRejected: {
    name: "minikv_node_raft_proposals_rejected_total",
    type: "counter",
    labels: [],
    help: "Commands refused because too many, or too many bytes, waited to be proposed.",
  },
  commitDuration: {
    name: "minikv_node_raft_commit_duration_seconds",
    type: "histogram",
    labels: [],
    help: "From the proposal of an entry here until it was committed, of those that were applied.",
  },
  applyLag: {
    name: "minikv_node_raft_apply_lag_entries",
    type: "gauge",
    labels: [],
    help: "Entries that are committed here and not applied, in the group where they are most.",
  },
  followerLag: {
    name: "minikv_node_raft_follower_lag_entries",
    type: "gauge",
    labels: [],
    help: "Entries that the furthest follower of a group led here lacks.",
  },
} as const satisfies Record<string, MetricDescription>;

const DISK = {
  syncDuration: {
    name: "minikv_node_wal_sync_duration_seconds",
    type: "histogram",
    labels: [],
    help: "From handing a batch to the file until it is durable: write and fdatasync.",
  },
  walBytes: {
    name: "minikv_node_wal_bytes_written_total",
    type: "counter",
    labels: [],
    help: "Bytes of durable batches of the log.",
  },
  walBatches: {
    name: "minikv_node_wal_batches_total",
    type: "counter",
    labels: [],
    help: "Batches of the log that became durable, each with one sync.",
  },
  walSize: {
    name: "minikv_node_wal_size_bytes",
    type: "gauge",
    labels: [],
    help: "Bytes of all files of the log, the prepared one included.",
  },
  walSegments: {
    name: "minikv_node_wal_segments",
    type: "gauge",
    labels: [],
    help: "Segment files of the log.",
  },
  engineWriteDuration: {
    name: "minikv_node_engine_write_duration_seconds",
    type: "histogram",
    labels: [],
    help: "Write of one batch of applied entries into the engine.",
  },
  engineSize: {
    name: "minikv_node_engine_size_bytes",
    type: "gauge",
    labels: [],
    help: "Bytes of the engine's tables and memtables, as far as it knows.",
  },
  engineWriteStalled: {
    name: "minikv_node_engine_write_stalled",
    type: "gauge",
    labels: [],
    help: "Whether the engine takes no writes until a compaction has ended.",
    optional: true,
  },
  diskFree: {
    name: "minikv_node_disk_free_bytes",
    type: "gauge",
    labels: [],
    help: "Free bytes of the file system of the data directory.",
  },
  diskReserve: {
    name: "minikv_node_disk_reserve_bytes",
    type: "gauge",
    labels: [],
    help: "Free bytes below which writes are refused.",
  },
  writable: {
    name: "minikv_node_writable",
    type: "gauge",
    labels: [],
    help: "Whether writes are taken, as far as disk space goes.",
  },
} as const satisfies Record<string, MetricDescription>;

const NETWORK = {
  links: {
    name: "minikv_node_transport_links_up",
    type: "gauge",
    labels: [],
    help: "Other storage nodes that are connected.",
  },
  linksWanted: {
    name: "minikv_node_transport_links",
    type: "gauge",
    labels: [],
    help: "Other storage nodes of the cluster map.",
  },
  messagesDropped: {
    name: "minikv_node_transport_messages_dropped_total",
    type: "counter",
    labels: [],
    help: "Messages to other nodes that did not fit into a queue, or waited too long for a connection.",
  },
  messagesUnroutable: {
    name: "minikv_node_transport_messages_unroutable_total",
    type: "counter",
    labels: [],
    help: "Messages that were for no node known here, or of a replica of another node; they are dropped as well.",
  },
  bytesSent: {
    name: "minikv_node_transport_bytes_sent_total",
    type: "counter",
    labels: [],
    help: "Bytes of frames to other nodes.",
  },
  bytesReceived: {
    name: "minikv_node_transport_bytes_received_total",
    type: "counter",
    labels: [],
    help: "Bytes of frames from other nodes.",
  },
  snapshotsSent: {
    name: "minikv_node_snapshots_sent_total",
    type: "counter",
    labels: [],
    help: "Snapshots that a member has received from here, whole.",
  },
  snapshotsReceived: {
    name: "minikv_node_snapshots_received_total",
    type: "counter",
    labels: [],
    help: "Snapshots that were received here, whole.",
  },
  mapVersion: {
    name: "minikv_node_cluster_map_version",
    type: "gauge",
    labels: [],
    help: "Version of the newest cluster map that the node knows.",
  },
} as const satisfies Record<string, MetricDescription>;

const CHANGES = {
  changeStreams: {
    name: "minikv_node_change_streams",
    type: "gauge",
    labels: [],
    help: "Streams on which gateways read and follow change logs.",
  },
  changeFollows: {
    name: "minikv_node_change_follows",
    type: "gauge",
    labels: [],
    help: "Change logs of vshards that are followed, each once for each gateway that does.",
  },
  changeReads: {
    name: "minikv_node_change_reads_total",
    type: "counter",
    labels: [],
    help: "Reads of change logs that were answered.",
  },
  changeReadsPending: {
    name: "minikv_node_change_reads_pending",
    type: "gauge",
    labels: [],
    help: "Reads of change logs that wait or run.",
  },
  changeBatches: {
    name: "minikv_node_change_batches_total",
    type: "counter",
    labels: [],
    help: "Batches of changes that were sent to followers.",
  },
  changeBytes: {
    name: "minikv_node_change_bytes_total",
    type: "counter",
    labels: [],
    help: "Bytes of changes that were sent to gateways.",
  },
  changeFallsBehind: {
    name: "minikv_node_change_falls_behind_total",
    type: "counter",
    labels: [],
    help: "How often a follower that was at the head had to go on from the log.",
  },
} as const satisfies Record<string, MetricDescription>;

export const NODE_METRICS = { ...OPERATIONS, ...CHANGES, ...RAFT, ...DISK, ...NETWORK } as const;
