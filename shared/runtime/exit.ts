/**
 * Ends this process at once with an exit code, whatever its threads are at.
 *
 * `process.exit` is not that: it waits for every thread of Node's pool, so forever for a disk that hangs, and it ends
 * the other threads in order. So the process becomes `sh -c "exit CODE"`: the system then ends all threads, closes the
 * files and releases the locks, as after `kill -9`, and the code is what it has to be. It works for the first process
 * of a container too, which no signal of its own ends.
 *
 * Listeners of "exit" have run before. Whatever is not synchronous is lost. Only for the main thread.
 */
const SHELL = "/bin/sh";

/** What is used of `process`. */
export type ExitingProcess = {
  emit(event: "exit", code: number): unknown;
  /** Does not return. Throws where the system cannot do it; absent where there is no such thing. */
  execve?(file: string, args: readonly string[], env: Record<string, string>): void;
  exit(code: number): void;
};

export function endAtOnce(code: number, self: ExitingProcess = process): void {
  try {
    self.emit("exit", code);
  } catch {
    // What a listener cannot do any more keeps nothing from ending.
  }
  try {
    self.execve?.(SHELL, ["sh", "-c", `exit ${code}`], {});
  } catch {
    // No shell, or not allowed to: as well as Node can.
  }
  self.exit(code);
}
