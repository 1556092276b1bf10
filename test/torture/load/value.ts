/**
 * Values that can be told whole from damaged: an id, and filler that follows from it. Histories hold ids
 * alone.
 */
const FILLER = "0123456789abcdefghijklmnopqrstuvwxyz";
const SHOWN_MAX = 60;

/** @param id names the size as well, so that it says all: letters, digits, dashes and dots. */
export function makeValue(id: string): string {
  const sizeBytes = Number(id.slice(id.lastIndexOf(".") + 1));
  const head = `${id}~`;
  const turns = Math.max(0, Math.ceil((sizeBytes - head.length) / FILLER.length));
  return (head + FILLER.repeat(turns)).slice(0, Math.max(head.length, sizeBytes));
}

/** A name that is unique if `name` is. */
export const valueId = (name: string, sizeBytes: number): string => `${name}.${sizeBytes}`;

/** The id of a value as it was read; what is no whole value becomes an id that nobody has written. */
export function readValue(text: string): string {
  const id = text.slice(0, Math.max(0, text.indexOf("~")));
  return id !== "" && makeValue(id) === text ? id : `damaged:${text.slice(0, SHOWN_MAX)}`;
}
