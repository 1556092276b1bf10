/** How long entries of the log took that were proposed here; metrics and the log of slow operations read it. */
import type { GroupId } from "#shared/ids.ts";
import { LatencyHistogram } from "#shared/latency-histogram.ts";
import type { EntryObserver } from "./replica/timeline.ts";
import type { ProposedEntry } from "./replica/waiting.ts";

export class EntryFigures implements EntryObserver {
  /** From the proposal of an entry until it was committed. */
  readonly commits = new LatencyHistogram();
  /** Entries that take longer are told to `onSlow`. */
  slowMs = Number.POSITIVE_INFINITY;
  onSlow: (group: GroupId, entry: ProposedEntry) => void = () => undefined;

  answered(group: GroupId, entry: ProposedEntry): void {
    this.commits.observe(entry.committedMs - entry.proposedMs);
    if (entry.appliedMs - entry.receivedMs > this.slowMs) this.onSlow(group, entry);
  }
}
