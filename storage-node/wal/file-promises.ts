/**
 * `WalFileSystem` for code that is not hot: opening, recovery, rotation, preparing segments.
 *
 * Whole transfers or an error: a short write or read rejects.
 */
import { KvError } from "#shared/errors.ts";
import type { FileSystemError, WalFile, WalFileSystem } from "./file-system.ts";

type Settle = (error: FileSystemError | null) => void;

function settled(start: (settle: Settle) => void): Promise<void> {
  return new Promise((resolve, reject) => start((error) => (error ? reject(error) : resolve())));
}

export function openFile(
  fs: WalFileSystem,
  path: string,
  mode: "create" | "existing",
): Promise<WalFile> {
  return new Promise((resolve, reject) => {
    fs.open(path, mode, (error, file) => (file ? resolve(file) : reject(error)));
  });
}

export function listDirectory(fs: WalFileSystem, path: string): Promise<readonly string[]> {
  return new Promise((resolve, reject) => {
    fs.list(path, (error, names) => (error ? reject(error) : resolve(names)));
  });
}

export const makeDirectory = (fs: WalFileSystem, path: string): Promise<void> =>
  settled((settle) => fs.makeDirectory(path, settle));

export const renameFile = (fs: WalFileSystem, from: string, to: string): Promise<void> =>
  settled((settle) => fs.rename(from, to, settle));

export const unlinkFile = (fs: WalFileSystem, path: string): Promise<void> =>
  settled((settle) => fs.unlink(path, settle));

export const syncDirectory = (fs: WalFileSystem, path: string): Promise<void> =>
  settled((settle) => fs.syncDirectory(path, settle));

export const datasync = (file: WalFile): Promise<void> =>
  settled((settle) => file.datasync(settle));

export const closeFile = (file: WalFile): Promise<void> => settled((settle) => file.close(settle));

export function fileSize(file: WalFile): Promise<number> {
  return new Promise((resolve, reject) => {
    file.size((error, sizeBytes) => (error ? reject(error) : resolve(sizeBytes)));
  });
}

export function freeBytes(fs: WalFileSystem, directory: string): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.freeBytes(directory, (error, bytes) => (error ? reject(error) : resolve(bytes)));
  });
}

export function writeFully(file: WalFile, bytes: Uint8Array, position: number): Promise<void> {
  return settled((settle) => {
    file.write(bytes, position, (error, count) => settle(error ?? shortWrite(count, bytes.length)));
  });
}

export function readFully(file: WalFile, bytes: Uint8Array, position: number): Promise<void> {
  return settled((settle) => {
    file.read(bytes, position, (error, count) => {
      settle(error ?? (count === bytes.length ? null : new Error(`read ${count} bytes only`)));
    });
  });
}

/** An error for a write that stopped early, which on a full disk is how the kernel says so. */
export function shortWrite(count: number, length: number): FileSystemError | null {
  return count === length ? null : outOfSpace(`wrote ${count} of ${length} bytes`);
}

/** The error that the operating system gives for a full disk. */
export function outOfSpace(message: string): FileSystemError {
  return Object.assign(new Error(`ENOSPC: ${message}`), { code: "ENOSPC" });
}

/** The disk, or the owner's quota, is full. */
export function isOutOfSpace(error: unknown): boolean {
  if (!(error instanceof Error) || !("code" in error)) return false;
  return error.code === "ENOSPC" || error.code === "EDQUOT";
}

/** What opening a log has failed with, for whoever starts the node. */
export function openFailure(directory: string, error: unknown): KvError {
  if (error instanceof KvError) return error;
  const full = isOutOfSpace(error);
  const remark = full ? "the disk is full, free some space: " : "";
  const detail = `cannot open the write-ahead log in ${directory}: ${remark}${error}`;
  return new KvError(full ? "STORAGE_FULL" : "UNAVAILABLE", detail, { cause: error });
}
