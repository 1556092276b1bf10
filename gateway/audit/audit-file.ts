/**
 * The file of the audit log: appended, rotated by size, and taken up again after a restart or a crash.
 *
 * A file that is full gets the number of its last line as an ending, padded so that names sort as numbers;
 * the oldest go when there are more than are to be kept. At the start the chain goes on from the last line
 * there is. A line that a crash has torn is put aside into a file of its own, and cut off: the chain then says so.
 *
 * Written at positions that are counted here, not appended by the system: what a failed write has left is
 * overwritten by the next try, and never becomes half a line in the middle.
 */
import { createHash } from "node:crypto";
import { constants, existsSync } from "node:fs";
import { type FileHandle, open, readdir, rename, stat, unlink, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { AUDIT_LINE_SIZE_BYTES_MAX } from "#shared/audit-limits.ts";
import { ConfigError } from "#shared/runtime/config.ts";
import { pathTrouble } from "#shared/runtime/directories.ts";
import { type FileLock, lockFile } from "#shared/runtime/file-lock.ts";
import { CHAIN_START, type ChainEnd, hashOf, placeOf } from "./entry.ts";

export type AuditFileOptions = {
  readonly path: string;
  /** A file that would become larger is rotated. */
  readonly sizeBytesMax: number;
  /** Rotated files that are kept. */
  readonly filesMax: number;
};

/** Bytes behind the last whole line. */
export type Torn = { readonly bytes: number; readonly sha256: string };

export type OpenedAuditFile = {
  readonly file: AuditFile;
  readonly end: ChainEnd;
  readonly torn: Torn | undefined;
  /** A new chain begins although a gateway has had a log here: its files were moved away or removed since. */
  readonly isAnew: boolean;
};

const READ_WRITE_CREATE = constants.O_RDWR | constants.O_CREAT;
const NUMBER_LENGTH = 12;
/** Tails are read in pieces that grow up to here; a last line that is longer is none. */
const TAIL_BYTES_MAX = 64 * AUDIT_LINE_SIZE_BYTES_MAX;

/** Rotated files, oldest first, with the number of the last line in each. */
export async function rotatedFiles(
  path: string,
): Promise<readonly { readonly path: string; readonly lastSeq: number }[]> {
  const start = `${basename(path)}.`;
  const names = await readdir(dirname(path)).catch(() => []);
  return names
    .filter((name) => name.startsWith(start) && /^\d{12,}$/.test(name.slice(start.length)))
    .map((name) => ({
      path: join(dirname(path), name),
      lastSeq: Number(name.slice(start.length)),
    }))
    .sort((a, b) => a.lastSeq - b.lastSeq);
}

/** @throws ConfigError when it cannot be used, is no audit log, or another gateway writes it */
export async function openAuditFile(options: AuditFileOptions): Promise<OpenedAuditFile> {
  const { path } = options;
  // Stays when a gateway ends, whatever becomes of the log.
  const hadLog = existsSync(`${path}.lock`);
  const lock = lockOf(path);
  try {
    const handle = await open(path, READ_WRITE_CREATE, 0o600);
    try {
      const tail = await tailOf(handle, path);
      const torn = tail.torn.length === 0 ? undefined : await putAside(path, tail.torn);
      if (torn !== undefined) await handle.truncate(tail.sizeBytes);
      const end = tail.line === undefined ? await endOfRotated(path) : endOf(tail.line, path);
      const file = new AuditFile(options, lock, handle, tail.sizeBytes);
      return { file, end, torn, isAnew: hadLog && end === CHAIN_START };
    } catch (error) {
      await handle.close();
      throw error;
    }
  } catch (cause) {
    lock.release();
    if (cause instanceof ConfigError) throw cause;
    throw new ConfigError(`--audit-file: cannot use ${path}: ${reasonOf(cause)}`, { cause });
  }
}

/** Two writers would fork the chain. */
function lockOf(path: string): FileLock {
  let lock: FileLock | undefined;
  try {
    lock = lockFile(`${path}.lock`);
  } catch (cause) {
    const reason = pathTrouble(cause, dirname(path));
    throw new ConfigError(`--audit-file: cannot lock ${path}.lock: ${reason}`, { cause });
  }
  if (lock !== undefined) return lock;
  throw new ConfigError(`--audit-file: ${path} is written by another gateway: give each its own`);
}

const reasonOf = (cause: unknown): string =>
  cause instanceof Error ? cause.message : String(cause);

type Tail = {
  /** The last whole line; undefined when there is none. */
  readonly line: string | undefined;
  /** What follows it. */
  readonly torn: Buffer;
  /** Up to the end of the last whole line. */
  readonly sizeBytes: number;
};

async function tailOf(handle: FileHandle, path: string): Promise<Tail> {
  const { size } = await handle.stat();
  for (let bytes = AUDIT_LINE_SIZE_BYTES_MAX; ; bytes *= 4) {
    const start = Math.max(0, size - bytes);
    const tail = await readAt(handle, start, size - start);
    const end = tail.lastIndexOf(0x0a);
    if (end < 0 && start === 0) return { line: undefined, torn: tail, sizeBytes: 0 };
    const before = end < 0 ? -1 : tail.lastIndexOf(0x0a, end - 1);
    if (end >= 0 && (before >= 0 || start === 0)) {
      const line = tail.toString("utf8", before + 1, end);
      return { line, torn: tail.subarray(end + 1), sizeBytes: start + end + 1 };
    }
    if (bytes > TAIL_BYTES_MAX) throw new ConfigError(notALog(path));
  }
}

async function readAt(handle: FileHandle, start: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await handle.read(bytes, filled, length - filled, start + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return bytes.subarray(0, filled);
}

function endOf(line: string, path: string): ChainEnd {
  const place = placeOf(line);
  if (place === undefined) throw new ConfigError(notALog(path));
  return { seq: place.seq, hash: hashOf(line) };
}

const notALog = (path: string): string =>
  `--audit-file: the end of ${path} is no line of an audit log. Look at it with ` +
  "`minikv audit verify`, and move it away to begin a new chain.";

/** A crash between a rotation and the first line of the new file leaves it empty. */
async function endOfRotated(path: string): Promise<ChainEnd> {
  const newest = (await rotatedFiles(path)).at(-1);
  if (newest === undefined) return CHAIN_START;
  const handle = await open(newest.path, "r");
  try {
    const { line } = await tailOf(handle, newest.path);
    return line === undefined ? CHAIN_START : endOf(line, newest.path);
  } finally {
    await handle.close();
  }
}

async function putAside(path: string, bytes: Buffer): Promise<Torn> {
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const aside = `${path}.torn-${sha256.slice(0, 16)}`;
  await writeFile(aside, bytes, { mode: 0o600 });
  return { bytes: bytes.length, sha256 };
}

function ifAbsent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
}

export class AuditFile {
  readonly #options: AuditFileOptions;
  readonly #lock: FileLock;
  /** Undefined between a rotation and the next file. */
  #handle: FileHandle | undefined;
  #sizeBytes: number;

  constructor(options: AuditFileOptions, lock: FileLock, handle: FileHandle, sizeBytes: number) {
    this.#options = options;
    this.#lock = lock;
    this.#handle = handle;
    this.#sizeBytes = sizeBytes;
  }

  /**
   * On disk when it resolves. After a failure nothing of `text` counts, and the same may be tried again.
   * Not to be called while a call runs.
   *
   * @param text whole lines, of which the first has the number `firstSeq`
   * @throws the system's error
   */
  async append(text: string, firstSeq: number): Promise<void> {
    const bytes = Buffer.from(text, "utf8");
    await this.#noticeMove();
    if (this.#sizeBytes > 0 && this.#sizeBytes + bytes.length > this.#options.sizeBytesMax) {
      await this.#rotate(firstSeq - 1);
    }
    this.#handle ??= await open(this.#options.path, READ_WRITE_CREATE, 0o600);
    let written = 0;
    while (written < bytes.length) {
      const { bytesWritten } = await this.#handle.write(
        bytes,
        written,
        bytes.length - written,
        this.#sizeBytes + written,
      );
      written += bytesWritten;
    }
    await this.#handle.datasync();
    this.#sizeBytes += bytes.length;
  }

  /**
   * Whoever moved the file away (logrotate does, and asks nobody) gets no more lines in it; the chain goes on
   * in a new one. One that is cut short instead is written on at its end, not behind a hole.
   */
  async #noticeMove(): Promise<void> {
    if (this.#handle === undefined) return;
    const [own, named] = await Promise.all([
      this.#handle.stat(),
      stat(this.#options.path).catch(ifAbsent),
    ]);
    if (named !== undefined && named.ino === own.ino && named.dev === own.dev) {
      this.#sizeBytes = Math.min(this.#sizeBytes, own.size);
      return;
    }
    // What a failed write has left behind the last line is no part of the log.
    if (own.size > this.#sizeBytes) await this.#handle.truncate(this.#sizeBytes);
    await this.#handle.close();
    this.#handle = undefined;
    // Something may have been put in its place, which is not to be written over.
    this.#sizeBytes = named?.size ?? 0;
  }

  async #rotate(lastSeq: number): Promise<void> {
    const { path, filesMax } = this.#options;
    const full = this.#handle;
    // What a failed write has left behind the last line is no part of the log.
    await full?.truncate(this.#sizeBytes);
    await rename(path, `${path}.${String(lastSeq).padStart(NUMBER_LENGTH, "0")}`);
    this.#handle = undefined;
    this.#sizeBytes = 0;
    await full?.close();
    const directory = await open(dirname(path), "r");
    await directory.sync().finally(() => directory.close());
    const rotated = await rotatedFiles(path);
    const surplus = rotated.slice(0, Math.max(0, rotated.length - filesMax));
    for (const old of surplus) await unlink(old.path);
  }

  async close(): Promise<void> {
    await this.#handle?.close();
    this.#handle = undefined;
    this.#lock.release();
  }
}

/** All files of a log that exist, oldest first, with the number of the last line of the rotated ones. */
export async function filesOf(
  path: string,
): Promise<readonly { readonly path: string; readonly lastSeq: number }[]> {
  const rotated = await rotatedFiles(path);
  const isThere = await stat(path).then(
    () => true,
    () => false,
  );
  return isThere ? [...rotated, { path, lastSeq: Number.MAX_SAFE_INTEGER }] : rotated;
}
