/**
 * One file of the disk in memory, in up to three states: what a process reads, what is durable by
 * the rules, and what is on the medium, which differs from that only after the disk has lied.
 */

export const SECTOR_SIZE_BYTES = 512;

/**
 * How much of a sector, of which `sizeBytes` were written, has reached the disk: all, nothing, or
 * its first so many bytes.
 */
export type KeepSector = (sizeBytes: number) => boolean | number;

/** What a lying disk makes of a write that it reports as done, and even as synced. */
export type Lie =
  /** These sectors never reach the medium. */
  | { readonly kind: "unwritten"; readonly isLost: () => boolean }
  /** The bytes land there instead. */
  | { readonly kind: "misdirected"; readonly inode: Inode; readonly position: number };

export type UnsyncedWrite = {
  readonly position: number;
  readonly bytes: Uint8Array;
  readonly lie: Lie | undefined;
};

export class Inode {
  /** Where it was opened, or renamed to. */
  path: string;
  /** What is read: the page cache. */
  content: Uint8Array = new Uint8Array(0);
  /** What is durable if the disk keeps its word. */
  synced: Uint8Array = new Uint8Array(0);
  /** What is really there; undefined while it is what is durable. */
  medium: Uint8Array | undefined;
  unsynced: UnsyncedWrite[] = [];

  constructor(path: string) {
    this.path = path;
  }

  /** With `content` on disk. Takes ownership. */
  static holding(path: string, content: Uint8Array): Inode {
    const inode = new Inode(path);
    inode.content = content;
    inode.synced = content.slice();
    return inode;
  }

  get onMedium(): Uint8Array {
    return this.medium ?? this.synced;
  }

  /** Becomes as `other`, sharing nothing with it. Where writes are misdirected to tells `copyOf`. */
  copyFrom(other: Inode, copyOf: (inode: Inode) => Inode): void {
    this.content = other.content.slice();
    this.synced = other.synced.slice();
    this.medium = other.medium?.slice();
    this.unsynced = other.unsynced.map((write) => {
      if (write.lie?.kind !== "misdirected") return write;
      return { ...write, lie: { ...write.lie, inode: copyOf(write.lie.inode) } };
    });
  }

  write(bytes: Uint8Array, position: number, lie: Lie | undefined): void {
    this.content = withBytes(this.content, bytes, position);
    this.unsynced.push({ position, bytes, lie });
  }

  /** None of what is dirty will reach the medium. */
  lieAboutUnsynced(lie: Lie): void {
    this.unsynced = this.unsynced.map((write) => ({ ...write, lie }));
  }

  /** From here on, no written byte is dirty; of each sector `keep` says whether it is durable. */
  clean(keep: KeepSector): void {
    for (const write of this.unsynced) {
      const kept = keptParts(write, keep);
      const end = kept.at(-1)?.end;
      if (end === undefined) continue;
      if (write.lie !== undefined) this.medium ??= this.synced.slice();
      this.synced = withSize(this.synced, end);
      // A file's size is kept elsewhere than its data: it is as the system believes.
      if (this.medium !== undefined) this.medium = withSize(this.medium, end);
      for (const part of kept) this.#persist(write, part);
    }
    this.unsynced = [];
  }

  /** Everything dirty is durable now. */
  sync(): void {
    if (this.medium !== undefined || this.unsynced.some(({ lie }) => lie !== undefined)) {
      this.clean(() => true);
      return;
    }
    for (const { bytes, position } of this.unsynced) {
      this.synced = withBytes(this.synced, bytes, position);
    }
    this.unsynced = [];
  }

  #persist({ bytes, position, lie }: UnsyncedWrite, { start, end }: Part): void {
    const part = bytes.subarray(start - position, end - position);
    this.synced.set(part, start);
    if (this.medium === undefined) return;
    if (lie?.kind === "misdirected") {
      lie.inode.#overwriteMedium(part, lie.position + start - position);
    } else if (lie === undefined || !lie.isLost()) {
      this.medium.set(part, start);
    }
  }

  /** Never beyond the file's end: a disk knows blocks, not files. */
  #overwriteMedium(bytes: Uint8Array, position: number): void {
    this.medium ??= this.synced.slice();
    if (position >= this.medium.length) return;
    this.medium.set(bytes.subarray(0, this.medium.length - position), position);
  }

  /** Changes bits of one byte on the medium; seen once the page cache has let go of it. */
  flip(offset: number, mask: number): void {
    this.medium ??= this.synced.slice();
    this.medium[offset] = this.medium[offset]! ^ mask;
  }

  /**
   * The page cache lets go of what is clean: reads see the medium, and dirty bytes over it. What the
   * disk lied about so far is the truth from here on.
   */
  evict(): void {
    this.synced = this.onMedium;
    this.medium = undefined;
    this.content = this.synced.slice();
    for (const { bytes, position } of this.unsynced) {
      this.content = withBytes(this.content, bytes, position);
    }
  }

  /** As if the disk had kept its word. */
  forgetLies(): void {
    this.medium = undefined;
    this.unsynced = this.unsynced.map((write) => ({ ...write, lie: undefined }));
  }
}

/** Bytes of a file, inside of one sector. */
type Part = { readonly start: number; readonly end: number };

function keptParts({ position, bytes }: UnsyncedWrite, keep: KeepSector): Part[] {
  const parts: Part[] = [];
  const end = position + bytes.length;
  for (let start = position; start < end; ) {
    const sectorEnd = Math.min(end, start - (start % SECTOR_SIZE_BYTES) + SECTOR_SIZE_BYTES);
    const kept = keep(sectorEnd - start);
    const keptEnd = kept === true ? sectorEnd : start + Number(kept);
    if (keptEnd > start) parts.push({ start, end: keptEnd });
    start = sectorEnd;
  }
  return parts;
}

function withBytes(content: Uint8Array, bytes: Uint8Array, position: number): Uint8Array {
  const target = withSize(content, position + bytes.length);
  target.set(bytes, position);
  return target;
}

function withSize(content: Uint8Array, sizeBytes: number): Uint8Array {
  if (sizeBytes <= content.length) return content;
  const target = new Uint8Array(sizeBytes);
  target.set(content);
  return target;
}
