/**
 * A disk in memory for tests and simulation: it knows what was synced and what was not.
 *
 * Every operation passes `intercept` first, which may fail it, cut a write short, end the world, or
 * make the disk lie: report a write as done, and even as synced, that never reached the medium.
 * `restarted` is the disk after a killed process: all that was written can be read, and what was not
 * synced still is not. `crash` is the disk after a power loss: what was synced, and of the rest
 * whatever `keep` says, sector by sector for data and change by change for names, in any combination.
 * Lies come to light when the page cache is gone: after `crash` or `evict`.
 */
import { dirname } from "node:path";
import type {
  CountCallback,
  DoneCallback,
  FileSystemError,
  WalFile,
  WalFileSystem,
} from "./file-system.ts";
import { Inode, type KeepSector, type Lie } from "./memory-inode.ts";

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

export type Verdict =
  | undefined
  /**
   * Fails with this error code, nothing done. With `effect` all or, of a write, half of it was done
   * nevertheless. With `marksClean` a failed `datasync` goes as in Linux: what was dirty counts as
   * clean from now on, can be read until the page cache lets go of it, and is on disk only where
   * that says so. Without, it stays dirty, and another `datasync` may succeed.
   */
  | {
      readonly kind: "fail";
      readonly code: string;
      readonly effect?: "half" | "all";
      readonly marksClean?: KeepSector;
    }
  /** A write stops half way. */
  | { readonly kind: "short" }
  /** No answer, and nothing done. */
  | { readonly kind: "lost" }
  /**
   * Lie: a write of which these sectors (default: all) never reach the medium; a `datasync` after
   * which nothing has; a `syncDirectory` after which the names are as before.
   */
  | { readonly kind: "unwritten"; readonly isLost?: () => boolean }
  /** Lie: a write whose bytes reach the medium there instead, in this file or another. */
  | { readonly kind: "misdirected"; readonly path: string; readonly position: number };

export type MemoryFileSystemOptions = {
  readonly intercept?: (operation: Operation) => Verdict;
  /** The disk is full: writes beyond a file's end fail with ENOSPC. */
  readonly isFull?: () => boolean;
  /** What `freeBytes` answers; default: plenty. It does not bound writes, `isFull` does. */
  readonly freeBytes?: () => number;
  /** Runs a callback later; default: on the microtask queue. */
  readonly defer?: (run: () => void) => void;
};

/** Names that appear or vanish together. */
type NameChange = {
  readonly linked: string | undefined;
  readonly inode: Inode | undefined;
  readonly unlinked: string | undefined;
};

export type Keep = {
  /** Whether a sector that was written and not synced has reached the disk. */
  readonly sector: KeepSector;
  /** Whether a name that was made, changed or removed, and not synced, has reached the disk. */
  readonly name: () => boolean;
};

/** A disk after a power loss, and what it would be if it had never lied. */
export type AfterPowerLoss = {
  readonly found: MemoryFileSystem;
  readonly honest: MemoryFileSystem;
};

export class MemoryFileSystem implements WalFileSystem {
  readonly #options: MemoryFileSystemOptions;
  readonly #names = new Map<string, Inode>();
  readonly #syncedNames = new Map<string, Inode>();
  /** As `#syncedNames`, but for what the disk has lied about. */
  readonly #mediumNames = new Map<string, Inode>();
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
        copy = new Inode(inode.path);
        copies.set(inode, copy);
        copy.copyFrom(inode, copyOf);
      }
      return copy;
    };
    for (const [path, inode] of this.#names) next.#names.set(path, copyOf(inode));
    for (const [path, inode] of this.#syncedNames) next.#syncedNames.set(path, copyOf(inode));
    for (const [path, inode] of this.#mediumNames) next.#mediumNames.set(path, copyOf(inode));
    next.#nameChanges = this.#nameChanges.map((change) => ({
      ...change,
      inode: change.inode && copyOf(change.inode),
    }));
    return next;
  }

  /** What is found after a power loss. */
  crash(keep: Keep, options: MemoryFileSystemOptions = {}): MemoryFileSystem {
    return this.losePower(keep, options).found;
  }

  /** As `crash`, and beside it the disk as it would be without lies. */
  losePower(keep: Keep, options: MemoryFileSystemOptions = {}): AfterPowerLoss {
    const last = this.restarted();
    for (const change of last.#nameChanges) {
      if (!keep.name()) continue;
      applyNameChange(last.#syncedNames, change);
      applyNameChange(last.#mediumNames, change);
    }
    const left = new Set([...last.#syncedNames.values(), ...last.#mediumNames.values()]);
    for (const inode of left) inode.clean(keep.sector);
    const found = new MemoryFileSystem(options);
    for (const [path, inode] of last.#mediumNames) found.put(path, inode.onMedium.slice());
    const honest = new MemoryFileSystem();
    for (const [path, inode] of last.#syncedNames) honest.put(path, inode.synced);
    return { found, honest };
  }

  /** As `restarted`, as if the disk had never lied. */
  restartedHonest(options: MemoryFileSystemOptions = {}): MemoryFileSystem {
    const next = this.restarted(options);
    for (const inode of next.#inodes()) inode.forgetLies();
    replaceNames(next.#mediumNames, next.#syncedNames);
    return next;
  }

  /**
   * The page cache lets go of what is clean: from now on it can be seen where the disk lied, and what
   * it did not write after a failed sync.
   */
  evict(): void {
    for (const inode of this.#inodes()) inode.evict();
    replaceNames(this.#syncedNames, this.#mediumNames);
    replaceNames(this.#names, this.#mediumNames);
    for (const change of this.#nameChanges) applyNameChange(this.#names, change);
  }

  #inodes(): Set<Inode> {
    const changed = this.#nameChanges
      .map(({ inode }) => inode)
      .filter((each) => each !== undefined);
    const maps = [this.#names, this.#syncedNames, this.#mediumNames];
    return new Set([...maps.flatMap((names) => [...names.values()]), ...changed]);
  }

  /** Flips bits of a byte at rest; to be seen after `crash` or `evict`. */
  flip(path: string, offset: number, mask: number): void {
    const inode = this.#mediumNames.get(path);
    if (inode === undefined) throw failure("ENOENT", path);
    inode.flip(offset, mask);
  }

  /** Puts a durable file there. Takes ownership of `content`. */
  put(path: string, content: Uint8Array): void {
    const inode = Inode.holding(path, content);
    this.#names.set(path, inode);
    this.#syncedNames.set(path, inode);
    this.#mediumNames.set(path, inode);
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

  /** Names on the medium. */
  get mediumPaths(): readonly string[] {
    return [...this.#mediumNames.keys()].sort();
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
        inode = new Inode(path);
        this.#changeName({ linked: path, inode, unlinked: undefined });
      }
      if (inode === undefined) return () => done(failure("ENOENT", path), undefined);
      const file = this.#file(inode);
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
      inode.path = to;
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
    this.#run({ kind: "syncDirectory", path }, (error, verdict) => {
      if (!error) {
        const isInside = ({ linked, unlinked }: NameChange): boolean =>
          dirname(linked ?? unlinked ?? "") === path;
        for (const change of this.#nameChanges.filter(isInside)) {
          applyNameChange(this.#syncedNames, change);
          if (verdict?.kind !== "unwritten") applyNameChange(this.#mediumNames, change);
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

  #file(inode: Inode): WalFile {
    return {
      write: (buffer, position, done) => this.#write(inode, buffer, position, done),
      read: (buffer, position, done) => {
        this.#run({ kind: "read", path: inode.path }, (error) => {
          const found = inode.content.subarray(position, position + buffer.length);
          if (!error) buffer.set(found);
          return () => done(error, error ? 0 : found.length);
        });
      },
      datasync: (done) => {
        this.#run({ kind: "datasync", path: inode.path }, (error, verdict) => {
          if (!error) {
            if (verdict?.kind === "unwritten") inode.lieAboutUnsynced(lieOf(verdict));
            inode.sync();
          } else if (verdict?.kind === "fail" && verdict.marksClean) {
            inode.clean(verdict.marksClean);
          }
          return () => done(error);
        });
      },
      size: (done) => {
        this.#run(
          { kind: "size", path: inode.path },
          (error) => () => done(error, inode.content.length),
        );
      },
      close: (done) => this.#run({ kind: "close", path: inode.path }, (error) => () => done(error)),
    };
  }

  #write(inode: Inode, buffer: Uint8Array, position: number, done: CountCallback): void {
    this.#run({ kind: "write", path: inode.path }, (error, verdict) => {
      if (error) return () => done(error, 0);
      const grows = position + buffer.length > inode.content.length;
      if (grows && this.#options.isFull?.()) return () => done(failure("ENOSPC", inode.path), 0);
      const isShort =
        verdict?.kind === "short" || (verdict?.kind === "fail" && verdict.effect === "half");
      const bytes = isShort ? buffer.slice(0, buffer.length >> 1) : Uint8Array.from(buffer);
      inode.write(bytes, position, this.#lieOf(verdict));
      return () => done(null, bytes.length);
    });
  }

  #lieOf(verdict: Verdict): Lie | undefined {
    if (verdict?.kind === "unwritten") return lieOf(verdict);
    if (verdict?.kind !== "misdirected") return undefined;
    const inode = this.#mediumNames.get(verdict.path) ?? this.#names.get(verdict.path);
    if (inode === undefined) throw failure("ENOENT", verdict.path);
    return { kind: "misdirected", inode, position: verdict.position };
  }

  /** Takes effect at once, and answers later: `act` returns the answer, and with an error does nothing. */
  #run(
    operation: Operation,
    act: (error: FileSystemError | null, verdict: Verdict) => () => void,
  ): void {
    const verdict = this.#options.intercept?.(operation);
    if (verdict?.kind === "lost") return;
    const error = verdict?.kind === "fail" ? failure(verdict.code, operation.path) : null;
    if (verdict?.kind === "fail" && verdict.effect !== undefined) act(null, verdict);
    const answer = act(error, verdict);
    (this.#options.defer ?? queueMicrotask)(answer);
  }
}

const lieOf = ({ isLost }: { readonly isLost?: () => boolean }): Lie => ({
  kind: "unwritten",
  isLost: isLost ?? (() => true),
});

function replaceNames(names: Map<string, Inode>, by: ReadonlyMap<string, Inode>): void {
  names.clear();
  for (const [path, inode] of by) names.set(path, inode);
}

function applyNameChange(names: Map<string, Inode>, change: NameChange): void {
  if (change.unlinked !== undefined) names.delete(change.unlinked);
  if (change.linked !== undefined && change.inode) names.set(change.linked, change.inode);
}

function failure(code: string, path: string): FileSystemError {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}
