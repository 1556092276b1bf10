/**
 * The command lines of a cluster's processes. Everything is said by flags: what stands in the
 * environment or a file is for the supervisor.
 */
import type { DevConfig } from "#bin/dev-config.ts";
import { isAuthRequired } from "#gateway/auth/settings.ts";
import { type EdgeConfig, edgeSettings } from "#gateway/edge-settings.ts";
import { environmentName, type Settings } from "#shared/runtime/config.ts";
import {
  defaultValue,
  formatHostPort,
  formatValue,
  type HostPort,
  type SettingValue,
} from "#shared/runtime/config-value.ts";
import { type NatsConfig, natsSettings } from "#shared/runtime/nats-settings.ts";
import { addressOf, type ClusterState, NODE_HOST, type NodePlace } from "./state.ts";

/**
 * What a process may take of the time in which everything has to end: gateways and nodes stop one
 * after the other, and a part is left for ending those that hang.
 */
const PROCESS_SHUTDOWN_SHARE = 0.4;

export type MemberConfig = Pick<
  DevConfig,
  | "engine"
  | "diskReserveBytes"
  | "walSegmentSizeBytes"
  | "changeLogRevisions"
  | "changeLogAgeMs"
  | "changeLogSizeBytes"
  | "insecureListen"
  | "logLevel"
  | "shutdownTimeoutMs"
  | keyof EdgeConfig
>;

/** What a storage node prints once it serves. */
export const NODE_SERVES_LINE = /serves gRPC on [^,\s]+,/;
/** In that line: its id in the cluster. */
const NODE_ID = /serves gRPC on [^,\s]+,? (?:as )?node (\d+)\b/;
/** What a gateway prints once it serves. */
export const GATEWAY_SERVES_LINE = /serves https?:\S+/;

/** In that line: where it tells its metrics. */
const NODE_HTTP_URL = /, HTTP on (https?:[^,\s]+),/;

/** Null when it is not known. */
export const nodeHttpUrlIn = (servesLine: string | undefined): string | null =>
  NODE_HTTP_URL.exec(servesLine ?? "")?.[1] ?? null;

/** Null when it is not known. */
export function nodeIdIn(servesLine: string | undefined): number | null {
  const id = NODE_ID.exec(servesLine ?? "")?.[1];
  return id === undefined ? null : Number(id);
}

export function storageNodeArgs(
  place: NodePlace,
  to: { readonly state: ClusterState; readonly config: MemberConfig; readonly dataDir: string },
): readonly string[] {
  const { state, config } = to;
  const address = addressOf(place);
  return [
    "storage-node",
    ...["--listen", address, "--advertise", address, "--host-name", place.name],
    ...(place.zone === "" ? [] : ["--zone", place.zone]),
    ...["--cluster-id", state.clusterId, "--data-dir", to.dataDir],
    ...["--seeds", seedsOf(place, state).join(",")],
    ...(place.founder ? ["--bootstrap-expect", String(state.seeds.length)] : []),
    ...["--engine", config.engine],
    ...["--disk-reserve", `${config.diskReserveBytes}B`],
    ...["--wal-segment-size", `${config.walSegmentSizeBytes}B`],
    ...flagsOf(config, natsSettings),
    ...["--change-log-revisions", String(config.changeLogRevisions)],
    ...["--change-log-age", `${config.changeLogAgeMs}ms`],
    ...["--change-log-size", `${config.changeLogSizeBytes}B`],
    // Any free port; cluster.json says which.
    ...["--http-listen", `${NODE_HOST}:0`],
    ...["--slow-operation", `${config.slowOperationMs}ms`],
    ...commonArgs(config),
  ];
}

/**
 * Founders have the same seeds for ever: they must agree on who founds. A node that joins asks whoever
 * is there, and is itself no seed, so that it can never found a cluster of its own.
 */
function seedsOf(place: NodePlace, state: ClusterState): readonly string[] {
  if (place.founder) return state.seeds;
  return state.nodes.filter(({ name }) => name !== place.name).map(addressOf);
}

export function gatewayArgs(
  listen: HostPort,
  to: { readonly state: ClusterState; readonly config: MemberConfig },
): readonly string[] {
  const { state, config } = to;
  return [
    "gateway",
    ...["--listen", formatHostPort(listen)],
    ...(config.insecureListen ? ["--insecure-listen"] : []),
    ...["--cluster-id", state.clusterId],
    ...["--storage", state.nodes.map(addressOf).join(",")],
    ...edgeArgs({ ...config, auth: isAuthRequired(config, listen) ? "required" : "off" }),
    ...commonArgs(config),
  ];
}

/** What the supervisor was told about serving HTTP, and is not said anyway. */
const edgeArgs = (config: EdgeConfig): readonly string[] => flagsOf(config, edgeSettings);

/** Variables of a gateway, for what must not show on its command line. */
export const gatewayEnv = (config: EdgeConfig): Environment => secretsOf(config, edgeSettings);

/** As `gatewayEnv`. */
export const storageNodeEnv = (config: NatsConfig): Environment => secretsOf(config, natsSettings);

type Environment = Readonly<Record<string, string>>;
type Values = Readonly<Record<string, SettingValue>>;

function flagsOf(config: Values, settings: Settings): readonly string[] {
  return toldSettings(config, settings).flatMap(({ setting, text }) =>
    setting.neverAsFlag ? [] : [`--${setting.key}=${text}`],
  );
}

function secretsOf(config: Values, settings: Settings): Environment {
  const secrets = toldSettings(config, settings).filter(({ setting }) => setting.neverAsFlag);
  return Object.fromEntries(secrets.map(({ setting, text }) => [environmentName(setting), text]));
}

function toldSettings(config: Values, settings: Settings) {
  return Object.entries(settings).flatMap(([name, setting]) => {
    const text = formatValue(setting, config[name]!);
    return text === formatValue(setting, defaultValue(setting)) ? [] : [{ setting, text }];
  });
}

function commonArgs(config: MemberConfig): readonly string[] {
  const shutdownMs = Math.floor(config.shutdownTimeoutMs * PROCESS_SHUTDOWN_SHARE);
  return ["--log-level", config.logLevel, "--shutdown-timeout", `${shutdownMs}ms`];
}
