/** DER (ITU-T X.690), as much of it as a certificate needs. */
import { isIPv4 } from "node:net";

const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectId: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** A value under any tag; lengths take the fewest bytes, as DER asks. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const head =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : [tag, 0x82, length >>> 8, length & 0xff];
  if (length > 0xffff) throw new RangeError(`a DER value of ${length} bytes`);
  return Buffer.concat([Buffer.from(head), content]);
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => der(TAG.sequence, ...parts);
export const set = (...parts: readonly Uint8Array[]): Buffer => der(TAG.set, ...parts);
export const bits = (bytes: Uint8Array, unused = 0): Buffer =>
  der(TAG.bitString, Buffer.from([unused]), bytes);
export const octets = (bytes: Uint8Array): Buffer => der(TAG.octetString, bytes);
export const text = (value: string): Buffer => der(TAG.utf8String, Buffer.from(value));
export const yes = (): Buffer => der(TAG.boolean, Buffer.from([0xff]));
/** Positive: the first byte is from 0x01 to 0x7f, or the only one. */
export const integer = (bytes: Uint8Array): Buffer => der(TAG.integer, bytes);

export function objectId(id: string): Buffer {
  const [first, second, ...rest] = id.split(".").map(Number);
  const bytes = [40 * first! + second!];
  for (const number of rest) {
    const septets = [number & 0x7f];
    for (let left = number >>> 7; left > 0; left >>>= 7) septets.unshift((left & 0x7f) | 0x80);
    bytes.push(...septets);
  }
  return der(TAG.objectId, Buffer.from(bytes));
}

/** RFC 5280, 4.1.2.5: two digits of the year up to 2049, four from 2050. */
export function time(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replaceAll(/\D/g, "").slice(0, 14);
  return Number(digits.slice(0, 4)) < 2050
    ? der(TAG.utcTime, Buffer.from(`${digits.slice(2)}Z`))
    : der(TAG.generalizedTime, Buffer.from(`${digits}Z`));
}

/** The bytes of an IP address. */
export function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split(".").map(Number));
  // As the URL standard writes it: no dotted part, one `::` at most.
  const [head = "", tail = ""] = new URL(`http://[${address}]`).hostname.slice(1, -1).split("::");
  const groupsOf = (part: string) => (part === "" ? [] : part.split(":"));
  const first = groupsOf(head);
  const last = groupsOf(tail);
  const zeros = Array.from({ length: 8 - first.length - last.length }, () => "0");
  const groups = [...first, ...zeros, ...last].map((group) => Number.parseInt(group, 16));
  return Buffer.from(groups.flatMap((group) => [group >>> 8, group & 0xff]));
}
