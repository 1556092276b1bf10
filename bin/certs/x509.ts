/**
 * X.509 certificates for development and tests: an authority, and what it signs (RFC 5280).
 *
 * Node reads certificates but makes none. What is needed of DER is a page of code; the libraries for it
 * bring a dozen packages, for the one part of the program that writes private keys.
 */
import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { isIP } from "node:net";
import {
  addressBytes,
  bits,
  der,
  integer,
  objectId,
  octets,
  sequence,
  set,
  text,
  time,
  yes,
} from "./der.ts";

/** Context-specific tags of the fields that use them. */
const TAG = { version: 0xa0, extensions: 0xa3, keyId: 0x80, dnsName: 0x82, address: 0x87 } as const;

const ID = {
  ecdsaWithSha256: "1.2.840.10045.4.3.2",
  commonName: "2.5.4.3",
  subjectKeyId: "2.5.29.14",
  keyUsage: "2.5.29.15",
  alternativeName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  authorityKeyId: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
} as const;

const DAY_MS = 86_400_000;

/** PEM. */
export type Issued = { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer };

export type Validity = { readonly fromMs: number; readonly toMs: number };

export type Authority = {
  /** Its certificate. */
  readonly ca: Buffer;
  /** Its private key, PEM. */
  readonly key: Buffer;
  /** A certificate for a server or a client under these DNS names and IP addresses, with its key. */
  issue(name: string, hosts: readonly string[], validity?: Validity): Issued;
};

/** Clocks of other machines may be behind. */
export const validForDays = (days: number): Validity => ({
  fromMs: Date.now() - DAY_MS / 24,
  toMs: Date.now() + days * DAY_MS,
});

export function createAuthority(name: string, validity = validForDays(1)): Authority {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const issuer = { name, privateKey, publicKey };
  // keyCertSign and cRLSign are bits 5 and 6. It may sign certificates of no further authority.
  const ca = certificate(issuer, { name, publicKey }, validity, [
    extension(ID.basicConstraints, sequence(yes(), integer(Buffer.from([0]))), true),
    extension(ID.keyUsage, bits(Buffer.from([0x06]), 1), true),
    extension(ID.subjectKeyId, octets(keyId(publicKey))),
  ]);
  return {
    ca,
    key: pem(privateKey),
    issue: (subject, hosts, term = validForDays(1)) => {
      const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
      const cert = certificate(issuer, { name: subject, publicKey: pair.publicKey }, term, [
        extension(ID.basicConstraints, sequence(), true),
        // digitalSignature is bit 0.
        extension(ID.keyUsage, bits(Buffer.from([0x80]), 7), true),
        extension(ID.extendedKeyUsage, sequence(objectId(ID.serverAuth), objectId(ID.clientAuth))),
        extension(ID.subjectKeyId, octets(keyId(pair.publicKey))),
        extension(ID.authorityKeyId, sequence(der(TAG.keyId, keyId(publicKey)))),
        extension(ID.alternativeName, sequence(...hosts.map(hostName))),
      ]);
      return { ca, cert, key: pem(pair.privateKey) };
    },
  };
}

const hostName = (host: string): Buffer =>
  isIP(host) === 0
    ? der(TAG.dnsName, Buffer.from(host, "latin1"))
    : der(TAG.address, addressBytes(host));

const pem = (key: KeyObject): Buffer =>
  Buffer.from(key.export({ type: "pkcs8", format: "pem" }) as string);

const spki = (key: KeyObject): Buffer => key.export({ type: "spki", format: "der" });

/** RFC 7093: of the key as a whole; any value that is unique does. */
const keyId = (key: KeyObject): Buffer =>
  createHash("sha256").update(spki(key)).digest().subarray(0, 20);

const algorithm = (): Buffer => sequence(objectId(ID.ecdsaWithSha256));

const nameOf = (name: string): Buffer =>
  sequence(set(sequence(objectId(ID.commonName), text(name))));

const extension = (id: string, value: Uint8Array, critical = false): Buffer =>
  sequence(objectId(id), ...(critical ? [yes()] : []), octets(value));

function certificate(
  issuer: { readonly name: string; readonly privateKey: KeyObject },
  subject: { readonly name: string; readonly publicKey: KeyObject },
  { fromMs, toMs }: Validity,
  extensions: readonly Buffer[],
): Buffer {
  const serial = Buffer.concat([Buffer.from([1]), randomBytes(15)]);
  const content = sequence(
    der(TAG.version, integer(Buffer.from([2]))),
    integer(serial),
    algorithm(),
    nameOf(issuer.name),
    sequence(time(fromMs), time(toMs)),
    nameOf(subject.name),
    spki(subject.publicKey),
    der(TAG.extensions, sequence(...extensions)),
  );
  const signature = sign("sha256", content, issuer.privateKey);
  const base64 = sequence(content, algorithm(), bits(signature)).toString("base64");
  const lines = base64.match(/.{1,64}/g)!.join("\n");
  return Buffer.from(`-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`);
}
