/**
 * The lines of a file, split at newlines and nothing else. (`node:readline` also splits at other characters,
 * which may stand in a line of JSON.)
 */
import { createReadStream } from "node:fs";
import { AUDIT_LINE_SIZE_BYTES_MAX } from "#shared/audit-limits.ts";

export type FileLine = {
  /** Without its newline. */
  readonly line: string;
  /** False for what the file ends with, when that is no newline. */
  readonly isWhole: boolean;
};

/** A line that is longer is no line of an audit log, and comes in pieces of this size. */
const PIECE_BYTES_MAX = 4 * AUDIT_LINE_SIZE_BYTES_MAX;
const NEWLINE = 0x0a;

/** @throws the system's error */
export async function* linesOf(path: string): AsyncGenerator<FileLine> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(path)) {
    const bytes = rest.length === 0 ? (chunk as Buffer) : Buffer.concat([rest, chunk as Buffer]);
    let start = 0;
    for (;;) {
      const end = bytes.indexOf(NEWLINE, start);
      if (end < 0) break;
      yield { line: bytes.toString("utf8", start, end), isWhole: true };
      start = end + 1;
    }
    rest = bytes.subarray(start);
    while (rest.length > PIECE_BYTES_MAX) {
      yield { line: rest.toString("utf8", 0, PIECE_BYTES_MAX), isWhole: true };
      rest = rest.subarray(PIECE_BYTES_MAX);
    }
  }
  if (rest.length > 0) yield { line: rest.toString("utf8"), isWhole: false };
}
