/** Settings of `minikv gateway`: the stateless HTTP front. */
import { type ConfigOf, defineConfig, refuseExposedListener } from "#shared/runtime/config.ts";
import { clusterSettings, serverSettings } from "#shared/runtime/config-common.ts";

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
      description: "Storage nodes to connect to.",
    },
    ...clusterSettings,
    ...serverSettings,
  },
  validate: ({ listen, insecureListen, storage }) =>
    refuseExposedListener(listen, insecureListen) ??
    (storage.length === 1
      ? undefined
      : "this version works with exactly one storage node: give one address as --storage"),
});

export type GatewayConfig = ConfigOf<(typeof gatewayConfig)["settings"]>;
