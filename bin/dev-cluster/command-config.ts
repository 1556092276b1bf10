/** Settings of the commands that play with a running cluster: `minikv dev kill`, `pause`, … */
import { clusterDirectorySetting, devConfig } from "#bin/dev-config.ts";
import { DEV_GATEWAYS_MAX, DEV_PAUSE_MS_MAX } from "#shared/limits.ts";
import { defineConfig } from "#shared/runtime/config.ts";
import { KILL_SIGNALS } from "./control-protocol.ts";

const directory = { dir: clusterDirectorySetting } as const;

const gateway = {
  gateway: {
    key: "gateway",
    type: "int",
    min: 1,
    max: DEV_GATEWAYS_MAX,
    default: 0,
    description: "The gateway with this number, from 1, instead of a node; 0 for none.",
  },
} as const;

const leaderOf = {
  leaderOf: {
    key: "leader-of",
    type: "string",
    default: "",
    description: "The node that leads the vshard of this key, which is taken as it is typed.",
  },
} as const;

const NODE = { form: "[NODE]", countMax: 1 } as const;

/** Environment and file may hold what is for `minikv dev` itself. */
const shared = { ignoredKeys: Object.values(devConfig.settings).map(({ key }) => key) } as const;

type TargetConfig = { readonly gateway?: number; readonly leaderOf?: string };

/** Whether at most one of the flags says which member is meant; the operand is checked elsewhere. */
const refuseTwoTargets = ({ gateway: number = 0, leaderOf: key = "" }: TargetConfig) =>
  number !== 0 && key !== "" ? "give one of --gateway and --leader-of" : undefined;

export const statusConfig = defineConfig({
  program: "dev status",
  description: "Shows the processes of a cluster on this machine.",
  settings: directory,
  ...shared,
  validate: () => undefined,
});

export const killConfig = defineConfig({
  program: "dev kill",
  description: "Ends a process of the cluster: NODE is the name or id of a storage node.",
  settings: {
    ...directory,
    ...gateway,
    ...leaderOf,
    signal: {
      key: "signal",
      type: "enum",
      values: KILL_SIGNALS,
      default: "KILL",
      description: "KILL ends it at once, TERM in order.",
    },
  },
  operands: NODE,
  ...shared,
  validate: refuseTwoTargets,
});

export const pauseConfig = defineConfig({
  program: "dev pause",
  description: "Stops a process with SIGSTOP: it keeps its connections and does nothing.",
  settings: {
    ...directory,
    ...gateway,
    ...leaderOf,
    forMs: {
      key: "for",
      type: "duration",
      min: 0,
      max: DEV_PAUSE_MS_MAX,
      default: 0,
      description: "How long; 0 for until it is resumed.",
    },
  },
  operands: NODE,
  ...shared,
  validate: refuseTwoTargets,
});

export const resumeConfig = defineConfig({
  program: "dev resume",
  description: "Lets a paused process go on.",
  settings: { ...directory, ...gateway },
  operands: NODE,
  ...shared,
  validate: refuseTwoTargets,
});

export const restartConfig = defineConfig({
  program: "dev restart",
  description: "Starts a process again, after stopping it in order where it still runs.",
  settings: { ...directory, ...gateway, ...leaderOf },
  operands: NODE,
  ...shared,
  validate: refuseTwoTargets,
});

export const addNodeConfig = defineConfig({
  program: "dev add-node",
  description: "Starts one more storage node, which joins the cluster.",
  settings: directory,
  ...shared,
  validate: () => undefined,
});

export const forgetConfig = defineConfig({
  program: "dev forget",
  description: "Starts a storage node that has ended no more; remove it from the cluster before.",
  settings: directory,
  operands: { ...NODE, form: "NODE" },
  ...shared,
  validate: () => undefined,
});
