/** Processes that are none: a test says when one serves, and sees which signals it got. */
import type {
  ProcessEnd,
  ProcessSpec,
  RunningProcess,
  SpawnProcess,
} from "#bin/dev-cluster/processes.ts";

export class FakeProcess implements RunningProcess {
  readonly pid: number;
  readonly args: readonly string[];
  readonly ended: Promise<ProcessEnd>;
  readonly signals: string[] = [];
  /** Takes SIGTERM as real ones do. */
  obedient = true;
  readonly #onLine: (line: string) => void;
  readonly #end: (end: ProcessEnd) => void;
  #frozen = false;

  constructor(pid: number, { args }: ProcessSpec, onLine: (line: string) => void) {
    this.pid = pid;
    this.args = args;
    this.#onLine = onLine;
    const { promise, resolve } = Promise.withResolvers<ProcessEnd>();
    this.ended = promise;
    this.#end = resolve;
  }

  get kind(): string {
    return this.args[0]!;
  }

  flag(name: string): string | undefined {
    const at = this.args.indexOf(name);
    return at < 0 ? undefined : this.args[at + 1];
  }

  /** Prints the line by which a program says that it serves. */
  serve(id = 1): void {
    const address = this.flag("--listen");
    if (this.kind === "gateway") this.#onLine(`minikv gateway 1 serves http://${address}, …`);
    else
      this.#onLine(`minikv storage-node 1 serves gRPC on ${address}, node ${id} of cluster c, …`);
  }

  end(code: number | null, signal: string | null = null): void {
    this.#end({ code, signal });
  }

  signal(name: NodeJS.Signals): void {
    this.signals.push(name);
    if (name === "SIGKILL") this.end(null, name);
    if (name === "SIGSTOP") this.#frozen = true;
    if (name === "SIGCONT") this.#frozen = false;
    const isTold = this.signals.includes("SIGTERM") && !this.#frozen;
    if (isTold && this.obedient) this.end(0);
  }
}

export class FakeProcesses {
  /** Oldest first. */
  readonly all: FakeProcess[] = [];

  readonly spawn: SpawnProcess = (spec, onLine) => {
    const fake = new FakeProcess(1_000 + this.all.length, spec, onLine);
    this.all.push(fake);
    return fake;
  };

  /** The latest that listens on this address. */
  at(address: string): FakeProcess {
    return this.all.findLast((fake) => fake.flag("--listen") === address)!;
  }
}
