/** All dashboards, in the order in which one looks at them. */
import { gateway } from "./gateway.ts";
import { overview } from "./overview.ts";
import type { Dashboard } from "./panel.ts";
import { storage } from "./storage.ts";
import { tenants } from "./tenants.ts";
import { watch } from "./watch.ts";

export const DASHBOARDS: readonly Dashboard[] = [overview, gateway, storage, watch, tenants];
