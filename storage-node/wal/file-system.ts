/**
 * What the write-ahead log needs of a file system, and nothing more.
 *
 * It is an interface so that tests and the simulator can put a disk underneath that fails, fills up
 * or forgets what was not synced, under the log code that production runs. Callbacks rather than
 * promises, because write and sync are called for every batch. All callbacks run asynchronously.
 */
import {
  close,
  constants,
  fdatasync,
  fstat,
  fsync,
  mkdir,
  type NoParamCallback,
  open,
  read,
  readdir,
  rename,
  statfs,
  unlink,
  write,
  writeSync,
} from "node:fs";
import { WAL_WRITE_INLINE_BYTES_MAX } from "#shared/limits.ts";

/** `code` is that of `errno(3)`: ENOSPC, EIO, … */
export type FileSystemError = Error & { readonly code?: string | undefined };
export type DoneCallback = (error: FileSystemError | null) => void;
export type CountCallback = (error: FileSystemError | null, count: number) => void;

export interface WalFile {
  /** Writes `buffer` at `position` and reports the bytes written, possibly fewer than given. */
  write(buffer: Uint8Array, position: number, done: CountCallback): void;
  /** Reads into `buffer` from `position`; fewer bytes than asked for only at the file's end. */
  read(buffer: Uint8Array, position: number, done: CountCallback): void;
  /** `fdatasync(2)`: data, and the metadata needed to read it back, are on disk. */
  datasync(done: DoneCallback): void;
  size(done: CountCallback): void;
  close(done: DoneCallback): void;
}

export interface WalFileSystem {
  /** `create` makes an empty file, replacing one of that name; `existing` opens to read and write. */
  open(
    path: string,
    mode: "create" | "existing",
    done: (error: FileSystemError | null, file: WalFile | undefined) => void,
  ): void;
  /** Names in a directory, in any order. */
  list(
    directory: string,
    done: (error: FileSystemError | null, names: readonly string[]) => void,
  ): void;
  /** Makes a directory and its parents; one that exists is no error. */
  makeDirectory(path: string, done: DoneCallback): void;
  /** Replaces `to` atomically. Durable only after `syncDirectory`. */
  rename(from: string, to: string, done: DoneCallback): void;
  /** Durable only after `syncDirectory`. */
  unlink(path: string, done: DoneCallback): void;
  /** Makes names created, renamed and removed in `directory` durable. */
  syncDirectory(directory: string, done: DoneCallback): void;
  /** Bytes that an ordinary user can still write to the file system that holds `directory`. */
  freeBytes(directory: string, done: CountCallback): void;
}

/** The operating system's files. */
export function nodeFileSystem(): WalFileSystem {
  return {
    open: (path, mode, done) => {
      open(path, mode === "create" ? "w+" : "r+", 0o600, (error, descriptor) => {
        if (error) done(error, undefined);
        else done(null, nodeFile(descriptor));
      });
    },
    list: (directory, done) => readdir(directory, (error, names) => done(error, names ?? [])),
    makeDirectory: (path, done) => {
      mkdir(path, { recursive: true, mode: 0o700 }, (error) => done(error));
    },
    rename,
    unlink,
    syncDirectory,
    freeBytes: (directory, done) => {
      statfs(directory, (error, stats) => done(error, error ? 0 : stats.bavail * stats.bsize));
    },
  };
}

function nodeFile(descriptor: number): WalFile {
  return {
    write: (buffer, position, done) => {
      if (buffer.length <= WAL_WRITE_INLINE_BYTES_MAX)
        writeInline(descriptor, buffer, position, done);
      else write(descriptor, buffer, 0, buffer.length, position, done);
    },
    read: (buffer, position, done) => readAll(descriptor, buffer, 0, position, done),
    datasync: (done) => fdatasync(descriptor, done),
    size: (done) => fstat(descriptor, (error, stats) => done(error, stats?.size ?? 0)),
    close: (done) => close(descriptor, done),
  };
}

/**
 * Writes on this thread. The segment's pages are in the page cache since they were preallocated, so
 * a small write is a copy of some kilobytes: it takes less than handing it to another thread and
 * being woken by that (measured: 7 % less processor time and 4 % more puts). The wait for the disk
 * is in `datasync`, on another thread.
 */
function writeInline(
  descriptor: number,
  buffer: Uint8Array,
  position: number,
  done: CountCallback,
): void {
  let count = 0;
  let failure: FileSystemError | null = null;
  try {
    count = writeSync(descriptor, buffer, 0, buffer.length, position);
  } catch (error) {
    failure = error as FileSystemError;
  }
  process.nextTick(done, failure, count);
}

/** `pread(2)` may stop early, so it is repeated until the buffer is full or the file ends. */
function readAll(
  descriptor: number,
  buffer: Uint8Array,
  offset: number,
  position: number,
  done: CountCallback,
): void {
  const length = buffer.length - offset;
  read(descriptor, buffer, offset, length, position + offset, (error, count) => {
    if (error) done(error, offset);
    else if (count === 0 || count === length) done(null, offset + count);
    else readAll(descriptor, buffer, offset + count, position, done);
  });
}

function syncDirectory(directory: string, done: NoParamCallback): void {
  // Windows cannot sync a directory; NTFS journals names by itself.
  if (process.platform === "win32") {
    process.nextTick(done, null);
    return;
  }
  open(directory, constants.O_RDONLY, (openError, descriptor) => {
    if (openError) {
      done(openError);
      return;
    }
    fsync(descriptor, (syncError) =>
      close(descriptor, (closeError) => done(syncError ?? closeError)),
    );
  });
}
