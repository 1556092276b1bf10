/**
 * Resume tokens: where in the change logs of its vshards a watch stands. Opaque to clients; good at any gateway
 * of the cluster. `docs/formats/resume-token.md` has the form:
 *
 *     version 1 | binding 8 | revisions | CRC-32 of the revisions 4
 *
 * in base64url. The binding is a hash of cluster, tenant and filter: revisions mean nothing elsewhere, and a watch
 * that went on from a foreign token would leave out events without a word. It is no signature. Who makes a token
 * up, skips or repeats events of his own watch, which he could do without it. The CRC finds one that was
 * cut or changed on its way.
 *
 * Every vector has exactly one form. The revisions of a filter that needs all vshards are taken relative to the least
 * one, in blocks of 16 with as many bits as the largest of a block needs: vshards grow alike, for keys are
 * hashed, so that few bits are left.
 *
 * Head and body end on multiples of three bytes where they meet: so the text of a body can be used by all
 * watches that stand at the same place.
 */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { malformed } from "#gateway/http/problem.ts";
import { equalBytes, readUint32, utf8, writeUint32 } from "#shared/bytes.ts";
import { type TenantId, VSHARD_COUNT } from "#shared/ids.ts";
import { RESUME_TOKEN_SIZE_MAX } from "#shared/limits.ts";
import type { WatchFilter } from "./watches.ts";

declare const brand: unique symbol;

/** Base64url of what the codec writes; checked when a watch is opened. */
export type ResumeToken = string & { readonly [brand]: "ResumeToken" };

const VERSION = 1;
const BINDING_SIZE_BYTES = 8;
const HEAD_SIZE_BYTES = 1 + BINDING_SIZE_BYTES;
const CRC_SIZE_BYTES = 4;
const VARINT_SIZE_BYTES_MAX = 8;
const BLOCK = 16;
const WIDTH_MAX = 53;
const PIECE_BITS = 16;
const BODY_SIZE_BYTES_MAX =
  VARINT_SIZE_BYTES_MAX +
  (VSHARD_COUNT / BLOCK) * (1 + (BLOCK * WIDTH_MAX) / 8) +
  CRC_SIZE_BYTES +
  BLOCK;
const BASE64URL = /^[A-Za-z0-9_-]+$/;

/** What tokens of a watch are bound to: the text with which they begin. */
export type TokenBinding = string & { readonly [brand]: "TokenBinding" };

export function tokenBinding(
  clusterId: string,
  tenant: TenantId,
  { filter }: { readonly filter: WatchFilter },
): TokenBinding {
  const cluster = utf8(clusterId);
  const hash = createHash("sha256");
  hash.update(utf8(`minikv watch ${VERSION} ${tenant} ${filter.kind} ${cluster.length} `));
  hash.update(cluster).update(filter.kind === "key" ? filter.key : filter.prefix);
  const head = Buffer.alloc(HEAD_SIZE_BYTES);
  head[0] = VERSION;
  hash.digest().copy(head, 1, 0, BINDING_SIZE_BYTES);
  return head.toString("base64url") as TokenBinding;
}

export const tokenOf = (binding: TokenBinding, body: string): ResumeToken =>
  (binding + body) as ResumeToken;

// Encoding is synchronous: one buffer serves all calls.
const scratch = Buffer.alloc(BODY_SIZE_BYTES_MAX);

/** The part of a token behind its binding. One revision, or those of all vshards. */
export function encodePosition(revisions: ArrayLike<number>): string {
  let end: number;
  if (revisions.length === 1) end = writeVarint(scratch, 0, revisions[0]!);
  else end = writeVector(scratch, revisions);
  writeUint32(scratch, end, crc32(scratch.subarray(0, end)));
  return scratch.toString("base64url", 0, end + CRC_SIZE_BYTES);
}

/**
 * The revisions of a token that was given out for this binding.
 *
 * @param count 1, or the number of all vshards
 * @throws RequestRefused INVALID_ARGUMENT
 */
export function decodeToken(token: string, binding: TokenBinding, count: number): Float64Array {
  if (token.length > RESUME_TOKEN_SIZE_MAX || !BASE64URL.test(token)) throw unknownToken();
  const bytes = Buffer.from(token, "base64url");
  if (bytes.toString("base64url") !== token) throw unknownToken();
  const bodyEnd = bytes.length - CRC_SIZE_BYTES;
  if (bodyEnd <= HEAD_SIZE_BYTES || bytes[0] !== VERSION) throw unknownToken();
  const body = bytes.subarray(HEAD_SIZE_BYTES, bodyEnd);
  if (crc32(body) !== readUint32(bytes, bodyEnd)) throw unknownToken();
  if (!equalBytes(bytes.subarray(0, HEAD_SIZE_BYTES), Buffer.from(binding, "base64url"))) {
    throw malformed(
      "the resume token belongs to another watch: prefix or key, tenant and cluster must be those of the " +
        "watch that it came from",
    );
  }
  const revisions = new Float64Array(count);
  const end = count === 1 ? readSingle(body, revisions) : readVector(body, revisions);
  if (end !== body.length) throw unknownToken();
  return revisions;
}

const unknownToken = () => malformed("the resume token is none that this server gave");

function writeVector(target: Uint8Array, revisions: ArrayLike<number>): number {
  let least = Number.MAX_SAFE_INTEGER;
  for (let i = 0; i < revisions.length; i++) least = Math.min(least, revisions[i]!);
  let offset = writeVarint(target, 0, least);
  for (let start = 0; start < revisions.length; start += BLOCK) {
    let largest = 0;
    for (let i = start; i < start + BLOCK; i++) largest = Math.max(largest, revisions[i]! - least);
    const width = bitsOf(largest);
    target[offset++] = width;
    let bits = 0;
    let bitCount = 0;
    for (let i = start; i < start + BLOCK; i++) {
      let left = width;
      const value = revisions[i]! - least;
      while (left > 0) {
        const piece = Math.min(left, PIECE_BITS);
        left -= piece;
        bits = (bits << piece) | (Math.floor(value / 2 ** left) % 2 ** piece);
        bitCount += piece;
        while (bitCount >= 8) {
          bitCount -= 8;
          target[offset++] = bits >>> bitCount;
        }
        bits &= 0xff;
      }
    }
  }
  return offset;
}

/** Refuses every form but the one that is written: least value, widths and varint are the smallest. */
function readVector(body: Uint8Array, revisions: Float64Array): number {
  const start = readVarint(body);
  let offset = start.end;
  let least = Number.MAX_SAFE_INTEGER;
  for (let block = 0; block < revisions.length; block += BLOCK) {
    const width = body[offset++] ?? WIDTH_MAX + 1;
    if (width > WIDTH_MAX || offset + width * 2 > body.length) throw unknownToken();
    let largest = 0;
    let bit = offset * 8;
    for (let i = block; i < block + BLOCK; i++, bit += width) {
      const value = readBits(body, bit, width);
      revisions[i] = value + start.value;
      largest = Math.max(largest, value);
      least = Math.min(least, value);
      if (value > Number.MAX_SAFE_INTEGER - start.value) throw unknownToken();
    }
    if (bitsOf(largest) !== width) throw unknownToken();
    offset += width * 2;
  }
  if (least !== 0) throw unknownToken();
  return offset;
}

function readBits(source: Uint8Array, bit: number, width: number): number {
  let value = 0;
  for (let at = bit; at < bit + width; ) {
    const inByte = at % 8;
    const taken = Math.min(8 - inByte, bit + width - at);
    const part = (source[at >>> 3]! >>> (8 - inByte - taken)) & (2 ** taken - 1);
    value = value * 2 ** taken + part;
    at += taken;
  }
  return value;
}

function readSingle(body: Uint8Array, revisions: Float64Array): number {
  const { value, end } = readVarint(body);
  revisions[0] = value;
  return end;
}

function writeVarint(target: Uint8Array, offset: number, value: number): number {
  let at = offset;
  let rest = value;
  while (rest >= 0x80) {
    target[at++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  target[at++] = rest;
  return at;
}

function readVarint(source: Uint8Array): { readonly value: number; readonly end: number } {
  let value = 0;
  for (let at = 0; at < VARINT_SIZE_BYTES_MAX; at++) {
    const byte = source[at];
    if (byte === undefined) break;
    value += (byte & 0x7f) * 2 ** (7 * at);
    if (byte >= 0x80) continue;
    if ((byte === 0 && at > 0) || value > Number.MAX_SAFE_INTEGER) break;
    return { value, end: at + 1 };
  }
  throw unknownToken();
}

function bitsOf(value: number): number {
  const high = Math.floor(value / 2 ** 32);
  return high > 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(value);
}

/** For tests, and for whoever has a vector and no cached text. */
export const encodeToken = (binding: TokenBinding, revisions: ArrayLike<number>): ResumeToken =>
  tokenOf(binding, encodePosition(revisions));
