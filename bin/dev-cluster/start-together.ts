/**
 * Starts members at the same moment, since storage nodes that found a cluster wait for one another, and
 * tells how far it is. The whole may take as long as something moves.
 */
import type { Clock } from "#shared/clock.ts";
import { KvError } from "#shared/errors.ts";
import { DEV_PROGRESS_INTERVAL_MS, DEV_START_TIMEOUT_MS } from "#shared/limits.ts";
import { type Member, StartFailed } from "./member.ts";
import { describeEnd, logTail } from "./processes.ts";

const POLL_MS = 100;

export type Starting = {
  readonly member: Member;
  /** Asked once the member serves: what it still waits for, or undefined when it is ready. */
  readonly waitsFor?: () => Promise<string | undefined>;
  /** Said when it is ready, such as "serves on 127.0.0.1:7400". */
  readonly readyText: () => string;
};

export type StartTogetherOptions = {
  readonly clock: Clock;
  readonly report: (line: string) => void;
};

/** @throws KvError UNAVAILABLE with the end of the log of a process that ended, or is not ready */
export async function startTogether(
  starting: readonly Starting[],
  { clock, report }: StartTogetherOptions,
): Promise<void> {
  const beganMs = clock.monotonicMs();
  let progressMs = beganMs;
  let reportedMs = beganMs;
  let failure: unknown;
  /** What each member that is not ready waits for. */
  const waiting = new Map(starting.map(({ member }) => [member, "to start"]));
  const isOver = (): boolean => failure !== undefined || waiting.size === 0;
  const begin = async ({ member, waitsFor, readyText }: Starting): Promise<void> => {
    await member.start();
    progressMs = clock.monotonicMs();
    while (waitsFor !== undefined && !isOver()) {
      const reason = await waitsFor();
      if (member.phase !== "serving") {
        // It may have been told to stop meanwhile, and not be done with that.
        await member.ended();
        throw new StartFailed(member.lastEnd!);
      }
      if (reason === undefined) break;
      waiting.set(member, reason);
      await sleep(clock, POLL_MS);
    }
    progressMs = clock.monotonicMs();
    waiting.delete(member);
    report(`${member.name} ${readyText()}`);
  };
  for (const one of starting) {
    void begin(one).catch((error: unknown) => {
      failure ??=
        error instanceof StartFailed ? failureOf(one.member, describeEnd(error.end)) : error;
    });
  }
  while (!isOver()) {
    const nowMs = clock.monotonicMs();
    if (nowMs - progressMs >= DEV_START_TIMEOUT_MS) {
      const [member, reason] = [...waiting][0]!;
      failure = failureOf(member, `did not become ready: it waits ${reason}`);
    } else if (nowMs - reportedMs >= DEV_PROGRESS_INTERVAL_MS) {
      reportedMs = nowMs;
      const seconds = Math.round((nowMs - beganMs) / 1000);
      const waits = [...waiting].map(([{ name }, reason]) => `${name} waits ${reason}`);
      report(`after ${seconds} s: ${waits.join("; ")}`);
    } else {
      await sleep(clock, POLL_MS);
    }
  }
  if (failure !== undefined) throw failure;
}

function failureOf({ name, logPath }: Member, what: string): KvError {
  const tail = logTail(logPath);
  const end = tail === "" ? "Its log is empty." : `The end of its log, ${logPath}:\n${tail}`;
  return new KvError("UNAVAILABLE", `${name} ${what}. ${end}`);
}

const sleep = (clock: Clock, delayMs: number): Promise<void> =>
  new Promise((resolve) => void clock.after(delayMs, resolve));
