/**
 * The gateway in a thread of its own, as seen from the thread that starts it.
 *
 * The thread runs `thread-main.ts`: HTTP and the storage client. Two ports lead to it. One carries
 * the Operate stream to the storage node, and is not looked at here; the other carries what is asked
 * of the thread: to serve, and to carry out its stop steps, one at a time. On the latter the thread also
 * asks, on its part, what operators want to know of the cluster and do with it, and for the directory.
 *
 * The two threads are one server, so neither goes on without the other: whatever ends the thread is
 * told to `onDeath`, which ends the process.
 */
import { type MessagePort, Worker } from "node:worker_threads";
import { assert } from "#shared/assert.ts";
import { ConfigError } from "#shared/runtime/config.ts";
import type { HostPort } from "#shared/runtime/config-value.ts";
import type { LogLevel } from "#shared/runtime/log.ts";
import type { MetricFamily } from "#shared/runtime/metrics.ts";
import {
  answerAsk,
  type ClusterAnswer,
  type ClusterAsk,
  type ClusterHandler,
} from "./cluster/port-cluster-rpc.ts";
import type { EdgeConfig } from "./edge-settings.ts";
import { answerMetrics, type MetricsAnswer, type MetricsAsk } from "./metrics/port-metrics.ts";
import type { Serving } from "./serve.ts";

/** What the thread has from its start. */
export type GatewayThreadData = {
  readonly listen: HostPort;
  readonly edge: EdgeConfig;
  readonly logLevel: LogLevel;
  /** Field `program` of its log lines. */
  readonly program: string;
};

/** Where its storage is. */
export type GatewayThreadStorage = {
  /** The gateway's end of the Operate stream. */
  readonly port: MessagePort;
  readonly clusterId: string;
};

/** What is answered. */
export type ThreadTask =
  | ({ readonly kind: "serve" } & GatewayThreadStorage)
  | { readonly kind: "stop"; readonly step: number; readonly remainingMs: number };

export type ThreadRequest =
  | ClusterAnswer
  | MetricsAnswer
  | ThreadTask
  /** `logLevel` is what the configuration says now, where it was read again. */
  | { readonly kind: "reload"; readonly logLevel: LogLevel | undefined };
/** From the thread: what is written from now on, by all of the process. */
export type LevelNews = { readonly kind: "logLevel"; readonly level: LogLevel };
/** From the thread, with one end of a stream. */
export type PortAsk =
  | { readonly kind: "followDirectory"; readonly port: MessagePort }
  | { readonly kind: "openChanges"; readonly port: MessagePort };

/** What the thread may ask of the storage node's side. */
export type ThreadHandler = ClusterHandler & {
  /** Figures of the node and its thread. */
  readonly metrics: () => Promise<readonly MetricFamily[]>;
};

/** To what was asked of the thread. */
export type ThreadReply =
  | {
      readonly kind: "serving";
      readonly url: string;
      readonly stopSteps: readonly string[];
      readonly isReloadable: boolean;
    }
  | { readonly kind: "stopped" }
  /** Neither the code of a system's error nor the class of any travels with the error. */
  | {
      readonly kind: "failed";
      readonly error: unknown;
      readonly code: string | undefined;
      readonly isConfig: boolean;
    };

/** What the gateway's thread does, as seen from the thread that started it. */
export type ThreadServing = Pick<Serving, "url" | "stopSteps"> & {
  /** Looks at files that may have been replaced, and takes a log level over that was read again. */
  readonly reload: (logLevel?: LogLevel) => void;
  /** Whether there are such files. */
  readonly isReloadable: boolean;
};

export type GatewayThreadOptions = GatewayThreadData & {
  /** After `serve` has resolved: the gateway is gone, and the process must end at once. */
  readonly onDeath: (error: unknown) => void;
  /** An operator has changed the level of the process. */
  readonly onLogLevel?: (level: LogLevel) => void;
  /** For tests. */
  readonly entry?: URL;
};

type FromThread = ThreadReply | ClusterAsk | PortAsk | MetricsAsk | LevelNews;

type Waiting = {
  readonly resolve: (reply: ThreadReply) => void;
  readonly reject: (error: unknown) => void;
};

export class GatewayThread {
  readonly #worker: Worker;
  readonly #onDeath: (error: unknown) => void;
  #waiting: Waiting | undefined;
  #cluster: ThreadHandler | undefined;
  #serves = false;
  #dead: { readonly error: unknown } | undefined;

  /** Starts the thread, which loads its code meanwhile and waits for `serve`. */
  constructor({ entry, onDeath, onLogLevel, ...workerData }: GatewayThreadOptions) {
    this.#onDeath = onDeath;
    const url = entry ?? new URL("./thread-main.ts", import.meta.url);
    this.#worker = new Worker(url, { workerData, name: "gateway" });
    this.#worker.on("message", (reply: FromThread) => {
      if (reply.kind === "logLevel") {
        onLogLevel?.(reply.level);
        return;
      }
      if (reply.kind === "askMetrics") {
        void this.#tellMetrics(reply);
        return;
      }
      if (reply.kind === "askCluster") {
        void this.#answer(reply);
        return;
      }
      if (reply.kind === "followDirectory" || reply.kind === "openChanges") {
        this.#cluster?.[reply.kind](reply.port);
        return;
      }
      const waiting = this.#waiting;
      this.#waiting = undefined;
      waiting?.resolve(reply);
    });
    this.#worker.on("error", (error) => this.#die(error));
    this.#worker.on("exit", (code) => {
      this.#die(new Error(`the gateway's thread ended with exit code ${code}`));
    });
  }

  /**
   * Resolves once requests are taken; `cluster` answers what operators ask.
   *
   * @throws what keeps it from listening
   */
  async serve(storage: GatewayThreadStorage, cluster: ThreadHandler): Promise<ThreadServing> {
    this.#cluster = cluster;
    const reply = await this.#ask({ kind: "serve", ...storage }, [storage.port]);
    assert(reply.kind === "serving", "a thread that is to serve says that it does");
    this.#serves = true;
    const reload = (logLevel?: LogLevel): void => {
      if (this.#dead === undefined) this.#worker.postMessage({ kind: "reload", logLevel });
    };
    return {
      url: reply.url,
      reload,
      isReloadable: reply.isReloadable,
      stopSteps: reply.stopSteps.map((name, step) => ({
        name,
        run: async (remainingMs) => void (await this.#ask({ kind: "stop", step, remainingMs })),
      })),
    };
  }

  /** For tests; a process ends with all its threads. */
  async terminate(): Promise<void> {
    this.#dead ??= { error: new Error("the thread was terminated") };
    await this.#worker.terminate();
  }

  #ask(request: ThreadTask, transfer: readonly MessagePort[] = []): Promise<ThreadReply> {
    assert(this.#waiting === undefined, "the thread is asked one thing at a time");
    return new Promise<ThreadReply>((resolve, reject) => {
      this.#waiting = { resolve, reject };
      if (this.#dead) reject(this.#dead.error);
      else this.#worker.postMessage(request, transfer);
    }).then((reply) => {
      if (reply.kind !== "failed") return reply;
      const { error, code, isConfig } = reply;
      if (isConfig && error instanceof Error) throw new ConfigError(error.message);
      throw error instanceof Error && code !== undefined ? Object.assign(error, { code }) : error;
    });
  }

  async #answer(ask: ClusterAsk): Promise<void> {
    assert(this.#cluster !== undefined, "the thread asks nothing before it serves");
    const answer = await answerAsk(this.#cluster, ask);
    if (this.#dead === undefined) this.#worker.postMessage(answer);
  }

  async #tellMetrics(ask: MetricsAsk): Promise<void> {
    const read = this.#cluster?.metrics ?? (async () => []);
    const answer = await answerMetrics(read, ask);
    if (this.#dead === undefined) this.#worker.postMessage(answer);
  }

  #die(error: unknown): void {
    if (this.#dead) return;
    this.#dead = { error };
    this.#waiting?.reject(error);
    if (this.#serves) this.#onDeath(error);
  }
}
