/** A Prometheus of a test: on 127.0.0.1, with storage of its own, killed with the test. */
import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findFreePorts } from "#bin/dev-cluster/ports.ts";
import { systemRandom } from "#shared/random.ts";
import { findProgram } from "#test/processes/programs.ts";

const READY_TIMEOUT_MS = 30_000;
const ANSWER_TIMEOUT_MS = 10_000;
const POLL_MS = 50;

export type ScrapeJob = { readonly job: string; readonly targets: readonly string[] };

/** One series of an instant query. */
export type Sample = {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
};

export type PrometheusRule = {
  readonly name: string;
  readonly query: string;
  readonly health: string;
  readonly lastError?: string;
  readonly type: "alerting" | "recording";
};

export class Prometheus {
  readonly url: string;
  readonly #child: ChildProcess;
  #output = "";

  private constructor(port: number, directory: string, configPath: string) {
    this.url = `http://127.0.0.1:${port}`;
    this.#child = spawn(
      findProgram("prometheus") ?? "prometheus",
      [
        `--config.file=${configPath}`,
        `--storage.tsdb.path=${join(directory, "prometheus")}`,
        `--web.listen-address=127.0.0.1:${port}`,
        "--log.level=warn",
      ],
      { cwd: directory, stdio: ["ignore", "pipe", "pipe"] },
    );
    const take = (text: Buffer): void => {
      this.#output += text.toString();
    };
    this.#child.stdout!.on("data", take);
    this.#child.stderr!.on("data", take);
    this.#child.on("error", (error) => {
      this.#output += error.message;
    });
    process.on("exit", this.#kill);
  }

  /** Scrapes and evaluates each second. @throws Error with what it printed when it does not get ready */
  static async start(
    directory: string,
    jobs: readonly ScrapeJob[],
    ruleFiles: readonly string[],
  ): Promise<Prometheus> {
    const configPath = join(directory, "prometheus.json");
    // JSON is YAML too.
    const config = {
      global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
      rule_files: ruleFiles,
      scrape_configs: jobs.map(({ job, targets }) => ({
        job_name: job,
        static_configs: [{ targets, labels: { cluster: "main" } }],
      })),
    };
    writeFileSync(configPath, JSON.stringify(config));
    const [port] = await findFreePorts({ host: "127.0.0.1", count: 1, random: systemRandom() });
    const prometheus = new Prometheus(port!, directory, configPath);
    try {
      await prometheus.#ready();
    } catch (error) {
      await prometheus.close();
      throw error;
    }
    return prometheus;
  }

  async #ready(): Promise<void> {
    const untilMs = performance.now() + READY_TIMEOUT_MS;
    while (performance.now() < untilMs && this.#child.exitCode === null) {
      try {
        if ((await fetch(`${this.url}/-/ready`)).status === 200) return;
      } catch {
        // It does not listen yet.
      }
      await sleep(POLL_MS);
    }
    throw new Error(`prometheus did not get ready:\n${this.#output}`);
  }

  readonly #kill = (): void => {
    this.#child.kill("SIGKILL");
  };

  async close(): Promise<void> {
    process.off("exit", this.#kill);
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once("close", resolve));
    this.#kill();
    await ended;
  }

  /** @throws Error with what Prometheus says of the query */
  async query(expr: string): Promise<readonly Sample[]> {
    const { result } = (await this.#get(`query?query=${encodeURIComponent(expr)}`)) as {
      readonly result: readonly Sample[];
    };
    return result;
  }

  /** Names of all families that targets have shown, also of those without a series. */
  async families(): Promise<ReadonlySet<string>> {
    return new Set(Object.keys((await this.#get("metadata")) as object));
  }

  async rules(): Promise<readonly PrometheusRule[]> {
    const { groups } = (await this.#get("rules")) as {
      readonly groups: readonly { readonly rules: readonly PrometheusRule[] }[];
    };
    return groups.flatMap(({ rules }) => rules);
  }

  /** `url: error` of the targets that are not up. */
  async broken(): Promise<readonly string[]> {
    type Target = {
      readonly scrapeUrl: string;
      readonly health: string;
      readonly lastError: string;
    };
    const { activeTargets } = (await this.#get("targets?state=active")) as {
      readonly activeTargets: readonly Target[];
    };
    return activeTargets
      .filter(({ health }) => health !== "up")
      .map(({ scrapeUrl, lastError }) => `${scrapeUrl}: ${lastError}`);
  }

  async #get(path: string): Promise<unknown> {
    const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    const answer = await fetch(`${this.url}/api/v1/${path}`, { signal });
    const body = (await answer.json()) as { readonly data?: unknown; readonly error?: string };
    if (answer.status !== 200) throw new Error(body.error ?? `HTTP ${answer.status}`);
    return body.data;
  }
}
