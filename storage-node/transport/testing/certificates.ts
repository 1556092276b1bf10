/**
 * Throwaway X.509 certificates: an authority, and what it signs. Node can read certificates but makes
 * none, so the few structures that are needed are written in DER here (RFC 5280).
 */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import type { TlsMaterial } from "#shared/runtime/grpc-credentials.ts";

const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectId: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  sequence: 0x30,
  set: 0x31,
  /** Of an address in a subject's alternative names. */
  ipAddress: 0x87,
  version: 0xa0,
  extensions: 0xa3,
} as const;

const ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2";
const COMMON_NAME = "2.5.4.3";
const KEY_USAGE = "2.5.29.15";
const ALTERNATIVE_NAME = "2.5.29.17";
const BASIC_CONSTRAINTS = "2.5.29.19";
const DAY_MS = 86_400_000;

function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), content]);
  return Buffer.concat([Buffer.from([tag, 0x82, length >>> 8, length & 0xff]), content]);
}

function objectId(text: string): Buffer {
  const [first, second, ...rest] = text.split(".").map(Number);
  const bytes = [40 * first! + second!];
  for (const number of rest) {
    const septets = [number & 0x7f];
    for (let left = number >>> 7; left > 0; left >>>= 7) septets.unshift((left & 0x7f) | 0x80);
    bytes.push(...septets);
  }
  return der(TAG.objectId, Buffer.from(bytes));
}

const sequence = (...parts: readonly Uint8Array[]): Buffer => der(TAG.sequence, ...parts);
const bits = (bytes: Uint8Array, unused = 0): Buffer =>
  der(TAG.bitString, Buffer.from([unused]), bytes);
const integer = (bytes: Uint8Array): Buffer => der(TAG.integer, bytes);
const algorithm = (): Buffer => sequence(objectId(ECDSA_WITH_SHA256));

const nameOf = (text: string): Buffer =>
  sequence(der(TAG.set, sequence(objectId(COMMON_NAME), der(TAG.utf8String, Buffer.from(text)))));

function time(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replaceAll(/\D/g, "").slice(2, 14);
  return der(TAG.utcTime, Buffer.from(`${digits}Z`));
}

function extension(id: string, value: Uint8Array, critical: boolean): Buffer {
  const flag = critical ? [der(TAG.boolean, Buffer.from([0xff]))] : [];
  return sequence(objectId(id), ...flag, der(TAG.octetString, value));
}

type Signer = { readonly name: string; readonly privateKey: KeyObject };
type Subject = { readonly name: string; readonly publicKey: KeyObject };

function certificate(issuer: Signer, subject: Subject, extensions: readonly Buffer[]): Buffer {
  const serial = Buffer.concat([Buffer.from([1]), randomBytes(8)]);
  const now = Date.now();
  const content = sequence(
    der(TAG.version, integer(Buffer.from([2]))),
    integer(serial),
    algorithm(),
    nameOf(issuer.name),
    sequence(time(now - DAY_MS), time(now + DAY_MS)),
    nameOf(subject.name),
    subject.publicKey.export({ type: "spki", format: "der" }),
    der(TAG.extensions, sequence(...extensions)),
  );
  const signature = sign("sha256", content, issuer.privateKey);
  const base64 = sequence(content, algorithm(), bits(signature)).toString("base64");
  const lines = base64.match(/.{1,64}/g)!.join("\n");
  return Buffer.from(`-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`);
}

const keyPair = () => generateKeyPairSync("ec", { namedCurve: "P-256" });

export type Authority = {
  readonly ca: Buffer;
  /** A certificate for the address, such as "127.0.0.1", with its key and the authority's own. */
  issue(address: string): TlsMaterial;
};

export function createAuthority(name: string): Authority {
  const own = keyPair();
  const issuer = { name, privateKey: own.privateKey };
  const isAuthority = sequence(der(TAG.boolean, Buffer.from([0xff])));
  // keyCertSign is bit 5.
  const maySign = bits(Buffer.from([0x04]), 2);
  const ca = certificate(issuer, { name, publicKey: own.publicKey }, [
    extension(BASIC_CONSTRAINTS, isAuthority, true),
    extension(KEY_USAGE, maySign, true),
  ]);
  return {
    ca,
    issue: (address) => {
      const pair = keyPair();
      const names = sequence(der(TAG.ipAddress, Buffer.from(address.split(".").map(Number))));
      const subject = { name: `node ${address}`, publicKey: pair.publicKey };
      const cert = certificate(issuer, subject, [extension(ALTERNATIVE_NAME, names, false)]);
      const key = Buffer.from(pair.privateKey.export({ type: "pkcs8", format: "pem" }));
      return { ca, cert, key };
    },
  };
}
