/**
 * A NATS server as a process of a test, on 127.0.0.1: killed and started again on the same port.
 *
 * Killed by its id when this process ends, whatever happened. Knows no test runner.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findFreePorts } from "#bin/dev-cluster/ports.ts";
import { systemRandom } from "#shared/random.ts";
import { findProgram } from "./programs.ts";

const HOST = "127.0.0.1";
const START_TIMEOUT_MS = 10_000;

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export type NatsServerOptions = {
  /** The server's configuration, but for where it listens. */
  readonly config?: string;
  /** Where it runs, for relative paths in the configuration. */
  readonly directory?: string;
  /** Added to its environment. */
  readonly env?: Readonly<Record<string, string>>;
};

export class NatsServer {
  readonly port: number;
  readonly #options: NatsServerOptions;
  readonly #directory: string;
  readonly #program: string;
  #child: ChildProcess | undefined;
  log = "";

  private constructor(port: number, options: NatsServerOptions) {
    const program = findProgram("nats-server");
    if (program === undefined) throw new Error("nats-server is not installed");
    this.#program = program;
    this.#options = options;
    this.port = port;
    this.#directory = mkdtempSync(join(tmpdir(), "minikv-nats-"));
    this.configure(options.config ?? "");
  }

  /** On a port that was free. */
  static async start(options: NatsServerOptions = {}): Promise<NatsServer> {
    const [port] = await findFreePorts({ host: HOST, count: 1, random: systemRandom() });
    const server = new NatsServer(port!, options);
    await server.restart();
    return server;
  }

  get url(): string {
    return `nats://${this.address}`;
  }

  get address(): string {
    return `${HOST}:${this.port}`;
  }

  get #configPath(): string {
    return join(this.#directory, "nats.conf");
  }

  /** For the next start. */
  configure(config: string): void {
    writeFileSync(this.#configPath, `${config}\n`);
  }

  /** Starts it if it has ended, and waits until it listens. */
  async restart(): Promise<void> {
    if (this.#child !== undefined) return;
    const { directory = this.#directory, env = {} } = this.#options;
    // Flags win over the file: whatever that says, it listens here only.
    const args = ["--config", this.#configPath, "--addr", HOST, "--port", String(this.port)];
    const child = spawn(this.#program, args, {
      cwd: directory,
      env: { ...process.env, ...env },
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#child = child;
    running.add(child);
    child.stderr!.on("data", (chunk: Buffer) => {
      this.log += chunk.toString();
    });
    child.on("exit", () => {
      running.delete(child);
      if (this.#child === child) this.#child = undefined;
    });
    await this.#listens(child);
  }

  async #listens(child: ChildProcess): Promise<void> {
    const untilMs = performance.now() + START_TIMEOUT_MS;
    while (performance.now() < untilMs && this.#child === child) {
      const socket = connect(this.port, HOST);
      const [connected] = await Promise.race([
        once(socket, "connect").then(
          () => [true],
          () => [false],
        ),
        once(child, "exit").then(() => [false]),
      ]);
      socket.destroy();
      if (connected) return;
      await sleep(20);
    }
    throw new Error(`nats-server does not start: ${this.log}`);
  }

  /** SIGKILL, and waits for the end. */
  async kill9(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }

  /** SIGSTOP: it keeps its sockets, and does nothing. */
  pause(): void {
    this.#child?.kill("SIGSTOP");
  }

  resume(): void {
    this.#child?.kill("SIGCONT");
  }

  /** Ends it, and removes what it had. */
  async close(): Promise<void> {
    await this.kill9();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
