/**
 * Checks the chain of an audit log: that no line was removed, changed, moved or put in.
 *
 * What a chain without a key can show: whoever changes a line must write anew every line behind it, so one
 * hash that is kept elsewhere (the anchor) holds everything before it. What it cannot show: that the last
 * lines were cut off, or that all lines from some place on were written anew, when nothing of it was kept
 * elsewhere. So a report names the hash of its last line: keep it, or ship lines away as they come.
 */
import { hashOf, isAnew, type LinePlace, NO_HASH, placeOf } from "./entry.ts";

/** Where something is wrong, and what. */
export type Flaw = {
  readonly file: string;
  /** In the file, from 1. */
  readonly line: number;
  readonly problem: string;
};

export type Verdict = {
  readonly flaws: readonly Flaw[];
  readonly lines: number;
  /** Undefined where there is no line. */
  readonly firstSeq: number | undefined;
  readonly lastSeq: number | undefined;
  readonly lastHash: string | undefined;
  /** Whether the first line is the first of its chain; otherwise what came before is not shown. */
  readonly fromStart: boolean;
  /** Its first line says that there was a log before it, which the gateway did not find. */
  readonly isAnew: boolean;
  /** Number of the line with the hash of the anchor; undefined when none has it. */
  readonly anchoredSeq: number | undefined;
};

export type VerifierOptions = {
  /** Flaws that are told; a chain that broke once may break often. */
  readonly flawsMax: number;
  /** The hash of a line that is known to have been there. */
  readonly anchor?: string | undefined;
};

type Previous = { readonly seq: number; readonly hash: string };

/** Lines are given in the order in which they were written, over all files. */
export class ChainVerifier {
  readonly #flaws: Flaw[] = [];
  readonly #options: VerifierOptions;
  #anchoredSeq: number | undefined;
  #previous: Previous | undefined;
  #lines = 0;
  #firstSeq: number | undefined;
  #fromStart = false;
  #isAnew = false;

  constructor(options: VerifierOptions) {
    this.#options = options;
  }

  /** One line without its newline. `isWhole` is false for one that has none at the end of its file. */
  add(file: string, line: number, text: string, isWhole = true): void {
    const flaw = (problem: string): void => {
      if (this.#flaws.length < this.#options.flawsMax) this.#flaws.push({ file, line, problem });
    };
    if (!isWhole) {
      flaw("is cut off: the writer was stopped in the middle of it, or it was truncated");
      return;
    }
    const place = placeOf(text);
    if (place === undefined) {
      flaw("is no line of an audit log");
      // What follows is compared with this line, whatever it is.
      this.#previous = { seq: (this.#previous?.seq ?? 0) + 1, hash: hashOf(text) };
      this.#lines++;
      return;
    }
    const problem = this.#problemOf(place);
    if (problem !== undefined) flaw(problem);
    if (this.#lines === 0) this.#begin(place, text);
    this.#lines++;
    const hash = hashOf(text);
    if (hash === this.#options.anchor) this.#anchoredSeq = place.seq;
    this.#previous = { seq: place.seq, hash };
  }

  #begin({ seq, prev }: LinePlace, text: string): void {
    this.#firstSeq = seq;
    this.#fromStart = seq === 1 && prev === NO_HASH;
    this.#isAnew = this.#fromStart && isAnew(text);
  }

  #problemOf({ seq, prev }: LinePlace): string | undefined {
    const previous = this.#previous;
    if (previous === undefined) return undefined;
    if (seq === 1 && prev === NO_HASH) {
      return (
        `begins a new chain behind number ${previous.seq}: nothing vouches for what lies between. A gateway begins one ` +
        "when the log was moved away or removed before it started; verify each chain by itself"
      );
    }
    const expected = previous.seq + 1;
    if (seq > expected) {
      const missing = seq - expected;
      const what = missing === 1 ? `line ${expected} is` : `lines ${expected} to ${seq - 1} are`;
      return `is number ${seq}, and ${what} missing before it`;
    }
    if (seq < expected) {
      return `is number ${seq} behind number ${previous.seq}: moved, repeated or put in`;
    }
    if (prev === previous.hash) return undefined;
    return `does not fit number ${previous.seq} before it: one of the two was changed`;
  }

  verdict(): Verdict {
    return {
      flaws: this.#flaws,
      lines: this.#lines,
      firstSeq: this.#firstSeq,
      lastSeq: this.#previous?.seq,
      lastHash: this.#previous?.hash,
      fromStart: this.#fromStart,
      isAnew: this.#isAnew,
      anchoredSeq: this.#anchoredSeq,
    };
  }
}
