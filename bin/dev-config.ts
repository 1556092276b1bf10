/** Settings of `minikv dev`: the all-in-one, or a cluster of processes on this machine. */
import { auditSettings } from "#gateway/audit/settings.ts";
import { isAuthRequired } from "#gateway/auth/settings.ts";
import { edgeSettings, refuseEdgeConfig } from "#gateway/edge-settings.ts";
import { refuseExposedGateway } from "#gateway/exposure.ts";
import { hasHttps, httpSettings } from "#gateway/http/settings.ts";
import { metricsSettings } from "#gateway/metrics/settings.ts";
import { DEV_GATEWAYS_MAX, DEV_NODES_MAX } from "#shared/limits.ts";
import { type ConfigOf, defineConfig } from "#shared/runtime/config.ts";
import { serverSettings } from "#shared/runtime/config-common.ts";
import { dataSettings } from "#storage-node/config.ts";

/** Where a cluster lives; its commands have the same. */
export const clusterDirectorySetting = {
  key: "dir",
  type: "path",
  default: "./data-cluster",
  description: "Directory of the cluster: data, logs, and what its commands need.",
} as const;

const DATA_DIRECTORY_DEFAULT = dataSettings.dataDir.default;

export const devConfig = defineConfig({
  program: "dev",
  description:
    "Gateway and storage node in one process, durable, on one data directory; with --nodes a " +
    "cluster of processes on this machine.",
  settings: {
    listen: {
      key: "listen",
      type: "listen",
      default: "127.0.0.1:8080",
      description: "Address for HTTP clients. More gateways take the ports that follow.",
    },
    nodes: {
      key: "nodes",
      type: "int",
      min: 0,
      max: DEV_NODES_MAX,
      default: 0,
      description: "Storage nodes of the cluster; 0 for all in one process.",
    },
    gateways: {
      key: "gateways",
      type: "int",
      min: 1,
      max: DEV_GATEWAYS_MAX,
      default: 1,
      description: "Gateways of the cluster.",
    },
    dir: clusterDirectorySetting,
    zones: {
      key: "zones",
      type: "string",
      default: "",
      pattern: /^(|[A-Za-z0-9._-]{1,64}(,[A-Za-z0-9._-]{1,64})*)$/,
      form: "zone[,zone…]",
      description: "Zones that the cluster's storage nodes get in turns.",
    },
    ...dataSettings,
    ...edgeSettings,
    ...serverSettings,
  },
  validate: (config) =>
    refuseExposedGateway({
      listen: config.listen,
      insecureListen: config.insecureListen,
      hasTls: hasHttps(config),
      hasAuth: isAuthRequired(config, config.listen),
    }) ??
    refuseEdgeConfig(config) ??
    refuseMixture(config),
});

export type DevConfig = ConfigOf<(typeof devConfig)["settings"]>;

/** Of one gateway, or of files that each gateway needs for itself: not for several at once. */
const SETTINGS_OF_ONE_GATEWAY = { ...httpSettings, ...auditSettings, ...metricsSettings };

/** The flag of such a setting that was given. */
function ofOneGateway(config: Readonly<Record<string, unknown>>): string | undefined {
  for (const [name, setting] of Object.entries(SETTINGS_OF_ONE_GATEWAY)) {
    if (config[name] !== setting.default) return `--${setting.key}`;
  }
  return undefined;
}

/** What one form of `minikv dev` would silently ignore. */
function refuseMixture(config: {
  readonly nodes: number;
  readonly gateways: number;
  readonly dir: string;
  readonly zones: string;
  readonly dataDir: string;
}): string | undefined {
  if (config.nodes > 0) {
    const flag = ofOneGateway(config);
    if (flag !== undefined) return `${flag} is of one gateway, and not taken with --nodes`;
    if (config.dataDir === DATA_DIRECTORY_DEFAULT) return undefined;
    return "--data-dir is the directory of the all-in-one; with --nodes it is --dir";
  }
  const needsNodes = (flag: string) =>
    `${flag} is for a cluster: give the number of its storage nodes too, such as --nodes 3`;
  if (config.gateways !== 1) return needsNodes("--gateways");
  if (config.zones !== "") return needsNodes("--zones");
  if (config.dir !== clusterDirectorySetting.default) {
    return `${needsNodes("--dir")}. The directory of the all-in-one is --data-dir`;
  }
  return undefined;
}
