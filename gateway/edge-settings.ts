/**
 * The settings of everything between the HTTP listener and storage, which a gateway and the all-in-one
 * have in common. Each part keeps its own beside its code.
 */
import type { ConfigOf } from "#shared/runtime/config.ts";
import { slowSettings } from "#shared/runtime/config-common.ts";
import { natsSettings, refuseNatsConfig } from "#shared/runtime/nats-settings.ts";
import { auditSettings, refuseAuditConfig } from "./audit/settings.ts";
import { authSettings, refuseAuthConfig } from "./auth/settings.ts";
import { tokenSettings } from "./auth/token-settings.ts";
import { codecSettings, refuseCodecConfig } from "./codec/settings.ts";
import { httpSettings, refuseHttpConfig } from "./http/settings.ts";
import { limitsSettings, refuseLimitsConfig } from "./limits/settings.ts";
import { metricsSettings, refuseMetricsConfig } from "./metrics/settings.ts";
import { tracingSettings } from "./tracing/settings.ts";

export const edgeSettings = {
  ...authSettings,
  ...tokenSettings,
  ...codecSettings,
  ...limitsSettings,
  ...auditSettings,
  ...httpSettings,
  ...natsSettings,
  ...metricsSettings,
  ...slowSettings,
  ...tracingSettings,
} as const;

/** Plain values: they are also sent to the gateway's thread. */
export type EdgeConfig = ConfigOf<typeof edgeSettings>;

/** What is wrong with the settings together; undefined when nothing is. */
export function refuseEdgeConfig(config: EdgeConfig): string | undefined {
  return (
    refuseAuthConfig(config) ??
    refuseLimitsConfig(config) ??
    refuseCodecConfig(config) ??
    refuseHttpConfig(config) ??
    refuseAuditConfig(config) ??
    refuseNatsConfig(config) ??
    refuseMetricsConfig(config)
  );
}

/** The edge's part of a program's settings. */
export function edgeConfigOf(config: EdgeConfig): EdgeConfig {
  const names = Object.keys(edgeSettings) as (keyof EdgeConfig)[];
  return Object.fromEntries(names.map((name) => [name, config[name]])) as EdgeConfig;
}
