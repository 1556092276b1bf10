/** Settings of `minikv gateway`: the stateless HTTP front. */
import { type ConfigOf, defineConfig } from "#shared/runtime/config.ts";
import { clusterSettings, serverSettings, tlsSettings } from "#shared/runtime/config-common.ts";
import { refusePartialTls } from "#shared/runtime/tls-settings.ts";
import { authSettings, isAuthRequired } from "./auth/settings.ts";
import { edgeSettings, refuseEdgeConfig } from "./edge-settings.ts";
import { refuseExposedGateway } from "./exposure.ts";
import { hasHttps } from "./http/settings.ts";

export const gatewayConfig = defineConfig({
  program: "gateway",
  description: "Serves HTTP and forwards to storage nodes. Keeps no state of its own.",
  settings: {
    listen: {
      key: "listen",
      type: "listen",
      default: "127.0.0.1:8080",
      description: "Address for HTTP clients.",
    },
    storage: {
      key: "storage",
      type: "addresses",
      default: "127.0.0.1:7400",
      description: "Storage nodes of the cluster to begin with; it names the others.",
    },
    clusterId: {
      ...clusterSettings.clusterId,
      pattern: /^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$/,
      form: `${clusterSettings.clusterId.form}, or nothing`,
      default: "",
      description: "Name or id of the cluster, others are refused; nothing takes the first found.",
    },
    // Towards the storage nodes. Those of clients begin with `https-`.
    ...tlsSettings,
    ...edgeSettings,
    auth: { ...authSettings.auth, default: "required" },
    ...serverSettings,
  },
  validate: ({ listen, insecureListen, ...config }) =>
    refuseExposedGateway({
      ...{ listen, insecureListen },
      hasTls: hasHttps(config),
      hasAuth: isAuthRequired(config, listen),
    }) ??
    refusePartialTls(config) ??
    refuseEdgeConfig(config),
});

export type GatewayConfig = ConfigOf<(typeof gatewayConfig)["settings"]>;
