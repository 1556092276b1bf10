/**
 * One short life of a log that goes through everything a log does, with something going wrong at
 * exactly one file operation: each of them, in every way.
 *
 * The life: appends of two groups, a lazy record, a seal and a batch over it, segments that end, one
 * larger than a segment, a cut suffix, compaction, snapshots, removal of segments and of groups, close,
 * and further starts.
 */
import { assert } from "#shared/assert.ts";
import { ManualClock } from "#shared/clock.ts";
import { type LogIndex, toGroupId, toReplicaId } from "#shared/ids.ts";
import { WAL_IDLE_MS, WAL_SPACE_RETRY_MS } from "#shared/limits.ts";
import { SeededRandom } from "#shared/random.ts";
import { afterRecords, describeState, type LogState } from "#storage-node/wal/log-model.ts";
import {
  type Keep,
  MemoryFileSystem,
  type Operation,
  type Verdict,
} from "#storage-node/wal/memory-file-system.ts";
import { PREPARED_NAME } from "#storage-node/wal/reserve.ts";
import {
  compact,
  entries,
  entry,
  GROUP,
  hardState,
  remove,
  snapshot,
  truncate,
} from "#storage-node/wal/test-support.ts";
import type { Wal, WalRecord } from "#storage-node/wal/types.ts";
import { turn } from "./completions.ts";
import { openLog } from "./open-log.ts";

/** What happens at the operation; undefined where it cannot happen to one of this kind. */
const MISHAPS = {
  "no answer, ever": () => ({ kind: "lost" }),
  EIO: () => ({ kind: "fail", code: "EIO" }),
  "EIO, done all the same": () => ({ kind: "fail", code: "EIO", effect: "all" }),
  ENOSPC: () => ({ kind: "fail", code: "ENOSPC" }),
  "EIO, half done": ({ kind }) =>
    kind === "write" ? { kind: "fail", code: "EIO", effect: "half" } : undefined,
  "short write": ({ kind }) => (kind === "write" ? { kind: "short" } : undefined),
  "EIO, nothing synced, pages clean": ({ kind }) =>
    kind === "datasync" ? { kind: "fail", code: "EIO", marksClean: () => false } : undefined,
  "EIO, half synced, pages clean": ({ kind }) =>
    kind === "datasync" ? { kind: "fail", code: "EIO", marksClean: everyOther() } : undefined,
} as const satisfies Record<string, (operation: Operation) => Verdict>;
export type Mishap = keyof typeof MISHAPS;
export const MISHAP_NAMES = Object.keys(MISHAPS) as readonly Mishap[];

function everyOther(): () => boolean {
  let count = 0;
  return () => count++ % 2 === 0;
}

const LOSE_ALL: Keep = { sector: () => false, name: () => false };

/** What the machine does then, as one disk makes another. */
const ENDS: Readonly<Record<string, (fs: MemoryFileSystem) => MemoryFileSystem>> = {
  "process killed": (fs) => fs.restarted(),
  "page cache gone": (fs) => {
    const next = fs.restarted();
    next.evict();
    return next;
  },
  "power loss": (fs) => fs.crash(LOSE_ALL),
  "power loss, all on disk": (fs) => fs.crash({ sector: () => true, name: () => true }),
  "power loss, torn": (fs) => fs.crash({ sector: everyOther(), name: everyOther() }),
  "power loss, torn inside sectors": (fs) =>
    fs.crash({ sector: (sizeBytes) => sizeBytes >> 1, name: () => true }),
};

type Attempt = {
  readonly fs: MemoryFileSystem;
  readonly operations: readonly Operation[];
  /** After each append. */
  readonly states: readonly LogState[];
  /** Position in `states`. */
  readonly acknowledged: number;
  /** The error came out: by `onFatal`, or from the opening or closing. */
  readonly failed: boolean;
  /** All went to the end. */
  readonly finished: boolean;
};

/** The operations of an undisturbed life. */
export async function operationsOfLife(): Promise<readonly Operation[]> {
  const attempt = await live(() => undefined);
  assert(attempt.finished && !attempt.failed, "the undisturbed life comes to its end");
  assert(attempt.acknowledged === attempt.states.length - 1, "all is acknowledged at the end");
  return attempt.operations;
}

/**
 * Lives with `mishap` at operation `number` (from 1 on), then checks what every end leaves. False when
 * the mishap cannot happen there.
 */
export async function tryMishap(mishap: Mishap, number: number): Promise<boolean> {
  let struck: Operation | undefined;
  const attempt = await live((operation, count) => {
    // A machine that does not answer once never answers again.
    if (count > number && mishap === "no answer, ever") return { kind: "lost" };
    if (count !== number) return undefined;
    const verdict = MISHAPS[mishap](operation);
    if (verdict !== undefined) struck = operation;
    return verdict;
  });
  if (struck === undefined) return false;
  const where = `${mishap} at operation ${number}, ${struck.kind} of ${struck.path}`;
  const isPreparation = struck.path.endsWith(PREPARED_NAME) || struck.kind === "freeBytes";
  const mayLiveOn = isPreparation && (mishap === "ENOSPC" || mishap === "short write");
  if (mishap !== "no answer, ever" && !mayLiveOn)
    assert(attempt.failed, `${where}: nobody noticed`);
  for (const [end, apply] of Object.entries(ENDS)) await check(attempt, apply, `${where}; ${end}`);
  return true;
}

async function check(
  { fs, states, acknowledged }: Attempt,
  end: (fs: MemoryFileSystem) => MemoryFileSystem,
  where: string,
): Promise<void> {
  const after = end(fs);
  const found = await recovered(after, where);
  const text = describeState(found.recovery.groups);
  const number = states.findLastIndex((state) => describeState(state) === text);
  assert(number >= 0, `${where}: the log holds what was never written`);
  assert(number >= acknowledged, `${where}: ${acknowledged} was acknowledged, found ${number}`);
  // What was found is relied on: no power loss may take it away again, nor what comes behind it.
  const isThere = found.recovery.groups.has(GROUP);
  const records = [...(isThere ? [] : [snapshot(0, 0)]), hardState(99, 1, 0)];
  await new Promise<void>((resolve) => found.append(records, resolve));
  const again = await recovered(after.crash(LOSE_ALL), `${where}, then a power loss`);
  const expected = describeState(afterRecords(states[number]!, records));
  assert(describeState(again.recovery.groups) === expected, `${where}: lost after the next start`);
}

async function recovered(fs: MemoryFileSystem, where: string): Promise<Wal> {
  try {
    return await openLog(fs, new ManualClock(), new SeededRandom(1), () => {});
  } catch (error) {
    throw new Error(`${where}: ${(error as Error).message}`, { cause: error });
  }
}

const big = (index: number, sizeBytes: number, term = 1): WalRecord =>
  entries(entry(index, new Uint8Array(sizeBytes).fill(index), term));

const OTHER = toGroupId(4);
const ANOTHER_REPLICA = toReplicaId(77);

/** Lists are appended; of `lazily` and `seal`, names say it; `remove` removes obsolete segments. */
const LIFE: readonly (
  | readonly WalRecord[]
  | "seal"
  | "remove"
  | "restart"
  | { readonly lazily: ReturnType<typeof hardState> }
)[] = [
  [snapshot(0, 0), entries(entry(1), entry(2)), hardState(1, 1, 0)],
  [snapshot(7, 2, OTHER)],
  { lazily: hardState(1, 1, 2) },
  "seal",
  [big(3, 200)],
  [big(4, 3000)],
  [{ kind: "entries", group: OTHER, entries: [entry(8, "eight", 3)] }],
  [big(5, 9000)],
  "seal",
  [truncate(5), big(5, 100, 2), hardState(2, 2, 4)],
  [compact(4, 1)],
  "remove",
  [{ kind: "compactPrefix", group: OTHER, start: { index: 8 as LogIndex, term: 3 as never } }],
  [big(6, 3500, 2)],
  [snapshot(9, 2)],
  "remove",
  "restart",
  [entries(entry(10, "ten", 3)), hardState(3, 1, 9)],
  [big(11, 3500, 3)],
  [remove(OTHER), remove(), snapshot(0, 0, GROUP, ANOTHER_REPLICA), hardState(1, 1, 0)],
  [big(1, 3500)],
  "remove",
  "restart",
  [snapshot(0, 0, OTHER, ANOTHER_REPLICA), entries(entry(2))],
];

async function live(verdict: (operation: Operation, count: number) => Verdict): Promise<Attempt> {
  const life = new Life(verdict);
  await life.all();
  return life;
}

class Life implements Attempt {
  readonly operations: Operation[] = [];
  readonly states: LogState[] = [new Map()];
  readonly fs: MemoryFileSystem;
  acknowledged = 0;
  failed = false;
  finished = false;
  readonly #clock = new ManualClock();
  #wal: Wal | undefined;

  constructor(verdict: (operation: Operation, count: number) => Verdict) {
    this.fs = new MemoryFileSystem({
      intercept: (operation) => {
        this.operations.push(operation);
        return verdict(operation, this.operations.length);
      },
    });
  }

  async all(): Promise<void> {
    if (!(await this.#open())) return;
    for (const step of LIFE) if (!(await this.#step(step))) return;
    this.finished = await this.#done(this.#wal!.close());
  }

  #open(): Promise<boolean> {
    const opening = openLog(this.fs, this.#clock, new SeededRandom(1), () => {
      this.failed = true;
    });
    return this.#done(opening.then((wal) => (this.#wal = wal)));
  }

  /** False when `work` fails, or does not end. */
  async #done(work: Promise<unknown>): Promise<boolean> {
    let ended = false;
    work.then(
      () => {
        ended = true;
      },
      () => {
        this.failed = true;
      },
    );
    await this.#calm();
    return ended && !this.failed;
  }

  /** All that can happen by itself has happened, and the disk had space again. */
  async #calm(): Promise<void> {
    await turn();
    this.#clock.advance(WAL_SPACE_RETRY_MS - WAL_IDLE_MS);
    await turn();
  }

  async #step(step: (typeof LIFE)[number]): Promise<boolean> {
    const wal = this.#wal!;
    if (step === "restart") return (await this.#done(wal.close())) && (await this.#open());
    if (step === "remove") return this.#done(wal.removeObsoleteSegments());
    if (step === "seal") this.#clock.advance(2 * WAL_IDLE_MS);
    else if ("lazily" in step) {
      this.states.push(afterRecords(this.states.at(-1)!, [step.lazily]));
      wal.appendLazily([step.lazily]);
    } else {
      const number = this.states.push(afterRecords(this.states.at(-1)!, step)) - 1;
      wal.append(step, () => {
        assert(!this.failed, "an append is acknowledged after the log has failed");
        this.acknowledged = number;
      });
    }
    await turn();
    if (this.acknowledged < this.states.length - 1 && !this.failed) await this.#calm();
    return !this.failed;
  }
}
