/** Settings of `minikv dev`, the all-in-one: gateway and storage node in one process. */
import { type ConfigOf, defineConfig, refuseExposedListener } from "#shared/runtime/config.ts";
import { serverSettings } from "#shared/runtime/config-common.ts";
import { dataSettings } from "#storage-node/config.ts";

export const devConfig = defineConfig({
  program: "dev",
  description: "Gateway and storage node in one process, durable, on one data directory.",
  settings: {
    listen: {
      key: "listen",
      type: "listen",
      default: "127.0.0.1:8080",
      description: "Address for HTTP clients.",
    },
    ...dataSettings,
    ...serverSettings,
  },
  validate: (config) => refuseExposedListener(config.listen, config.insecureListen),
});

export type DevConfig = ConfigOf<(typeof devConfig)["settings"]>;
