/** What requests about API keys ask for. Parsed strictly, before anything is done. */
import { ROLES, type Role } from "#gateway/auth/caller.ts";
import { isNetwork } from "#gateway/auth/networks.ts";
import { malformed } from "#gateway/http/problem.ts";
import { utf8 } from "#shared/bytes.ts";
import {
  KEY_LIFETIME_MS_MAX,
  KEY_NAME_LENGTH_MAX,
  KEY_NETWORKS_MAX,
  KEY_OVERLAP_MS_DEFAULT,
  KEY_OVERLAP_MS_MAX,
  KEY_PREFIXES_MAX,
  KEY_SIZE_BYTES_MAX,
  KEYS_PAGE_DEFAULT,
  KEYS_PAGE_MAX,
} from "#shared/limits.ts";

type Body = Readonly<Record<string, unknown>>;

export const CREATE_MEMBERS = [
  "tenant",
  "role",
  "name",
  "expires_in",
  "prefixes",
  "prefixes64",
  "networks",
] as const;

export type CreateRequest = {
  /** By name; undefined for the caller's own. */
  readonly tenant: string | undefined;
  readonly role: Role;
  readonly name: string;
  /** 0 for never. */
  readonly lifetimeMs: number;
  readonly prefixes: readonly Uint8Array[];
  readonly networks: readonly string[];
};

const DURATION = /^([0-9]{1,8})([smhd])$/;
const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
/** Shown in lists and logs: no control characters. */
const NAME = /^[^\p{C}]*$/u;
const BASE64URL = /^[A-Za-z0-9_-]+={0,2}$/;
const NUMBER = /^[0-9]{1,4}$/;

/** @throws RequestRefused INVALID_ARGUMENT */
export function parseCreate(body: Body): CreateRequest {
  const role = roleOf(body.role);
  const prefixes = [
    ...textsOf(body.prefixes, "prefixes", KEY_PREFIXES_MAX).map(utf8),
    ...textsOf(body.prefixes64, "prefixes64", KEY_PREFIXES_MAX).map(bytesOf),
  ];
  if (prefixes.length > KEY_PREFIXES_MAX) {
    throw malformed(`a key has at most ${KEY_PREFIXES_MAX} prefixes`);
  }
  if (prefixes.some(({ length }) => length === 0 || length > KEY_SIZE_BYTES_MAX)) {
    throw malformed(`a prefix has 1 to ${KEY_SIZE_BYTES_MAX} bytes`);
  }
  // Who manages keys could make itself one without prefixes.
  if (prefixes.length > 0 && role !== "ReadOnly" && role !== "ReadWrite") {
    throw malformed("only keys of the roles ReadOnly and ReadWrite can be confined to prefixes");
  }
  const networks = textsOf(body.networks, "networks", KEY_NETWORKS_MAX);
  const wrong = networks.find((network) => !isNetwork(network));
  if (wrong !== undefined) throw malformed("networks are addresses or CIDR, such as 10.0.0.0/8");
  return {
    tenant: body.tenant === undefined ? undefined : textOf(body.tenant, "tenant"),
    role,
    name: body.name === undefined ? "" : textOf(body.name, "name"),
    lifetimeMs:
      body.expires_in === undefined || body.expires_in === null
        ? 0
        : durationOf(body.expires_in, "expires_in", 1, KEY_LIFETIME_MS_MAX),
    prefixes,
    networks,
  };
}

/** How long the old secret still works. @throws RequestRefused INVALID_ARGUMENT */
export const parseOverlapMs = (body: Body): number =>
  body.overlap === undefined
    ? KEY_OVERLAP_MS_DEFAULT
    : durationOf(body.overlap, "overlap", 0, KEY_OVERLAP_MS_MAX);

/** @throws RequestRefused INVALID_ARGUMENT */
export function parsePageLimit(text: string | undefined): number {
  if (text === undefined) return KEYS_PAGE_DEFAULT;
  const limit = NUMBER.test(text) ? Number(text) : 0;
  if (limit >= 1 && limit <= KEYS_PAGE_MAX) return limit;
  throw malformed(`limit must be an integer from 1 to ${KEYS_PAGE_MAX}`);
}

function roleOf(value: unknown): Role {
  const role = ROLES.find((known) => known === value);
  if (role !== undefined) return role;
  throw malformed(`role must be one of ${ROLES.join(", ")}`);
}

function textOf(value: unknown, what: string): string {
  if (typeof value === "string" && value.length <= KEY_NAME_LENGTH_MAX && NAME.test(value)) {
    return value;
  }
  throw malformed(
    `${what} must be text of at most ${KEY_NAME_LENGTH_MAX} characters, none of them for control`,
  );
}

function textsOf(value: unknown, what: string, countMax: number): readonly string[] {
  if (value === undefined) return [];
  if (Array.isArray(value) && value.length <= countMax) {
    if (value.every((item): item is string => typeof item === "string")) return value;
  }
  throw malformed(`${what} must be a list of at most ${countMax} texts`);
}

function bytesOf(text: string): Uint8Array {
  if (BASE64URL.test(text)) return new Uint8Array(Buffer.from(text, "base64url"));
  throw malformed("prefixes64 must be base64url");
}

function durationOf(value: unknown, what: string, minMs: number, maxMs: number): number {
  const match = typeof value === "string" ? DURATION.exec(value) : null;
  const durationMs =
    match === null ? Number.NaN : Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS];
  if (durationMs >= minMs && durationMs <= maxMs) return durationMs;
  throw malformed(
    `${what} must be an integer with one of the units s, m, h, d, at most ${maxMs / UNIT_MS.d}d`,
  );
}
