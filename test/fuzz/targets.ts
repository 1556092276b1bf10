/** All parsers that see bytes from outside. */
import type { FuzzTarget } from "./target.ts";
import { BODY_TARGETS } from "./targets/bodies.ts";
import { BUS_TARGETS } from "./targets/bus.ts";
import { CREDENTIAL_TARGETS } from "./targets/credentials.ts";
import { NETWORK_TARGETS } from "./targets/network.ts";
import { SETTING_TARGETS } from "./targets/settings.ts";
import { STORAGE_TARGETS } from "./targets/storage.ts";
import { TEXT_TARGETS } from "./targets/text.ts";
import { VALUE_TARGETS } from "./targets/values.ts";
import { WATCH_TARGETS } from "./targets/watch.ts";
import { WATCH_REQUEST_TARGETS } from "./targets/watch-requests.ts";
import { WIRE_TARGETS } from "./targets/wire.ts";

export const TARGETS: readonly FuzzTarget[] = [
  ...[...TEXT_TARGETS, ...BODY_TARGETS, ...CREDENTIAL_TARGETS, ...NETWORK_TARGETS],
  ...[...SETTING_TARGETS, ...WIRE_TARGETS, ...STORAGE_TARGETS, ...VALUE_TARGETS],
  ...[...WATCH_TARGETS, ...BUS_TARGETS, ...WATCH_REQUEST_TARGETS],
];
