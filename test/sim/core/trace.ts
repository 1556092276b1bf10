/** The last events of a run in words. Kept only when somebody will read them: it is slow. */
import { describeWrite } from "#storage-node/raft/testing/describe.ts";
import type { Ready } from "#storage-node/raft/types.ts";

export class Trace {
  readonly #linesMax: number;
  #lines: string[] = [];
  /** What came before the faults ended: where a run that does not recover went wrong. */
  #before: readonly string[] = [];
  #event = 0;

  constructor(linesMax: number) {
    this.#linesMax = linesMax;
  }

  event(index: number): void {
    this.#event = index;
  }

  note(line: string): void {
    this.#lines.push(`${String(this.#event).padStart(6)}  ${line}`);
    if (this.#lines.length > 2 * this.#linesMax) this.#lines.splice(0, this.#linesMax);
  }

  ready(id: number, ready: Ready): void {
    const { reset, committed, snapshotsDue } = ready;
    const parts: string[] = [];
    if (ready.mustSync) parts.push(`writes ${describeWrite(ready)}`);
    if (reset !== undefined) {
      parts.push(`reset to ${reset.start.index}${reset.install ? ", installs" : ""}`);
    }
    if (committed.length > 0)
      parts.push(`applies ${committed[0]!.index}..${committed.at(-1)!.index}`);
    if (snapshotsDue.length > 0) parts.push(`snapshots due for ${snapshotsDue.join(" ")}`);
    if (parts.length > 0) this.note(`   ${id} ${parts.join("; ")}`);
  }

  faultsEnd(): void {
    this.#before = this.#lines.slice(-this.#linesMax);
    this.#lines = [];
    this.note("all faults are over");
  }

  text(): string {
    const skipped = this.#before.length > 0 ? ["        …"] : [];
    return [...this.#before, ...skipped, ...this.#lines.slice(-this.#linesMax)].join("\n");
  }
}
