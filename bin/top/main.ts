/**
 * `minikv top`: looks at gateways again and again and shows what nodes and gateways do.
 *
 * It goes on whatever becomes of the gateways; it ends when somebody wants it to, or when there is nobody
 * to show anything to.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { clientKey } from "#bin/client-key.ts";
import { EXIT_FAILURE, EXIT_USAGE } from "#shared/runtime/shutdown.ts";
import { HELP, parseTopOptions, type TopOptions } from "./options.ts";
import { pollAll } from "./poll.ts";
import { nextSort, screenOf } from "./screen.ts";
import type { Terminal } from "./terminal.ts";
import { nextState, type TopState, viewOf } from "./view.ts";

export type TopIo = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
  /** Undefined where the output is none. */
  readonly terminal: Terminal | undefined;
  /** Ends the endless forms. */
  readonly signal?: AbortSignal;
  /** Between two looks, whatever the options say: for tests. */
  readonly intervalMs?: number;
};

/** Where there is no terminal to say how wide it is. */
const COLUMNS_WITHOUT_TERMINAL = 240;
const CTRL_C = "\u0003";

/** @returns the exit code */
export async function runTopCli(argv: readonly string[], io: TopIo): Promise<number> {
  const parsed = parseTopOptions(argv, io.env);
  if (parsed.kind === "help") {
    io.out(HELP);
    return 0;
  }
  const wrong = (message: string): number => {
    io.error(`minikv top: ${message}\nSee minikv top --help.\n`);
    return EXIT_USAGE;
  };
  if (parsed.kind === "wrong") return wrong(parsed.message);
  const options = { ...parsed.options, intervalMs: io.intervalMs ?? parsed.options.intervalMs };
  let apiKey: string | undefined;
  try {
    apiKey = clientKey(io.env, options.apiKeyFile);
  } catch (error) {
    return wrong(error instanceof Error ? error.message : String(error));
  }
  const ending = new AbortController();
  io.signal?.addEventListener("abort", () => ending.abort());
  const looker = new Looker(options, apiKey, ending.signal);
  if (options.isOnce) return printOnce(looker, options, io);
  if (options.isJson) return printLines(looker, io);
  if (io.terminal === undefined) return wrong("there is no terminal: use --once or --json");
  return show(looker, options, io.terminal, ending);
}

class Looker {
  readonly #options: TopOptions;
  readonly #apiKey: string | undefined;
  readonly signal: AbortSignal;
  #state: TopState | undefined;

  constructor(options: TopOptions, apiKey: string | undefined, signal: AbortSignal) {
    this.#options = options;
    this.#apiKey = apiKey;
    this.signal = signal;
  }

  async look(): Promise<TopState> {
    const { urls, timeoutMs } = this.#options;
    const looks = await pollAll({ urls, timeoutMs, apiKey: this.#apiKey, signal: this.signal });
    this.#state = nextState(this.#state, looks, performance.now());
    return this.#state;
  }

  /** Until the next look is due, from when the last one began. */
  async pause(sinceMs: number): Promise<void> {
    const leftMs = sinceMs + this.#options.intervalMs - performance.now();
    // The only thing that interrupts it is the end.
    await sleep(Math.max(1, leftMs), undefined, { signal: this.signal }).catch(() => {});
  }
}

async function printOnce(looker: Looker, options: TopOptions, io: TopIo): Promise<number> {
  const startMs = performance.now();
  await looker.look();
  await looker.pause(startMs);
  const view = viewOf(await looker.look());
  if (options.isJson) io.out(`${JSON.stringify(view, null, 2)}\n`);
  else {
    const { sort, intervalMs } = options;
    const columns = io.terminal?.size.columns ?? COLUMNS_WITHOUT_TERMINAL;
    const lines = screenOf(view, { columns, rows: undefined, sort, intervalMs, time: timeOfDay() });
    io.out(lines.map(({ text }) => `${text}\n`).join(""));
  }
  return view.gateways.some(({ answering }) => answering) ? 0 : EXIT_FAILURE;
}

async function printLines(looker: Looker, io: TopIo): Promise<number> {
  while (!looker.signal.aborted) {
    const startMs = performance.now();
    const view = viewOf(await looker.look());
    if (!looker.signal.aborted) io.out(`${JSON.stringify(view)}\n`);
    await looker.pause(startMs);
  }
  return 0;
}

async function show(
  looker: Looker,
  options: TopOptions,
  terminal: Terminal,
  ending: AbortController,
): Promise<number> {
  let { sort } = options;
  let state: TopState | undefined;
  const draw = (): void => {
    if (state === undefined || ending.signal.aborted) return;
    const { intervalMs } = options;
    const screen = { ...terminal.size, sort, intervalMs, time: timeOfDay() };
    terminal.draw(screenOf(viewOf(state), screen));
  };
  terminal.open({
    onKey: (key) => {
      if (key === "q" || key === CTRL_C) ending.abort();
      if (key !== "s") return;
      sort = nextSort(sort);
      draw();
    },
    onResize: draw,
    onEnd: () => ending.abort(),
  });
  try {
    while (!ending.signal.aborted) {
      const startMs = performance.now();
      state = await looker.look();
      draw();
      await looker.pause(startMs);
    }
  } finally {
    terminal.close();
  }
  return 0;
}

const timeOfDay = (): string => new Date().toTimeString().slice(0, 8);
