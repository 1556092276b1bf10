/** Planted bugs of snapshots on their way into an engine. */
import type { Mutation } from "./mutation.ts";

const INSTALL = "storage-node/snapshot/install.ts";
const STAGED = "storage-node/snapshot/staged-file.ts";

export const SNAPSHOT_MUTATIONS: readonly Mutation[] = [
  {
    name: "9 rows of the old state stay beside a snapshot",
    what: "What the leader has deleted meanwhile is still there behind the snapshot.",
    simulation: "replicas",
    edits: [
      { file: INSTALL, find: "  await purgeGroup(engine, group, goesOn);\n", replace: "" },
      { file: INSTALL, find: "const { group, start } = name;", replace: "const { start } = name;" },
      {
        file: INSTALL,
        find: "loadMachine(group, engine)",
        replace: "loadMachine(name.group, engine)",
      },
    ],
  },
  {
    name: "9 what was handed out before a snapshot is applied behind it",
    what: "Entries that wait for a round of the pump are applied over the snapshot's rows.",
    open: "a round has to be in the engine for as long as it takes to receive a snapshot",
    simulation: "replicas",
    edits: [
      {
        file: "storage-node/replica/installations.ts",
        find: "    pump.discard(replica);\n    await pump.between(() => {});\n",
        replace: "    void pump;\n",
      },
    ],
  },
  {
    name: "10 interrupted installation is not gone on with",
    what: "A start opens the rows as an interrupted installation has left them.",
    simulation: "replicas",
    edits: [
      {
        file: INSTALL,
        find: "    await takeOver(options, name, engine, () => true);\n",
        replace: "",
      },
    ],
  },
  {
    name: "10 log is reset before the snapshot is on disk",
    what: "The engine is not flushed before the log gives up what leads to the snapshot.",
    simulation: "replicas",
    edits: [{ file: INSTALL, find: "  await engine.flush();\n", replace: "" }],
  },
  {
    name: "25 mark of an installation is not synced",
    what: "Rows go before the name that says so is on disk.",
    simulation: "replicas",
    edits: [{ file: STAGED, find: "  await syncDirectory(fs, directory);\n", replace: "" }],
  },
  {
    name: "25 staged snapshot is not synced",
    what: "Rows go before the file that replaces them is on disk.",
    simulation: "replicas",
    edits: [
      {
        file: "storage-node/snapshot/receipt.ts",
        find: "    await datasync(stored.file);\n",
        replace: "",
      },
    ],
  },
];
