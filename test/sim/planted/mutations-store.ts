/** Planted bugs of the log on disk, of replicas and their clients, and of the state machine. */
import type { Mutation } from "./mutation.ts";

const MACHINE = "storage-node/machine/machine.ts";
const LOAD = "storage-node/machine/load.ts";
const PUMP = "storage-node/replica/apply-pump.ts";
const REPLICA = "storage-node/replica/replica.ts";
const WAL = "storage-node/wal/wal.ts";
const REPLAY = "storage-node/wal/replay.ts";

const WAITERS_BY_INDEX = {
  file: REPLICA,
  find: "if (proposed.term !== entry.term) {",
  replace: "if (proposed.term < 0) {",
};

export const STORE_MUTATIONS: readonly Mutation[] = [
  {
    name: "16 clients wait by index alone",
    what: "Whoever waits for an index is answered with what another leader's entry there did.",
    simulation: "replicas",
    edits: [
      WAITERS_BY_INDEX,
      {
        file: REPLICA,
        find:
          "    for (const entry of this.#proposed.takeAll())\n" +
          "      for (const write of entry.writes) write.reply(proposed);",
        replace: "    void proposed;",
      },
      {
        file: REPLICA,
        find: 'assert(proposed.index === entry.index, "every entry that is waited for is applied");',
        replace: "assert(proposed.index <= entry.index);",
      },
      {
        file: REPLICA,
        find: "writes[i]!.reply(outcomes[i]!);",
        replace:
          'writes[i]!.reply(outcomes[i] ?? { kind: "write", applied: true, ' +
          "mutations: [{ status: 1, revision: 1 as never, created: true }] });",
      },
    ],
  },
  {
    name: "16 losing the lead means not applied",
    what: "Proposals under way are answered as not applied, though the next leader may commit them.",
    simulation: "replicas",
    edits: [
      {
        file: REPLICA,
        find: "const proposed = this.notLeader(false);",
        replace: "const proposed = this.notLeader(true);",
      },
    ],
  },
  {
    name: "17 requests are forgotten by a restart",
    what: "A replica that starts does not load the results of requests that may be repeated.",
    simulation: "replicas",
    edits: [
      {
        file: LOAD,
        find: "      state.dedupe.record(requestId, deadlineMs, result);\n",
        replace: "",
      },
    ],
  },
  {
    name: "17 requests are forgotten before their deadline",
    what: "A result is kept until the log time of its entry instead of its deadline.",
    simulation: "replicas",
    edits: [
      {
        file: MACHINE,
        find: "state.dedupe.record(requestId, deadlineMs, result);",
        replace: "state.dedupe.record(requestId, state.logTimeMs, result);",
      },
    ],
  },
  {
    name: "17 late copies are let in",
    what: "A copy that comes after its deadline, when its result is forgotten, is applied.",
    simulation: "replicas",
    edits: [
      {
        file: "storage-node/machine/command.ts",
        find: "if (deadlineMs < logTimeMs && (deadlineMs !== 0 || requestId.length !== 0)) {",
        replace: "if (logTimeMs < 0) {",
      },
      {
        file: "storage-node/node.ts",
        find: "if (command.deadlineMs < this.#parts.clock.nowMs()) {",
        replace: "if (command.deadlineMs < 0) {",
      },
    ],
  },
  {
    name: "18 failed sync is ignored",
    what: "A batch counts as durable although its sync failed.",
    simulation: "replicas",
    edits: [
      {
        file: WAL,
        find: "file.datasync((error) => (error ? this.#fail(error) : this.#onDurable(batch)));",
        replace: "file.datasync(() => this.#onDurable(batch));",
      },
    ],
  },
  {
    name: "18 failed write is ignored",
    what: "A batch is synced and counts as durable although its write failed.",
    simulation: "replicas",
    edits: [
      {
        file: WAL,
        find: "if (failure) this.#fail(failure);\n      else file.datasync",
        replace: "void failure;\n      file.datasync",
      },
    ],
  },
  {
    name: "19 torn end is taken for damage",
    what: "A log whose last batch is incomplete is refused.",
    simulation: "power-loss",
    edits: [
      {
        file: REPLAY,
        find: "    return Math.max(position, dirtyEnd);",
        replace:
          '    if (dirtyEnd > position) throw corrupt(name, position, "the last batch is damaged");\n' +
          "    return position;",
      },
    ],
  },
  {
    name: "19 damage is taken for a torn end",
    what: "A damaged batch is cut off with all that was acknowledged behind it.",
    simulation: "replicas",
    edits: [
      {
        file: REPLAY,
        find: "if (frame === undefined) continue;",
        replace: "if (frame === undefined || frame.durable >= 0) continue;",
      },
    ],
  },
  {
    name: "20 applied index is written first",
    what: "The row that marks an entry as applied is written a little before the entry's effects.",
    simulation: "replicas",
    edits: [
      {
        file: PUMP,
        find: "    this.#view.finish();\n",
        replace:
          "    this.#options.engine.write(this.#batch);\n" +
          "    this.#batch.clear();\n" +
          "    this.#view.finish();\n",
      },
      {
        file: PUMP,
        find: "    const written = engine.write(this.#batch);",
        replace:
          "    const written: MaybePromise<void> = new Promise<void>((resolve) => setImmediate(resolve)).then(() =>\n" +
          "      engine.write(this.#batch),\n" +
          "    );",
      },
    ],
  },
  {
    name: "20 applied index is written last",
    what: "An entry's effects are written a little before the row that marks it as applied.",
    simulation: "replicas",
    edits: [
      {
        file: PUMP,
        find: "    this.#view.finish();\n",
        replace:
          "    const marks = this.#options.engine.batch();\n" +
          "    const { keys, values } = this.#batch as unknown as {\n" +
          "      keys: readonly Uint8Array[];\n" +
          "      values: readonly (Uint8Array | undefined)[];\n" +
          "    };\n" +
          "    keys.forEach((key, i) => (values[i] ? marks.put(key, values[i]) : marks.delete(key)));\n" +
          "    this.#batch.clear();\n" +
          "    this.#view.finish();\n" +
          "    this.#options.engine.write(this.#batch);\n" +
          "    Object.assign(this, { marks });\n",
      },
      {
        file: PUMP,
        find: "    const written = engine.write(this.#batch);",
        replace:
          "    const { marks } = this as unknown as { readonly marks: EngineBatch };\n" +
          "    const written: MaybePromise<void> = new Promise<void>((resolve) => setImmediate(resolve)).then(() =>\n" +
          "      engine.write(marks),\n" +
          "    );",
      },
    ],
  },
  {
    name: "20 applied before the batch is written",
    what: "Entries count as applied, and reads are served, before the engine holds their effects.",
    simulation: "replicas",
    edits: [
      {
        file: PUMP,
        find: "    const written = engine.write(this.#batch);",
        replace:
          "    this.#finish(runs, steps, startedMs);\n" +
          "    const written = new Promise<void>((resolve) => setImmediate(resolve)).then(() =>\n" +
          "      engine.write(this.#batch),\n" +
          "    );",
      },
      { file: PUMP, find: "    this.#finish(runs, steps, endedMs);\n", replace: "" },
    ],
  },
  {
    name: "20 no wait for a moment between rounds",
    what: "Snapshots, hashes and the directory take rows that lack what the machine has applied.",
    simulation: "cluster",
    edits: [
      {
        file: PUMP,
        find: "      else if (this.#running) this.#betweenRounds.push(start);\n",
        replace: "",
      },
    ],
  },
  {
    name: "21 wall clock in apply",
    what: "Rows are stamped with the time of whoever applies them.",
    simulation: "replicas",
    edits: [
      {
        file: MACHINE,
        find: "const { logTimeMs: modifiedAtMs } = state;",
        replace: "const modifiedAtMs = Date.now();",
      },
    ],
  },
  {
    name: "21 dice in apply",
    what: "The expiry of a key is spread by a random number of the replica's own.",
    simulation: "replicas",
    edits: [
      {
        file: MACHINE,
        find: "ttlMs === 0 ? 0 : state.logTimeMs + ttlMs;",
        replace: "ttlMs === 0 ? 0 : state.logTimeMs + ttlMs + Math.floor(Math.random() * 8);",
      },
    ],
  },
  {
    name: "21 order depends on what was loaded",
    what: "A restarted machine holds a list in another order than one that went on.",
    simulation: "replicas",
    edits: [
      {
        file: LOAD,
        find: "state.bareRows = bareRowsNewestFirst.reverse();",
        replace: "state.bareRows = bareRowsNewestFirst;",
      },
    ],
  },
  {
    name: "21 result depends on the round",
    what: "What an entry does depends on which other entries are applied together with it.",
    simulation: "replicas",
    edits: [
      {
        file: PUMP,
        find: "const { index, term } = step.entry;",
        replace:
          "const { index, term } = step.entry;\n" +
          "      if (step.body && steps[0]?.body) Object.assign(step.body, { logTimeMs: steps[0].body.logTimeMs });",
      },
    ],
  },
  {
    name: "24 lost log is taken for a new one",
    what: "A replica whose log is gone, but not its state, begins an empty log and votes again.",
    simulation: "replicas",
    edits: [
      {
        file: "storage-node/replica/open-groups.ts",
        find: "  throw new KvError(\n",
        replace: "  if (appliedTerm >= 0) return;\n  throw new KvError(\n",
      },
    ],
  },
  {
    name: "25 name of a new segment is not synced",
    what: "A segment is synced under its temporary name, and renamed without a sync of the directory.",
    simulation: "power-loss",
    edits: [
      {
        file: "storage-node/wal/segment.ts",
        find: "  await syncDirectory(fs, names.directory);\n",
        replace: "",
      },
    ],
  },
  {
    name: "25 removals of segments are not synced",
    what: "Old segments are removed without a sync between them, so that a hole can be left.",
    open: "seems to need two segments that become obsolete at once, which no run has had",
    simulation: "replicas",
    edits: [
      {
        file: WAL,
        find: "      await syncDirectory(fs, directory);\n",
        replace: "",
      },
    ],
  },
];
