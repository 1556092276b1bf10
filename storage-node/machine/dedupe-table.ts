/**
 * A hash table from request ids (16 bytes) to numbers, each of which belongs to a bucket of time and
 * dies with it. Kept in typed arrays.
 *
 * A busy node holds some hundred thousand ids, each for seconds: as strings and map entries they
 * would survive the young generation, be moved to the old one, and be traced there again and again.
 * The memory of typed arrays lies outside the heap, and the garbage collector never looks into it.
 *
 * **Layout.** A slot is seven 32-bit words (the id, the number's low and high word, the bucket) and a
 * tag of one byte: 0 when the slot is free, else some bits of the id's hash. Nearly all look-ups are
 * for ids that are not there, by a group whose table is in no cache: one line of tags answers them.
 * For the same reason there is one table for all buckets. Collisions go to the next slots (linear
 * probing).
 *
 * **Dying.** A dead id is taken for absent from the moment its bucket is dropped, but keeps its slot
 * until living and dead ones fill five eighths of the table. Then the living move to a new table, the
 * smallest that they fill to three eighths at most. So the cost of an `add` is constant on average,
 * and no time is spent when a bucket is dropped. A table without living ids gives up its memory at
 * the next drop; an unused one has none.
 *
 * **Bounded probing.** Ids are random as a rule, but nothing enforces that, and whoever chooses them
 * can make them fall on one slot. So no id lies more than `PROBES_MAX` slots from its first one:
 * those that would are kept in a `Map`, whose hash has a secret seed. Crafted ids then cost about
 * what they would cost without this table. Where an id is kept never shows in an answer.
 */
import { assert } from "#shared/assert.ts";
import { latin1, readUint32, writeUint32 } from "#shared/bytes.ts";
import { REQUEST_ID_SIZE_BYTES } from "#shared/limits.ts";

/** Numbers of buckets are at most this. */
export const TABLE_BUCKET_MAX = 0xffff_ffff;

const SLOT_WORDS = 7;
const VALUE_LOW = 4;
const VALUE_HIGH = 5;
const BUCKET = 6;
const SLOTS_MIN_BITS = 3;
/** Of 192,000 random ids in tables as full as they get, none needed more. */
const PROBES_MAX = 64;

const NO_TAGS = new Uint8Array(0);
const NO_SLOTS = new Uint32Array(0);
/** The slot that is looked for, or to be placed. Filled anew by every call that uses it. */
const wanted = new Uint32Array(SLOT_WORDS);

export class DedupeTable {
  #tags = NO_TAGS;
  #slots = NO_SLOTS;
  /** There are 2 to the power of this many slots, or none at all. */
  #slotsBits = SLOTS_MIN_BITS;
  /** Ids added since the table was made, in slots and in `#crowded`: as many are there at most. */
  #count = 0;
  /** Slots that found no place within reach, by their ids as strings. */
  #crowded: Map<string, Uint32Array> | undefined;
  #bucketMin = 0;
  #bucketMax = 0;

  /** Number of living ids. Looks at every slot. */
  get size(): number {
    let size = 0;
    for (let slot = 0; slot < this.#tags.length; slot++) {
      if (this.#tags[slot] !== 0 && this.#lives(this.#slots, slot * SLOT_WORDS)) size++;
    }
    for (const slot of this.#crowded?.values() ?? []) if (this.#lives(slot, 0)) size++;
    return size;
  }

  /** Its memory: 29 bytes for each slot. */
  get slotsCount(): number {
    return this.#tags.length;
  }

  /** The number of an id of 16 bytes; undefined if there is none. */
  get(id: Uint8Array): number | undefined {
    if (this.#count === 0) return undefined;
    readId(id);
    const tags = this.#tags;
    const slots = this.#slots;
    const hash = hashOfWanted();
    const tag = tagOf(hash);
    const mask = tags.length - 1;
    const first = hash >>> (32 - this.#slotsBits);
    for (let probes = 0; probes < PROBES_MAX; probes++) {
      const slot = (first + probes) & mask;
      const found = tags[slot];
      if (found === 0) return undefined;
      if (found === tag && isWanted(slots, slot * SLOT_WORDS)) {
        return this.#valueAt(slots, slot * SLOT_WORDS);
      }
    }
    const crowded = this.#crowded?.get(latin1(id));
    return crowded === undefined ? undefined : this.#valueAt(crowded, 0);
  }

  /**
   * Adds an id of 16 bytes, of which no living one is in the table. `value` is a safe integer from
   * 0; `bucket` has not been dropped.
   */
  add(id: Uint8Array, value: number, bucket: number): void {
    assert(id.length === REQUEST_ID_SIZE_BYTES, "request ids have one size");
    assert(bucket >= this.#bucketMin && bucket <= TABLE_BUCKET_MAX, "nothing is added dead");
    if (this.#count * 8 >= this.#tags.length * 5) this.#rebuild();
    readId(id);
    wanted[VALUE_LOW] = value;
    wanted[VALUE_HIGH] = Math.floor(value / 2 ** 32);
    wanted[BUCKET] = bucket;
    this.#bucketMax = Math.max(this.#bucketMax, bucket);
    this.#placeWanted();
  }

  /** All ids of buckets before this one die. Never goes back. */
  dropBefore(bucket: number): void {
    this.#bucketMin = Math.max(this.#bucketMin, bucket);
    if (this.#bucketMax < this.#bucketMin) this.#clear(SLOTS_MIN_BITS, NO_TAGS, NO_SLOTS);
  }

  #lives(slots: Uint32Array, at: number): boolean {
    return slots[at + BUCKET]! >= this.#bucketMin;
  }

  #valueAt(slots: Uint32Array, at: number): number | undefined {
    if (!this.#lives(slots, at)) return undefined;
    return slots[at + VALUE_HIGH]! * 2 ** 32 + slots[at + VALUE_LOW]!;
  }

  #clear(slotsBits: number, tags: Uint8Array<ArrayBuffer>, slots: Uint32Array<ArrayBuffer>): void {
    this.#slotsBits = slotsBits;
    this.#tags = tags;
    this.#slots = slots;
    this.#count = 0;
    this.#crowded = undefined;
  }

  #rebuild(): void {
    const tags = this.#tags;
    const slots = this.#slots;
    const crowded = this.#crowded;
    let slotsBits = SLOTS_MIN_BITS;
    for (const living = this.size; living * 8 > 3 << slotsBits; ) slotsBits++;
    const slotsCount = 1 << slotsBits;
    this.#clear(slotsBits, new Uint8Array(slotsCount), new Uint32Array(slotsCount * SLOT_WORDS));
    for (let slot = 0; slot < tags.length; slot++) {
      if (tags[slot] !== 0) this.#move(slots, slot * SLOT_WORDS);
    }
    for (const slot of crowded?.values() ?? []) this.#move(slot, 0);
  }

  #move(slots: Uint32Array, at: number): void {
    if (!this.#lives(slots, at)) return;
    for (let word = 0; word < SLOT_WORDS; word++) wanted[word] = slots[at + word]!;
    this.#placeWanted();
  }

  #placeWanted(): void {
    this.#count++;
    const tags = this.#tags;
    const slots = this.#slots;
    const hash = hashOfWanted();
    const tag = tagOf(hash);
    const mask = tags.length - 1;
    const first = hash >>> (32 - this.#slotsBits);
    for (let probes = 0; probes < PROBES_MAX; probes++) {
      const slot = (first + probes) & mask;
      const at = slot * SLOT_WORDS;
      if (tags[slot] !== 0) {
        if (tags[slot] !== tag || !isWanted(slots, at)) continue;
        // An id may be used again when it is dead; its old slot is then found before any later one.
        assert(!this.#lives(slots, at), "a living id is added once");
      }
      for (let word = 0; word < SLOT_WORDS; word++) slots[at + word] = wanted[word]!;
      tags[slot] = tag;
      return;
    }
    this.#crowded ??= new Map();
    this.#crowded.set(nameOfWanted(), wanted.slice());
  }
}

function readId(id: Uint8Array): void {
  wanted[0] = readUint32(id, 0);
  wanted[1] = readUint32(id, 4);
  wanted[2] = readUint32(id, 8);
  wanted[3] = readUint32(id, 12);
}

function isWanted(slots: Uint32Array, at: number): boolean {
  return (
    slots[at] === wanted[0] &&
    slots[at + 1] === wanted[1] &&
    slots[at + 2] === wanted[2] &&
    slots[at + 3] === wanted[3]
  );
}

/**
 * All words take part, because ids that a client makes may be random in some of their bytes only.
 * The high bits, which depend on every bit of the words, choose the slot.
 */
function hashOfWanted(): number {
  return Math.imul(wanted[0]! ^ wanted[1]! ^ wanted[2]! ^ wanted[3]!, 0x9e37_79b1);
}

/** Never 0. Of other bits than those that choose the slot, in tables of up to 2^17 slots. */
function tagOf(hash: number): number {
  return ((hash >>> 8) & 0x7f) | 0x80;
}

function nameOfWanted(): string {
  const id = new Uint8Array(REQUEST_ID_SIZE_BYTES);
  for (let word = 0; word < VALUE_LOW; word++) writeUint32(id, 4 * word, wanted[word]!);
  return latin1(id);
}
