/**
 * A terminal that shows one screen after the other, in place and without flicker, and gives it back as
 * it was.
 *
 * Each screen is one write: from the top, every line erased behind its end and nothing before, between
 * the marks of a synchronized update (terminals that do not know them ignore them). A terminal that takes
 * nothing is skipped, so that screens do not pile up.
 */
import type { ReadStream, WriteStream } from "node:tty";
import type { Line, Style } from "./screen.ts";

export type TerminalEvents = {
  readonly onKey: (key: string) => void;
  readonly onResize: () => void;
  /** It is gone, or somebody wants the program to end. */
  readonly onEnd: () => void;
};

export interface Terminal {
  readonly size: { readonly columns: number; readonly rows: number };
  open(events: TerminalEvents): void;
  draw(lines: readonly Line[]): void;
  close(): void;
}

const ESC = "\u001b[";
const ENTER = `${ESC}?1049h${ESC}?25l`;
const LEAVE = `${ESC}?25h${ESC}?1049l`;
const BEGIN = `${ESC}?2026h${ESC}H`;
const END = `${ESC}J${ESC}?2026l`;
const SGR: Readonly<Record<Style, string>> = { plain: "", title: `${ESC}1m`, bad: `${ESC}31m` };
const RESET = `${ESC}0m`;

/** What is written for a screen. */
export function frameOf(lines: readonly Line[], hasColors: boolean): string {
  const texts = lines.map(({ text, style }) => {
    const sgr = hasColors || style === "title" ? SGR[style] : "";
    return `${sgr}${text}${sgr === "" ? "" : RESET}${ESC}K`;
  });
  // No line break behind the last line: it would scroll a full screen.
  return `${BEGIN}${texts.join("\r\n")}${END}`;
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Of this process; undefined when it has none to draw on. Keys are taken where standard input is one too. */
export function systemTerminal(
  input: ReadStream,
  output: WriteStream,
  env: Readonly<Record<string, string | undefined>>,
): Terminal | undefined {
  return output.isTTY ? new SystemTerminal(input, output, !env.NO_COLOR) : undefined;
}

class SystemTerminal implements Terminal {
  readonly #input: ReadStream;
  readonly #output: WriteStream;
  readonly #hasColors: boolean;
  #close: () => void = () => {};

  constructor(input: ReadStream, output: WriteStream, hasColors: boolean) {
    this.#input = input;
    this.#output = output;
    this.#hasColors = hasColors;
  }

  get size() {
    return { columns: this.#output.columns || 80, rows: this.#output.rows || 24 };
  }

  open({ onKey, onResize, onEnd }: TerminalEvents): void {
    const input = this.#input;
    const output = this.#output;
    const keys = (data: Buffer) => {
      for (const key of data.toString("latin1")) onKey(key);
    };
    output.write(ENTER);
    output.on("resize", onResize);
    output.on("error", onEnd);
    for (const signal of SIGNALS) process.on(signal, onEnd);
    if (input.isTTY) {
      input.setRawMode(true);
      input.on("data", keys);
      input.on("end", onEnd);
      input.resume();
    }
    this.#close = () => {
      output.off("resize", onResize);
      for (const signal of SIGNALS) process.off(signal, onEnd);
      if (input.isTTY) {
        input.off("data", keys);
        input.off("end", onEnd);
        input.setRawMode(false);
        input.pause();
      }
      output.write(LEAVE);
    };
  }

  draw(lines: readonly Line[]): void {
    if (this.#output.writableNeedDrain) return;
    this.#output.write(frameOf(lines, this.#hasColors));
  }

  close(): void {
    this.#close();
    this.#close = () => {};
  }
}
