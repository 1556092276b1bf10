/**
 * Work in the background that one gateway of the cluster at a time does: what a job is.
 *
 * A job is the row `job/<kind>/<id>` of the directory. It is made in the same change as its cause
 * (`newJob`), so that there is none without the other, and its row goes with the change that ends it.
 * Whatever gateway is free takes it; when that gateway dies, another goes on where it was last saved.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DirectoryMutation, DirectoryRow } from "#gateway/directory/directory.ts";
import { type JobRecord, JobRecordSchema } from "#proto/gen/minikv/v1/directory_pb.ts";

export const JOB_ROWS = "job/";

export type JobStepContext = {
  /** The part of the job's name behind its kind. */
  readonly id: string;
  /** Wall clock; the step should have ended by then. Its calls to storage take this as their deadline. */
  readonly deadlineMs: number;
  /** The gateway stops: the step should end soon, with what it has done. */
  readonly isStopping: () => boolean;
};

export type JobStep =
  /** The next step comes after `pauseMs`, at once by default. */
  | { readonly kind: "more"; readonly progress: Uint8Array; readonly pauseMs?: number }
  /**
   * The job's row goes together with these changes, or, when one of their rows is not as expected,
   * neither: then the step is run again.
   */
  | { readonly kind: "done"; readonly mutations?: readonly DirectoryMutation[] };

export type JobKind = {
  /** `[a-z-]+`: jobs of this kind are named `<kind>/<id>`. */
  readonly kind: string;
  /**
   * Does a bounded piece of the work from where `progress` says.
   *
   * Two gateways may run the same step, also at the same time: one whose lease ran out while it was
   * held up goes on until it next saves. So a step is idempotent, and harmless beside itself. What it
   * throws is logged, and the step is tried again, with growing pauses, here or elsewhere.
   */
  step(progress: Uint8Array, context: JobStepContext): Promise<JobStep>;
};

/** The change that makes a job; it fails when there is one of that name. */
export function newJob(name: string, progress: Uint8Array, nowMs: number): DirectoryMutation {
  const record = create(JobRecordSchema, { progress, startedAtMs: BigInt(nowMs) });
  return {
    name: JOB_ROWS + name,
    value: toBinary(JobRecordSchema, record),
    expectedRevision: 0,
  };
}

/** What the job in a row of the directory has written down; undefined when that cannot be read. */
export function jobRecordOf({ value }: Pick<DirectoryRow, "value">): JobRecord | undefined {
  try {
    return fromBinary(JobRecordSchema, value);
  } catch {
    return undefined;
  }
}
