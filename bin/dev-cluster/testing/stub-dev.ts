/** `minikv dev --nodes …` with stubs in place of storage nodes and gateways. */
import { join } from "node:path";
import { runDevCluster } from "#bin/dev-cluster/main.ts";
import { devConfig } from "#bin/dev-config.ts";
import { loadConfig } from "#shared/runtime/config.ts";
import { ServerSignals } from "#shared/runtime/server-signals.ts";

const stub = join(import.meta.dirname, "stub-minikv.ts");
const { config } = loadConfig(devConfig, {
  argv: process.argv.slice(2),
  env: {},
  readFile: () => "",
});
try {
  await runDevCluster(config, new ServerSignals(), [process.execPath, stub]);
} catch (error) {
  process.stderr.write(`${String(error)}\n`);
  process.exit(1);
}
