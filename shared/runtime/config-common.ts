/** Settings that several programs have, so that they mean the same in each. */
import { SHUTDOWN_TIMEOUT_MS } from "#shared/limits.ts";
import { SLOW_OPERATION_MS_DEFAULT } from "#shared/limits-telemetry.ts";
import { LOG_LEVELS } from "./log.ts";

const HOUR_MS = 3_600_000;

/** Of every program that listens and logs. */
export const serverSettings = {
  insecureListen: {
    key: "insecure-listen",
    type: "bool",
    default: false,
    description: "Allow listening, without TLS or authentication, beyond this machine.",
  },
  logLevel: {
    key: "log-level",
    type: "enum",
    values: LOG_LEVELS,
    default: "info",
    description: "Least severe level that is logged.",
  },
  shutdownTimeoutMs: {
    key: "shutdown-timeout",
    type: "duration",
    min: 0,
    max: HOUR_MS,
    default: SHUTDOWN_TIMEOUT_MS,
    description: "Time that work in flight gets to finish after SIGTERM.",
  },
  exitWithParent: {
    key: "exit-with-parent",
    type: "bool",
    default: false,
    description: "Stop when standard input ends: a pipe from the program that started this one.",
  },
} as const;

/** Of every program that carries operations out. */
export const slowSettings = {
  slowOperationMs: {
    key: "slow-operation",
    type: "duration",
    min: 0,
    max: HOUR_MS,
    default: SLOW_OPERATION_MS_DEFAULT,
    description: "Operations that take longer are logged, with where the time went; 0: none.",
  },
} as const;

/** Of every program that is a member of a cluster. */
export const clusterSettings = {
  clusterId: {
    key: "cluster-id",
    type: "string",
    pattern: /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
    form: "1 to 64 letters, digits, dots, dashes, underscores",
    default: "minikv",
    description: "Name of the cluster; gateways and storage nodes of one cluster share it.",
  },
} as const;

/** Of every program that speaks gRPC with others of its cluster. All or none of them. */
export const tlsSettings = {
  tlsCa: {
    key: "tls-ca",
    type: "path",
    default: "",
    description: "PEM file of the authority whose certificates peers must show. Empty: no TLS.",
  },
  tlsCert: {
    key: "tls-cert",
    type: "path",
    default: "",
    description: "PEM file of the own certificate; it must name the host that peers dial.",
  },
  tlsKey: {
    key: "tls-key",
    type: "path",
    default: "",
    description: "PEM file of the private key of the own certificate.",
  },
} as const;
