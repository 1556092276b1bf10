/** Lists of numbers in messages: written packed, read packed or one by one. See `wire.ts`. */
import { type Reader, varintSize, type Writer } from "./wire.ts";

function packedContentSize(numbers: readonly number[]): number {
  let size = 0;
  for (const number of numbers) size += varintSize(number);
  return size;
}

export function packedFieldSize(numbers: readonly number[]): number {
  if (numbers.length === 0) return 0;
  const size = packedContentSize(numbers);
  return 1 + varintSize(size) + size;
}

export function writePacked(tag: number, numbers: readonly number[], writer: Writer): void {
  if (numbers.length === 0) return;
  writer.varint(tag);
  writer.varint(packedContentSize(numbers));
  for (const number of numbers) writer.varint(number);
}

export function readPacked(reader: Reader, target: number[]): void {
  const outerEnd = reader.enter();
  while (reader.more) readOne(reader, target);
  reader.leave(outerEnd);
}

export function readOne(reader: Reader, target: number[]): void {
  reader.countElement();
  target.push(reader.uint64());
}
