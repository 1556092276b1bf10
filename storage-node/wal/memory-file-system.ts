/**
 * A disk in memory for tests and simulation: it knows what was synced and what was not.
 *
 * Every operation passes `intercept` first, which may fail it, cut a write short, or end the world.
 * `restarted` is the disk after a killed process: all that was written can be read, and what was not
 * synced still is not. `crash` is the disk after a power loss: what was synced, and of the rest
 * whatever `keep` says, sector by sector for data and change by change for names, in any combination.
 */
import { dirname } from "node:path";
import type {
  CountCallback,
  DoneCallback,
  FileSystemError,
  WalFile,
  WalFileSystem,
} from "./file-system.ts";

export const SECTOR_SIZE_BYTES = 512;

export type OperationKind =
  | "open"
  | "write"
  | "read"
  | "datasync"
  | "size"
  | "close"
  | "list"
  | "makeDirectory"
  | "rename"
  | "unlink"
  | "syncDirectory"
  | "freeBytes";

export type Operation = { readonly kind: OperationKind; readonly path: string };

/** `fail`: with this error code, nothing done. `short`: a write stops half way. `lost`: no answer. */
export type Verdict =
  | undefined
  | { readonly kind: "fail"; readonly code: string }
  | { readonly kind: "short" }
  | { readonly kind: "lost" };

export type MemoryFileSystemOptions = {
  readonly intercept?: (operation: Operation) => Verdict;
  /** The disk is full: writes beyond a file's end fail with ENOSPC. */
  readonly isFull?: () => boolean;
  /** What `freeBytes` answers; default: plenty. It does not bound writes, `isFull` does. */
  readonly freeBytes?: () => number;
  /** Runs a callback later; default: on the microtask queue. */
  readonly defer?: (run: () => void) => void;
};

type UnsyncedWrite = { readonly position: number; readonly bytes: Uint8Array };
type Inode = { content: Uint8Array; synced: Uint8Array; unsynced: UnsyncedWrite[] };
/** Names that appear or vanish together. */
type NameChange = {
  readonly linked: string | undefined;
  readonly inode: Inode | undefined;
  readonly unlinked: string | undefined;
};

export type Keep = {
  /** Whether a sector that was written and not synced has reached the disk. */
  readonly sector: () => boolean;
  /** Whether a name that was made, changed or removed, and not synced, has reached the disk. */
  readonly name: () => boolean;
};

export class MemoryFileSystem implements WalFileSystem {
  readonly #options: MemoryFileSystemOptions;
  readonly #names = new Map<string, Inode>();
  readonly #syncedNames = new Map<string, Inode>();
  #nameChanges: NameChange[] = [];

  constructor(options: MemoryFileSystemOptions = {}) {
    this.#options = options;
  }

  /** What the next process finds when this one was killed. Shares nothing with this disk. */
  restarted(options: MemoryFileSystemOptions = {}): MemoryFileSystem {
    const next = new MemoryFileSystem(options);
    const copies = new Map<Inode, Inode>();
    const copyOf = (inode: Inode): Inode => {
      let copy = copies.get(inode);
      if (copy === undefined) {
        const { content, synced, unsynced } = inode;
        copy = { content: content.slice(), synced: synced.slice(), unsynced: [...unsynced] };
        copies.set(inode, copy);
      }
      return copy;
    };
    for (const [path, inode] of this.#names) next.#names.set(path, copyOf(inode));
    for (const [path, inode] of this.#syncedNames) next.#syncedNames.set(path, copyOf(inode));
    next.#nameChanges = this.#nameChanges.map((change) => ({
      ...change,
      inode: change.inode && copyOf(change.inode),
    }));
    return next;
  }

  /** What is found after a power loss. */
  crash(keep: Keep, options: MemoryFileSystemOptions = {}): MemoryFileSystem {
    const names = new Map(this.#syncedNames);
    for (const change of this.#nameChanges) {
      if (keep.name()) applyNameChange(names, change);
    }
    const next = new MemoryFileSystem(options);
    for (const [path, inode] of names) next.put(path, contentAfterCrash(inode, keep));
    return next;
  }

  /** Puts a durable file there. Takes ownership of `content`. */
  put(path: string, content: Uint8Array): void {
    const inode: Inode = { content, synced: content.slice(), unsynced: [] };
    this.#names.set(path, inode);
    this.#syncedNames.set(path, inode);
  }

  /** The file's bytes, live. */
  content(path: string): Uint8Array {
    const inode = this.#names.get(path);
    if (inode === undefined) throw failure("ENOENT", path);
    return inode.content;
  }

  get paths(): readonly string[] {
    return [...this.#names.keys()].sort();
  }

  open(
    path: string,
    mode: "create" | "existing",
    done: (error: FileSystemError | null, file: WalFile | undefined) => void,
  ): void {
    this.#run({ kind: "open", path }, (error) => {
      if (error) return () => done(error, undefined);
      let inode = this.#names.get(path);
      if (mode === "create") {
        inode = { content: new Uint8Array(0), synced: new Uint8Array(0), unsynced: [] };
        this.#changeName({ linked: path, inode, unlinked: undefined });
      }
      if (inode === undefined) return () => done(failure("ENOENT", path), undefined);
      const file = this.#file(path, inode);
      return () => done(null, file);
    });
  }

  list(
    directory: string,
    done: (error: FileSystemError | null, names: readonly string[]) => void,
  ): void {
    this.#run({ kind: "list", path: directory }, (error) => {
      const prefix = `${directory}/`;
      const inside = this.paths.filter((path) => path.startsWith(prefix));
      const names = inside.map((path) => path.slice(prefix.length));
      return () => done(error, error ? [] : names);
    });
  }

  makeDirectory(path: string, done: DoneCallback): void {
    this.#run({ kind: "makeDirectory", path }, (error) => () => done(error));
  }

  rename(from: string, to: string, done: DoneCallback): void {
    this.#run({ kind: "rename", path: to }, (error) => {
      const inode = this.#names.get(from);
      if (error || inode === undefined) return () => done(error ?? failure("ENOENT", from));
      this.#changeName({ linked: to, inode, unlinked: from });
      return () => done(null);
    });
  }

  unlink(path: string, done: DoneCallback): void {
    this.#run({ kind: "unlink", path }, (error) => {
      if (error || !this.#names.has(path)) return () => done(error ?? failure("ENOENT", path));
      this.#changeName({ linked: undefined, inode: undefined, unlinked: path });
      return () => done(null);
    });
  }

  syncDirectory(path: string, done: DoneCallback): void {
    this.#run({ kind: "syncDirectory", path }, (error) => {
      if (!error) {
        const isInside = ({ linked, unlinked }: NameChange): boolean =>
          dirname(linked ?? unlinked ?? "") === path;
        for (const change of this.#nameChanges.filter(isInside)) {
          applyNameChange(this.#syncedNames, change);
        }
        this.#nameChanges = this.#nameChanges.filter((change) => !isInside(change));
      }
      return () => done(error);
    });
  }

  freeBytes(path: string, done: CountCallback): void {
    this.#run({ kind: "freeBytes", path }, (error) => {
      const free = this.#options.freeBytes?.() ?? Number.MAX_SAFE_INTEGER;
      return () => done(error, error ? 0 : free);
    });
  }

  #changeName(change: NameChange): void {
    applyNameChange(this.#names, change);
    this.#nameChanges.push(change);
  }

  #file(path: string, inode: Inode): WalFile {
    return {
      write: (buffer, position, done) => this.#write(path, inode, buffer, position, done),
      read: (buffer, position, done) => {
        this.#run({ kind: "read", path }, (error) => {
          const found = inode.content.subarray(position, position + buffer.length);
          if (!error) buffer.set(found);
          return () => done(error, error ? 0 : found.length);
        });
      },
      datasync: (done) => {
        this.#run({ kind: "datasync", path }, (error) => {
          if (!error) {
            for (const { position, bytes } of inode.unsynced) {
              inode.synced = withBytes(inode.synced, bytes, position);
            }
            inode.unsynced = [];
          }
          return () => done(error);
        });
      },
      size: (done) => {
        this.#run({ kind: "size", path }, (error) => () => done(error, inode.content.length));
      },
      close: (done) => this.#run({ kind: "close", path }, (error) => () => done(error)),
    };
  }

  #write(
    path: string,
    inode: Inode,
    buffer: Uint8Array,
    position: number,
    done: CountCallback,
  ): void {
    this.#run({ kind: "write", path }, (error, isShort) => {
      if (error) return () => done(error, 0);
      const grows = position + buffer.length > inode.content.length;
      if (grows && this.#options.isFull?.()) return () => done(failure("ENOSPC", path), 0);
      const bytes = isShort ? buffer.slice(0, buffer.length >> 1) : Uint8Array.from(buffer);
      inode.content = withBytes(inode.content, bytes, position);
      inode.unsynced.push({ position, bytes });
      return () => done(null, bytes.length);
    });
  }

  /** Takes effect at once, and answers later: `act` returns the answer. */
  #run(
    operation: Operation,
    act: (error: FileSystemError | null, isShort: boolean) => () => void,
  ): void {
    const verdict = this.#options.intercept?.(operation);
    if (verdict?.kind === "lost") return;
    const error = verdict?.kind === "fail" ? failure(verdict.code, operation.path) : null;
    const answer = act(error, verdict?.kind === "short");
    (this.#options.defer ?? queueMicrotask)(answer);
  }
}

function applyNameChange(names: Map<string, Inode>, change: NameChange): void {
  if (change.unlinked !== undefined) names.delete(change.unlinked);
  if (change.linked !== undefined && change.inode) names.set(change.linked, change.inode);
}

function failure(code: string, path: string): FileSystemError {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}

function withBytes(content: Uint8Array, bytes: Uint8Array, position: number): Uint8Array {
  let target = content;
  const end = position + bytes.length;
  if (end > content.length) {
    target = new Uint8Array(end);
    target.set(content);
  }
  target.set(bytes, position);
  return target;
}

function contentAfterCrash(inode: Inode, keep: Keep): Uint8Array {
  let content: Uint8Array = inode.synced.slice();
  for (const { position, bytes } of inode.unsynced) {
    let start = position;
    const end = position + bytes.length;
    while (start < end) {
      const sectorEnd = Math.min(end, start - (start % SECTOR_SIZE_BYTES) + SECTOR_SIZE_BYTES);
      if (keep.sector()) {
        content = withBytes(content, bytes.subarray(start - position, sectorEnd - position), start);
      }
      start = sectorEnd;
    }
  }
  return content;
}
