/** Planted bugs of change logs and of those who follow them. */
import type { Mutation } from "./mutation.ts";

export const CHANGES_MUTATIONS: readonly Mutation[] = [
  {
    name: "26 batch is dropped while the transport pauses",
    what: "A live follow counts a batch as given that its stream did not take.",
    simulation: "cluster",
    edits: [
      {
        file: "storage-node/changes/changes-stream.ts",
        find: "    if (this.#blocked) return false;\n    const { encoded }",
        replace:
          "    follow.position = batch.endRevision;\n    if (this.#blocked) return true;\n    const { encoded }",
      },
    ],
  },
  {
    name: "26 trimmed part of a log is stepped over",
    what: "A reader gets what the log begins with as if it were what he asked for.",
    simulation: "cluster",
    edits: [
      {
        file: "storage-node/changes/log-piece.ts",
        find: "if (first > this.#seen + 1) {",
        replace: "if (first > this.#seen + 1 && this.#rows > 0) {",
      },
    ],
  },
  {
    name: "26 follow goes on where the lead was lost",
    what: "A node that leads no more does not tell its followers.",
    simulation: "cluster",
    edits: [
      {
        file: "storage-node/node.ts",
        find: "      onRole: (replica) => tail.roleChanged(replica),\n",
        replace: "",
      },
      {
        file: "storage-node/changes/change-tail.ts",
        find: "    if (!replica.isLeader) {\n      this.roleChanged(replica);\n      return;\n    }\n",
        replace: "    if (!replica.isLeader) return;\n",
      },
    ],
  },
];
